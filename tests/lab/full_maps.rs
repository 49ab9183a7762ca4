//! A map without room: the kernel lane carries what has no entry, and the log says so.

use anyhow::{Context as _, Result, ensure};
use aya::{Pod, maps::MapError};
use nix::{libc::E2BIG, sys::signal::Signal};
use overlane_abi::{Address, HEADER_MAX, Port, Vtep, names};
use overlane_tests::{
    lab::{Lanes, Pair, Stream, UPLINK, nothing_to_do},
    wait::wait_until,
};

/// Takes everything out of a pinned map, and fills it with what nobody needs, up to the brim.
fn fill<K: Pod, V: Pod>(pair: &Pair, name: &str, entry: impl Fn(u32) -> (K, V)) -> Result<()> {
    let mut map = pair.host("left").map::<K, V>(name)?;
    for key in map.keys().collect::<Result<Vec<K>, _>>()? {
        map.remove(&key)?;
    }
    let full = (1..).map(entry).find_map(|(key, value)| map.insert(key, value, 0).err()).context("an error")?;
    ensure!(matches!(&full, MapError::SyscallError(error) if error.io_error.raw_os_error() == Some(E2BIG)), "{full:?}");
    Ok(())
}

/// Starts the left agent on a full map under traffic that the kernel lane carries.
fn start_on_full(name: &str, fill: impl Fn(&Pair) -> Result<()>) -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    pair.agents.remove(0).stop(Signal::SIGKILL)?;
    std::fs::remove_dir_all(pair.host("left").pins().join("links")).context("detaching every program")?;
    wait_until("no program runs any more", || Ok(pair.host("left").attached(UPLINK)?.is_empty()))?;
    fill(&pair)?;
    let streams = [
        Stream::start(pair.folder(), &pair.left().namespace, pair.ports[1].ipv4())?,
        Stream::start(pair.folder(), &pair.right().namespace, pair.ports[0].ipv6())?,
    ];
    let agent = pair.host("left").start_agent(&pair.topology_file, Lanes::Both)?;
    agent.wait_for_log(&format!("map {name} is full"))?;
    pair.agents.insert(0, agent);
    // What nobody needs goes, and then there is room.
    nothing_to_do(pair.host("left"))?;
    let carried = || pair.host("left").counted("from_port", "tap", "encapsulated");
    let before = carried()?;
    wait_until("the fast lane carries", || Ok(carried()? > before + 100))?;
    for stream in streams {
        stream.expect_no_loss()?;
    }
    Ok(())
}

#[test]
fn a_port_that_does_not_fit_into_its_map_is_carried_by_the_kernel_lane() -> Result<()> {
    start_on_full(names::PORTS, |pair| {
        fill(pair, names::PORTS, |number| {
            (1_000_000 + number, Port { network: 0, vni: 0, mac: [0; 6], flags: 0, policy: 0, revision: 0, mtu: 0 })
        })
    })
}

#[test]
fn a_host_that_does_not_fit_into_its_map_is_carried_by_the_kernel_lane() -> Result<()> {
    start_on_full(names::VTEPS, |pair| {
        let vtep = Vtep { ifindex: 0, mtu: 0, header_len: 0, flags: 0, pad: 0, header: [0; HEADER_MAX] };
        fill(pair, names::VTEPS, |number| (Address::from_v4(number.to_be_bytes()), vtep))
    })
}
