//! VXLAN networks whose members find each other by multicast, and are learned from what arrives.

use anyhow::{Result, ensure};
use overlane_tests::{
    lab::{HOSTS, Lanes, Namespace, Pair, UPLINK, expect_blocked},
    wait::wait_until,
};

const GROUP: &str = "239.1.1.10";
/// Options in sections of their own, behind those of `[overlane]`.
const BY_MULTICAST: &str = "[vxlan]\nl2_population = false\nvxlan_group = 239.1.1.0/24\n";

/// Two hosts that are told nothing of each other's machines.
fn pair() -> Result<Pair> {
    let pair = Pair::bare()?;
    for (name, _) in HOSTS {
        pair.host(name).add_config(BY_MULTICAST);
    }
    Ok(pair)
}

/// A host that no topology knows: a machine of the network behind the kernel's own vxlan device.
fn stranger(pair: &Pair, mac: &str, address: &str) -> Result<Namespace> {
    let (stranger, fabric) = (pair.lab.world().namespace("stranger")?, pair.lab.fabric());
    stranger.run(&format!("ip link add {UPLINK} type veth peer name to-stranger netns {}", fabric.name()))?;
    fabric.run("ip link set to-stranger master segment up")?;
    for line in [
        &format!("ip address add 10.10.10.77/24 dev {UPLINK}"),
        &format!("ip link set {UPLINK} up"),
        &format!(
            "ip link add vxlan-10 address {mac} mtu 1450 type vxlan id 10 group {GROUP} dev {UPLINK} dstport 4789"
        ),
        &format!("ip address add {address}/24 dev vxlan-10"),
        "ip link set vxlan-10 up",
    ] {
        stranger.run(line)?;
    }
    Ok(stranger)
}

/// Where the left host believes a MAC address to be.
fn place(pair: &Pair, mac: &str) -> Result<Option<String>> {
    let rows = pair.host("left").show("fdb")?;
    let row = rows.iter().find(|row| row["mac_address"] == mac);
    Ok(row.and_then(|row| row["vtep"].as_str()).map(str::to_owned))
}

#[test]
fn machines_find_each_other_by_multicast_and_talk_by_the_fast_lane() -> Result<()> {
    let mut pair = pair()?;
    pair.start(Lanes::Both)?;
    let host = pair.host("left");
    ensure!(host.run("ip -d link show vxlan-10")?.contains(&format!("group {GROUP}")));
    let right = &pair.ports[1];
    wait_until("the left host has learned where the right machine is", || {
        Ok(place(&pair, &right.mac_address)?.as_deref() == Some(HOSTS[1].1))
    })?;
    let own = host.run("bridge fdb show dev vxlan-10")?;
    let static_entries = own.lines().filter(|line| line.contains("permanent") && !line.contains(GROUP));
    ensure!(static_entries.filter(|line| line.contains(" dst ")).count() == 0, "nothing is told: {own}");
    let before = [
        host.counted("from_port", "tap", "encapsulated")?,
        pair.host("right").counted("from_uplink", UPLINK, "decapsulated")?,
    ];
    pair.ping_all(20)?;
    let after = [
        host.counted("from_port", "tap", "encapsulated")?,
        pair.host("right").counted("from_uplink", UPLINK, "decapsulated")?,
    ];
    ensure!(after[0] >= before[0] + 40 && after[1] >= before[1] + 40, "fast lane: {before:?}, then {after:?}");
    Ok(())
}

#[test]
fn a_host_that_no_topology_knows_is_reached_and_followed() -> Result<()> {
    let mut pair = pair()?;
    pair.start(Lanes::Both)?;
    let mac = "fa:16:3e:77:77:77";
    let stranger = stranger(&pair, mac, "10.0.10.77")?;
    pair.left().wait_for("10.0.10.77")?;
    wait_until("the left host has learned the stranger", || Ok(place(&pair, mac)?.as_deref() == Some("10.10.10.77")))?;
    pair.left().ping("10.0.10.77", 20)?;
    stranger.ping(pair.ports[0].ipv4(), 3)?;
    // The same machine appears on the right host.
    stranger.run("ip link set vxlan-10 down")?;
    let machine = pair.lab.world().namespace("moved")?;
    let host = pair.host("right");
    host.run(&format!("ip link add moved type veth peer name eth0 address {mac} netns {}", machine.name()))?;
    host.run(&format!("ip link set moved master {} up", pair.network.bridge()))?;
    machine.run("ip link set eth0 mtu 1450 up")?;
    machine.run("ip address add 10.0.10.77/24 dev eth0")?;
    // An answer to the very first one may still go where the machine was.
    let ping = format!("ping -c 1 -W 1 {}", pair.ports[0].ipv4());
    wait_until("it is answered where it is now", || Ok(machine.run(&ping).is_ok()))?;
    wait_until("the left host has followed it", || Ok(place(&pair, mac)?.as_deref() == Some(HOSTS[1].1)))?;
    pair.left().ping("10.0.10.77", 20)
}

#[test]
fn what_the_kernel_forgets_the_fast_lane_forgets_and_finds_again() -> Result<()> {
    let mut pair = pair()?;
    pair.start(Lanes::Both)?;
    let (host, right) = (pair.host("left"), &pair.ports[1]);
    let is_known = || Ok(place(&pair, &right.mac_address)?.is_some());
    wait_until("the left host has learned where the right machine is", is_known)?;
    // As it does by itself after five minutes without a packet. What a machine says of its own accord has it learned again: then
    // it is forgotten again.
    let forget = format!("bridge fdb del {} dev vxlan-10 dst {}", right.mac_address, HOSTS[1].1);
    host.run(&forget)?;
    wait_until("the left host has forgotten it", || {
        let is_forgotten = !is_known()?;
        let _ = host.run(&forget);
        Ok(is_forgotten)
    })?;
    pair.ping_all(5)?;
    wait_until("the left host has learned it again", is_known)
}

#[test]
fn a_vxlan_device_without_the_group_is_named_and_left_alone() -> Result<()> {
    let mut pair = pair()?;
    let host = pair.host("left");
    host.run(&format!("ip link add vxlan-10 type vxlan id 10 local {} dev {UPLINK} dstport 4789", host.local_ip))?;
    let agent = pair.lab.host("left").start_agent(&pair.topology_file, Lanes::Both)?;
    pair.agents.push(agent);
    expect_blocked(pair.host("left"), &pair.ports[0], &format!("no multicast group, the configuration says {GROUP}"))
}
