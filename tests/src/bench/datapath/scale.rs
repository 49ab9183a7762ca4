//! Whether a packet costs more on a host that knows much: ports, networks, tunnel endpoints, addresses.

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use overlane_abi::{Address, FdbEntry, FdbKey, Neighbor, NeighborKey, Network, NetworkKey, Port, Vtep, limits, names};
use overlane_tests::lab::{HOSTS, Host, World};

use super::Effort;
use crate::{
    figures::Figures,
    hosts::{Hosts, Ports},
    path::{Load, Path},
    turns,
};

/// Entries of each map; a map that has less room is filled but for what the hosts themselves need.
const SIZES: [(u32, &str, &str); 3] =
    [(10, "scale_10", "scale-10-"), (1_000, "scale_1000", "scale-1000-"), (100_000, "scale_100000", "scale-100000-")];
/// What is left of the capacity of a map.
const SPARE: u32 = 64;
/// Indices of networks and interfaces that no host has.
const FAR: u32 = 1 << 24;

pub(crate) fn measure(figures: &mut Figures, world: &World, effort: Effort) -> Result<()> {
    let mut sizes = Vec::new();
    for (size, name, prefix) in SIZES {
        let mut hosts = Hosts::with_overlane(world.part(prefix)?, "")?;
        // It would take away what it knows nothing of. Forwarding goes on without it.
        for agent in hosts.pair.agents.drain(..) {
            agent.stop(Signal::SIGTERM)?;
        }
        for (host, _) in HOSTS {
            fill(hosts.pair.host(host), size).with_context(|| format!("filling maps for {name}"))?;
        }
        sizes.push((name, hosts));
    }
    let mut paths = Vec::new();
    for (name, hosts) in &sizes {
        paths.push(((*name).to_owned(), Path::new(hosts, Ports::Few, Load::SMALL)?));
    }
    let rates = turns::rates(effort.turns(), &mut paths)?;
    rates.note(figures, ("Mpps", 1e6), &[]);
    figures.add("scale_1000_vs_10", "x", rates.ratio(SIZES[1].1, SIZES[0].1));
    figures.add("scale_100000_vs_10", "x", rates.ratio(SIZES[2].1, SIZES[0].1));
    Ok(())
}

fn fill(host: &Host, size: u32) -> Result<()> {
    let up_to = |capacity: usize| 0..size.min(capacity as u32 - SPARE);
    let mac = |number: u32| {
        let [_, high, middle, low] = number.to_be_bytes();
        [0xfa, 0x16, 0x3f, high, middle, low]
    };
    let address = |number: u32| {
        let [_, high, middle, low] = number.to_be_bytes();
        Address::from_v4([172, 16 + high, middle, low])
    };
    let mut ports = host.map::<u32, Port>(names::PORTS)?;
    for number in up_to(limits::PORTS_MAX) {
        let port = Port {
            network: FAR + number,
            vni: 0,
            mac: mac(number),
            flags: Port::RESPONDER,
            policy: 0,
            revision: 0,
            mtu: 1450,
        };
        ports.insert(FAR + number, port, 0)?;
    }
    let mut networks = host.map::<NetworkKey, Network>(names::NETWORKS)?;
    for number in up_to(limits::NETWORKS_MAX) {
        let network = Network { index: FAR + number, vni: 0, flags: 0 };
        networks.insert(NetworkKey::interface(FAR + number), network, 0)?;
    }
    let mut vteps = host.map::<Address, Vtep>(names::VTEPS)?;
    let vtep = Vtep { ifindex: 0, mtu: 0, header_len: 0, flags: 0, pad: 0, header: [0; 72] };
    for number in up_to(limits::VTEPS_MAX) {
        vteps.insert(address(number), vtep, 0)?;
    }
    let mut fdb = host.map::<FdbKey, FdbEntry>(names::FDB)?;
    let mut neighbors = host.map::<NeighborKey, Neighbor>(names::NEIGHBORS)?;
    for number in up_to(limits::FDB_MAX.min(limits::NEIGHBORS_MAX)) {
        let (network, vtep) = (FAR + number % 1000, address(number % 1000));
        fdb.insert(FdbKey::new(network, mac(number)), FdbEntry::remote(vtep), 0)?;
        let key = NeighborKey { network, address: address(number) };
        neighbors.insert(key, Neighbor { mac: mac(number), flags: 0 }, 0)?;
    }
    Ok(())
}
