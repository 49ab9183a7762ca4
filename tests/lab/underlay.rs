//! The agent follows routes and neighbours of the underlay.

use anyhow::{Result, ensure};
use overlane_tests::{
    lab::{Lanes, Namespace, Pair, Stream, UPLINK, nothing_to_do},
    wait::wait_until,
};

#[test]
fn a_next_hop_that_gets_another_mac_address_is_followed() -> Result<()> {
    let pair = Pair::running(Lanes::Both)?;
    let mac = "02:00:00:00:be:ef";
    pair.host("right").run(&format!("ip link set {UPLINK} address {mac}"))?;
    // What a host does when its address moves to another NIC; here the kernel of the left host asks again by itself,
    // sooner than its timers would.
    pair.host("left").run(&format!("ip neighbour flush dev {UPLINK}"))?;
    wait_until("the new address is in the map", || {
        Ok(pair.host("left").show("vteps")?.iter().any(|row| row["next_hop_mac"] == mac && row["lane"] == "fast"))
    })?;
    pair.ping_all(10)
}

#[test]
fn a_host_behind_a_gateway_is_reached_through_it() -> Result<()> {
    let (pair, _second) = behind_two_gateways()?;
    let host = pair.host("left");
    host.run("ip route replace 10.10.20.0/24 via 10.10.10.1 mtu lock 1400")?;
    wait_until("the route's MTU is in the map", || Ok(host.show("vteps")?[0]["mtu"] == 1400))?;
    pair.ping_all(10)?;
    let vteps = host.show("vteps")?;
    ensure!(vteps[0]["next_hop"] == "10.10.10.1" && vteps[0]["lane"] == "fast", "{vteps:?}");
    ensure!(host.counted("from_port", "tap", "encapsulated")? >= 20);
    Ok(())
}

#[test]
fn tunnels_come_back_with_the_uplink_and_with_its_address() -> Result<()> {
    let pair = Pair::running(Lanes::Both)?;
    let host = pair.host("left");
    let address = format!("{}/24 dev {UPLINK}", host.local_ip);
    for (breaks, mends, said) in [
        (
            format!("ip link set {UPLINK} down"),
            format!("ip link set {UPLINK} up"),
            "no route from 10.10.10.11 to 10.10.10.12",
        ),
        (
            format!("ip address delete {address}"),
            format!("ip address add {address}"),
            "no interface has the address 10.10.10.11",
        ),
    ] {
        host.run(&breaks)?;
        pair.agents[0].wait_for_log(said)?;
        ensure!(host.show("vteps")?[0]["lane"] == "kernel", "{:?}", host.show("vteps")?);
        host.run(&mends)?;
        wait_until("the fast lane leads to the other host", || Ok(host.show("vteps")?[0]["lane"] == "fast"))?;
        nothing_to_do(host)?;
        pair.ping_all(5)?;
        let log = pair.agents[0].log()?;
        ensure!(log.lines().any(|line| line.contains("no longer: ") && line.contains(said)), "{log}");
    }
    Ok(())
}

/// Moves the right host behind two gateways, 10.10.10.1 and 10.10.10.2, to 10.10.20.12; starts agents and machines.
fn behind_two_gateways() -> Result<(Pair, Namespace)> {
    let mut pair = Pair::bare()?;
    let (left, right, fabric) = (pair.lab.host("left"), pair.lab.host("right"), pair.lab.fabric());
    fabric.run("ip link add name far up type bridge")?;
    fabric.run("ip link set to-right master far")?;
    let second = pair.lab.world().namespace("second-gateway")?;
    for (bridge, net) in [("segment", 10), ("far", 20)] {
        fabric.run(&format!("ip address add 10.10.{net}.1/24 dev {bridge}"))?;
        fabric.run(&format!(
            "ip link add second-{bridge} master {bridge} up type veth peer name {bridge} netns {}",
            second.name()
        ))?;
        second.run(&format!("ip address add 10.10.{net}.2/24 dev {bridge}"))?;
        second.run(&format!("ip link set {bridge} up"))?;
    }
    for gateway in [fabric, &second] {
        gateway.set_parameter("net/ipv4/ip_forward", "1")?;
    }
    right.run(&format!("ip address flush dev {UPLINK}"))?;
    right.run(&format!("ip address add 10.10.20.12/24 dev {UPLINK}"))?;
    right.run("ip route add default via 10.10.20.1")?;
    left.run("ip route add 10.10.20.0/24 via 10.10.10.1")?;
    pair.topology.hosts[1].local_ip = "10.10.20.12".to_owned();
    pair.topology.write(&pair.topology_file)?;
    let agent = left.start_agent(&pair.topology_file, Lanes::Both)?;
    right.configure(&pair.topology_file, Lanes::Both)?;
    let config = std::fs::read_to_string(right.config_file())?.replace("10.10.10.12", "10.10.20.12");
    std::fs::write(right.config_file(), config)?;
    let other_agent = overlane_tests::lab::Agent::start(right)?;
    pair.agents.extend([agent, other_agent]);
    pair.boot()?;
    pair.settle()?;
    Ok((pair, second))
}

