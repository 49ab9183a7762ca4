//! One host with Overlane, the other with what any Linux administrator would set up: a bridge and a vxlan device.

use anyhow::{Context as _, Result, ensure};
use overlane_tests::lab::{Host, Lanes, Machine, Network, Pair, Port, UPLINK};

/// Sets up the plain host by hand, learning what it is not told.
fn plain_host(host: &Host, network: &Network, remote: &str, port: &Port) -> Result<()> {
    let vni = network.segmentation_id.context("a VXLAN network")?;
    let local = host.local_ip;
    host.run("ip link add name br0 type bridge forward_delay 0")?;
    host.run(&format!("ip link add vx0 type vxlan id {vni} local {local} dev {UPLINK} dstport 4789 udpcsum"))?;
    host.run(&format!("bridge fdb append 00:00:00:00:00:00 dev vx0 dst {remote}"))?;
    for device in ["vx0", &port.tap()] {
        host.run(&format!("ip link set {device} master br0 up"))?;
    }
    host.run("ip link set br0 up")?;
    Ok(())
}

/// The left host runs Overlane, the right one does not.
fn mixed() -> Result<Pair> {
    let mut pair = Pair::bare()?;
    let agent = pair.host("left").start_agent(&pair.topology_file, Lanes::Both)?;
    pair.agents.push(agent);
    pair.boot()?;
    plain_host(pair.host("right"), &pair.network, "10.10.10.11", &pair.ports[1])?;
    let [left, right] = &pair.ports;
    pair.left().wait_for(right.ipv4())?;
    pair.right().wait_for(left.ipv6())?;
    overlane_tests::lab::nothing_to_do(pair.host("left"))?;
    Ok(pair)
}

fn transfer(pair: &Pair, from: &Machine, to: &Machine, address: &str) -> Result<()> {
    let server = to.serve_iperf(pair.lab.world().folder())?;
    let throughput = from.iperf(address, 1)?;
    drop(server);
    // Far less than any lane does, far more than lost or shredded packets leave of TCP.
    ensure!(throughput > 100e6, "only {:.1} Mbit/s", throughput / 1e6);
    Ok(())
}

#[test]
fn a_plain_kernel_host_and_an_overlane_host_ping_each_other() -> Result<()> {
    let pair = mixed()?;
    pair.ping_all(20)?;
    ensure!(pair.host("left").counted("from_port", "tap", "encapsulated")? >= 80);
    ensure!(pair.host("left").counted("from_uplink", UPLINK, "decapsulated")? >= 80);
    Ok(())
}

#[test]
fn tcp_flows_from_overlane_to_a_plain_kernel_host() -> Result<()> {
    let pair = mixed()?;
    for address in [pair.ports[1].ipv4(), pair.ports[1].ipv6()] {
        transfer(&pair, pair.left(), pair.right(), address)?;
    }
    Ok(())
}

#[test]
fn tcp_flows_from_a_plain_kernel_host_to_overlane() -> Result<()> {
    let pair = mixed()?;
    for address in [pair.ports[0].ipv4(), pair.ports[0].ipv6()] {
        transfer(&pair, pair.right(), pair.left(), address)?;
    }
    ensure!(pair.host("left").counted("from_overlay", "vxlan-10", "delivered")? > 100);
    Ok(())
}

#[test]
fn tcp_flows_both_ways_when_superpackets_cross_the_wire_whole() -> Result<()> {
    let pair = mixed()?;
    pair.lab.carry_superpackets()?;
    for index in [0, 1] {
        let (from, to) = (&pair.machines[index], &pair.machines[1 - index]);
        for address in [pair.ports[1 - index].ipv4(), pair.ports[1 - index].ipv6()] {
            transfer(&pair, from, to, address)?;
        }
    }
    Ok(())
}
