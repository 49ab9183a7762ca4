//! Ports are held to their own addresses, and to being clients.

use std::net::UdpSocket;

use anyhow::{Context as _, Result, ensure};
use overlane_tests::lab::{AddressPair, Lanes, Machine, Pair};

fn dropped(pair: &Pair, reason: &str) -> Result<u64> {
    let rows = pair.host("left").show("drops")?;
    let counts = rows.iter().filter(|row| row["reason"] == reason).filter_map(|row| row["packets"].as_u64());
    Ok(counts.sum())
}

/// Lets the left machine send from another address, besides its own.
fn take_address(machine: &Machine, address: &str) -> Result<()> {
    let (prefix_len, nodad) = if address.contains(':') { (64, "nodad") } else { (24, "") };
    machine.run(&format!("ip address add {address}/{prefix_len} dev eth0 {nodad}"))?;
    Ok(())
}

fn reaches_from(machine: &Machine, source: &str, target: &str) -> bool {
    machine.run(&format!("ping -c 1 -W 0.5 -I {source} {target}")).is_ok()
}

#[test]
fn a_machine_may_use_its_own_addresses_and_those_that_it_is_allowed() -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    let [right4, right6] = [pair.ports[1].ipv4().to_owned(), pair.ports[1].ipv6().to_owned()];
    for (address, target) in [("10.0.10.77", &right4), ("fd00:10::77", &right6)] {
        take_address(pair.left(), address)?;
        ensure!(!reaches_from(pair.left(), address, target), "{address} is not its own");
    }
    ensure!(dropped(&pair, "spoofed-ip")? > 0);
    let pairs = ["10.0.10.64/26", "fd00:10::77"].map(|range| AddressPair { ip_address: range.to_owned() });
    pair.change(|topology| topology.ports[0].allowed_address_pairs.extend(pairs))?;
    ensure!(reaches_from(pair.left(), "10.0.10.77", &right4), "it is allowed");
    ensure!(reaches_from(pair.left(), "fd00:10::77", &right6), "it is allowed");
    pair.change(|topology| topology.ports[0].allowed_address_pairs.clear())?;
    ensure!(!reaches_from(pair.left(), "10.0.10.77", &right4), "it is not allowed any more");
    Ok(())
}

#[test]
fn a_machine_may_not_use_another_mac_address_nor_claim_one_by_arp() -> Result<()> {
    let pair = Pair::running(Lanes::Both)?;
    // A question in the name of somebody else.
    take_address(pair.left(), "10.0.10.99")?;
    pair.left().run("ip neigh flush dev eth0")?;
    ensure!(!reaches_from(pair.left(), "10.0.10.99", pair.ports[1].ipv4()));
    ensure!(dropped(&pair, "spoofed-arp")? > 0 || dropped(&pair, "spoofed-ip")? > 0);
    pair.left().run("ip link set eth0 address fa:16:3e:00:00:99")?;
    ensure!(!pair.left().reaches(pair.ports[1].ipv4()));
    ensure!(dropped(&pair, "spoofed-mac")? > 0);
    Ok(())
}

#[test]
fn a_machine_may_ask_for_an_address_by_dhcp_but_give_none() -> Result<()> {
    let pair = Pair::running(Lanes::Both)?;
    let send = |from: u16, to: u16| {
        pair.left().namespace.inside(|| {
            let socket = UdpSocket::bind(("0.0.0.0", from)).context("binding")?;
            socket.set_broadcast(true).context("allowing broadcast")?;
            socket.send_to(b"offer", ("10.0.10.255", to)).context("sending")
        })
    };
    send(67, 68)?;
    ensure!(dropped(&pair, "rogue-dhcp-server")? == 1);
    send(68, 67)?;
    ensure!(dropped(&pair, "rogue-dhcp-server")? == 1);
    Ok(())
}

#[test]
fn a_port_without_port_security_and_a_port_of_the_network_may_send_anything() -> Result<()> {
    for change in [
        |port: &mut overlane_tests::lab::Port| port.port_security_enabled = Some(false),
        |port: &mut overlane_tests::lab::Port| port.device_owner = "network:router_interface".to_owned(),
    ] {
        let mut pair = Pair::running(Lanes::Both)?;
        pair.change(|topology| change(&mut topology.ports[0]))?;
        take_address(pair.left(), "10.0.10.99")?;
        ensure!(reaches_from(pair.left(), "10.0.10.99", pair.ports[1].ipv4()));
        ensure!(pair.host("left").show("ports")?[0]["security"] == "open");
    }
    Ok(())
}