#[test]
fn a_route_that_changes_to_another_gateway_is_followed_without_losing_a_packet() -> Result<()> {
    let (pair, _second) = behind_two_gateways()?;
    let stream = Stream::start(pair.folder(), &pair.left().namespace, pair.ports[1].ipv4())?;
    let host = pair.host("left");
    for gateway in ["10.10.10.2", "10.10.10.1"] {
        host.run(&format!("ip route replace 10.10.20.0/24 via {gateway}"))?;
        wait_until("the fast lane leads to the other gateway", || {
            let vteps = host.show("vteps")?;
            Ok(vteps[0]["next_hop"] == gateway && vteps[0]["lane"] == "fast")
        })?;
        nothing_to_do(host)?;
    }
    stream.expect_no_loss()
}

#[test]
fn while_the_next_hop_is_silent_the_kernel_lane_has_the_packets() -> Result<()> {
    let mut pair = Pair::bare()?;
    pair.host("right").run(&format!("ip link set {UPLINK} down"))?;
    let agent = pair.host("left").start_agent(&pair.topology_file, Lanes::Both)?;
    pair.agents.push(agent);
    pair.boot()?;
    wait_until("the tap is connected", || Ok(pair.host("left").show("ports")?[0]["lane"] == "fast"))?;
    let vteps = pair.host("left").show("vteps")?;
    ensure!(vteps[0]["state"] == "unresolved" && vteps[0]["lane"] == "kernel", "{vteps:?}");
    pair.host("right").run(&format!("ip link set {UPLINK} up"))?;
    let agent = pair.host("right").start_agent(&pair.topology_file, Lanes::Both)?;
    pair.agents.push(agent);
    wait_until("the endpoint is resolved", || Ok(pair.host("left").show("vteps")?[0]["lane"] == "fast"))?;
    pair.settle()?;
    nothing_to_do(pair.host("left"))
}

#[test]
fn vxlan_from_a_stranger_is_dropped_and_shown() -> Result<()> {
    let pair = Pair::bare()?;
    let (left, right) = (pair.host("left"), pair.host("right"));
    let _agent = left.start_agent(&pair.topology_file, Lanes::Both)?;
    // The right host tunnels from an address that the topology does not know.
    right.run(&format!("ip address add 10.10.10.66/24 dev {UPLINK}"))?;
    let tunnel = "type vxlan id 10 local 10.10.10.66 remote 10.10.10.11 dstport 4789";
    right.run(&format!("ip link add stranger {tunnel} dev {UPLINK}"))?;
    right.run("ip address add 10.0.10.66/24 dev stranger")?;
    right.run("ip link set stranger up")?;
    wait_until("a drop is shown", || {
        let _ = right.run("ping -c 1 -W 1 10.0.10.1");
        let drops = left.show("drops")?;
        Ok(drops.iter().any(|row| row["reason"] == "unknown-vtep" && row["interface"] == UPLINK))
    })?;
    ensure!(left.counted("from_overlay", "vxlan-10", "flood")? == 0, "a stranger's frame came through");
    Ok(())
}
