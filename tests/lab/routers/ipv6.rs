//! Router advertisements: machines that make their own addresses.

use std::{net::SocketAddrV6, os::fd::AsRawFd as _};

use anyhow::{Context as _, Result, ensure};
use nix::{
    net::if_::if_nametoindex,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, socket},
};
use overlane_tests::{
    lab::{Machine, Port, Routed},
    wait::wait_until,
};

/// EUI-64 of the MAC address that a port with this number has.
const ADDRESS: &str = "fd00:10::f816:3eff:fe00:a21";

/// Has the router advertise the first network, and adds a port there whose machine makes its own address.
pub(super) fn advertise(routed: &mut Routed) -> Port {
    let network = routed.topology.networks.iter_mut().find(|network| network.id == routed.inside[0].id);
    for subnet in network.expect("there is one").subnets.iter_mut().filter(|subnet| subnet.cidr.contains(':')) {
        subnet.ipv6_ra_mode = Some("slaac".to_owned());
        subnet.ipv6_address_mode = Some("slaac".to_owned());
    }
    routed.topology.add_port(&routed.inside[0], "compute", 33);
    let port = routed.topology.ports.last_mut().expect("just added");
    port.mac_address = "fa:16:3e:00:0a:21".to_owned();
    port.fixed_ips[1] = ADDRESS.to_owned();
    port.clone()
}

/// A router that advertises, and the port of a machine that makes its own address.
fn advertising() -> Result<(Routed, Port)> {
    let mut port = None;
    let routed = Routed::running_with(|routed| {
        port = Some(advertise(routed));
        Ok(())
    })?;
    Ok((routed, port.context("a port")?))
}

/// Starts the machine of that port under a name, and waits until it has made its address of what the router advertises.
pub(super) fn boot_by_advertisement(routed: &Routed, name: &str, port: &Port) -> Result<Machine> {
    let machine = Machine::off(routed.lab.world(), name, port)?;
    machine.power_on_without_addresses(routed.lab.host("compute"))?;
    wait_until("it has made its address", || {
        let addresses = machine.run("ip -6 address show dev eth0 scope global")?;
        Ok(addresses.contains(ADDRESS) && !addresses.contains("tentative"))
    })?;
    ensure!(machine.run("ip -6 route show default")?.contains("via fe80::f816:3eff:fe00:a01"));
    machine.ping(routed.outside_ipv6(), 5)?;
    Ok(machine)
}

#[test]
fn a_machine_cannot_fill_a_disk_with_what_the_advertiser_says_of_its_solicitations() -> Result<()> {
    let (routed, port) = advertising()?;
    let machine = boot_by_advertisement(&routed, "slaac", &port)?;
    machine.namespace.inside(|| {
        let raw = socket(AddressFamily::Inet6, SockType::Raw, SockFlag::empty(), SockProtocol::IcmpV6)
            .context("opening a raw socket")?;
        let router = "fe80::f816:3eff:fe00:a01".parse().context("an address")?;
        let router = SockaddrIn6::from(SocketAddrV6::new(router, 0, 0, if_nametoindex("eth0").context("eth0")?));
        // Router solicitations (RFC 4861 §4.1) with a hop limit of 64: they would have to come with 255.
        let solicitation = [133, 0, 0, 0, 0, 0, 0, 0];
        (0..1000)
            .try_for_each(|_| sendto(raw.as_raw_fd(), &solicitation, &router, MsgFlags::empty()).map(drop))
            .context("sending")
    })?;
    // Who solicits as one should is answered after them.
    machine.run("ip link set eth0 down")?;
    machine.run("ip link set eth0 up")?;
    wait_until("it has made its address again", || {
        Ok(machine.run("ip -6 address show dev eth0 scope global")?.contains(ADDRESS))
    })?;
    let log = routed.node().folder().join("state/ra").join(&routed.router.id).join("log");
    let log = std::fs::read_to_string(log).context("reading what radvd has said")?;
    ensure!(log.lines().count() < 10, "{} lines: {}", log.lines().count(), log.lines().last().unwrap_or_default());
    Ok(())
}

#[test]
fn a_machine_makes_its_address_of_the_advertised_prefix_and_reaches_the_outside_by_it() -> Result<()> {
    let (routed, port) = advertising()?;
    let _machine = boot_by_advertisement(&routed, "slaac", &port)?;
    // The one who advertises is missed when it dies.
    let advertisers = || -> Result<Vec<String>> {
        let pids = routed.node().run(&format!("ip netns pids {}", routed.namespace()))?;
        let is_radvd =
            |pid: &&str| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "radvd");
        Ok(pids.split_whitespace().filter(is_radvd).map(str::to_owned).collect())
    };
    let before = advertisers()?;
    ensure!(!before.is_empty());
    for pid in &before {
        routed.node().run(&format!("kill -KILL {pid}"))?;
    }
    wait_until("another one advertises", || Ok(advertisers()?.iter().any(|pid| !before.contains(pid))))
}
