//! Something on the host is not as it should be: the agent says so, and everything else goes on.

use std::process::Command;

use anyhow::{Result, ensure};
use overlane_tests::{
    lab::{Agent, Lanes, Pair, UPLINK, nothing_to_do},
    wait::wait_until,
};
use serde_json::Value;

#[test]
fn a_bridge_name_taken_by_something_else_blocks_only_its_network() -> Result<()> {
    let mut pair = Pair::bare()?;
    let other = pair.topology.add_network(11);
    let blocked = pair.topology.add_port(&other, "left", 9);
    pair.topology.write(&pair.topology_file)?;
    let bridge = other.bridge();
    pair.host("left").run(&format!("ip link add {bridge} type veth peer name other"))?;
    pair.start(Lanes::Both)?;
    pair.agents[0].wait_for_log(&format!("{bridge} is a veth, but the name is needed for the bridge"))?;
    pair.ping_all(5)?;
    let ports = pair.host("left").show("ports")?;
    let state = |id: &str| ports.iter().find(|row| row["port_id"] == id).map(|row| row["state"].clone());
    ensure!(state(&blocked.id) == Some("blocked".into()), "{ports:?}");
    ensure!(state(&pair.ports[0].id) == Some("active".into()), "{ports:?}");
    // Once the name is free, the network is made.
    pair.host("left").run(&format!("ip link delete {bridge}"))?;
    pair.agents[0].wait_for_log("no longer: ")?;
    nothing_to_do(pair.host("left"))
}

#[test]
fn a_tap_that_belongs_to_another_bridge_stays_there() -> Result<()> {
    let mut pair = Pair::bare()?;
    pair.boot()?;
    let (host, tap) = (pair.host("left"), pair.ports[0].tap());
    host.run("ip link add name virbr0 type bridge")?;
    host.run(&format!("ip link set {tap} master virbr0"))?;
    let agent = host.start_agent(&pair.topology_file, Lanes::Both)?;
    agent.wait_for_log(&format!("{tap} is part of virbr0"))?;
    ensure!(host.run(&format!("ip link show {tap}"))?.contains("master virbr0"));
    host.run(&format!("ip link set {tap} nomaster"))?;
    nothing_to_do(host)
}

#[test]
fn a_vni_that_another_device_uses_is_named() -> Result<()> {
    let pair = Pair::bare()?;
    let host = pair.host("left");
    host.run(&format!("ip link add mine type vxlan id 10 local {} dev {UPLINK} dstport 4789", host.local_ip))?;
    let agent = host.start_agent(&pair.topology_file, Lanes::Both)?;
    agent.wait_for_log("VNI 10 is used by mine: delete it, or rename it to vxlan-10")?;
    // Renamed, it is taken over.
    host.run("ip link set mine name vxlan-10")?;
    nothing_to_do(host)
}

#[test]
fn a_missing_underlay_address_is_waited_for() -> Result<()> {
    let mut pair = Pair::bare()?;
    let address = pair.host("left").local_ip;
    pair.host("left").run(&format!("ip address delete {address}/24 dev {UPLINK}"))?;
    let agent = pair.host("left").start_agent(&pair.topology_file, Lanes::Both)?;
    agent.wait_for_log(&format!("no interface has the address {address}, which [vxlan] local_ip names"))?;
    pair.agents.push(agent);
    pair.host("left").run(&format!("ip address add {address}/24 dev {UPLINK}"))?;
    let agent = pair.host("right").start_agent(&pair.topology_file, Lanes::Both)?;
    pair.agents.push(agent);
    pair.boot()?;
    pair.settle()?;
    pair.ping_all(5)
}

#[test]
fn taps_that_vanish_while_they_are_plugged_disturb_nobody() -> Result<()> {
    let pair = Pair::running(Lanes::Both)?;
    let host = pair.host("left");
    // Made and deleted in one go, over and over: some vanish before, some while the agent works on them.
    let (tap, mut batch) = (pair.ports[0].tap(), String::new());
    host.run(&format!("ip link delete {tap}"))?;
    for _ in 0..50 {
        batch += &format!("link add {tap} type veth peer name vanishing\nlink set {tap} up\nlink delete {tap}\n");
    }
    let file = pair.lab.world().folder().join("batch");
    std::fs::write(&file, batch)?;
    host.run(&format!("ip -batch {}", file.display()))?;
    pair.machines[0].power_on(host)?;
    pair.machines[0].wait_for(pair.ports[1].ipv4())?;
    nothing_to_do(host)?;
    let pins = std::fs::read_dir(host.pins().join("links"))?.count();
    ensure!(pins == 4, "{pins} pins of from_port, to_port, from_uplink and from_overlay");
    Ok(())
}

#[test]
fn without_a_bpffs_the_kernel_lane_carries_everything_until_there_is_one() -> Result<()> {
    let mut pair = Pair::bare()?;
    let bpffs = pair.lab.world().folder().join("bpffs");
    std::fs::create_dir(&bpffs)?;
    let host = pair.lab.host("left");
    host.configure(&pair.topology_file, Lanes::Both)?;
    let config = std::fs::read_to_string(host.config_file())?;
    let config = config.replace(&host.bpffs().display().to_string(), &bpffs.join("overlane").display().to_string());
    std::fs::write(host.config_file(), config)?;
    let agent = Agent::start(host)?;
    agent.wait_for_log("is not in a BPF file system")?;
    agent.wait_for_log("fast path unavailable: the kernel lane carries everything")?;
    let other = pair.host("right").start_agent(&pair.topology_file, Lanes::Both)?;
    pair.boot()?;
    pair.left().wait_for(pair.ports[1].ipv4())?;
    let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&bpffs).status()?;
    ensure!(mounted.success());
    agent.wait_for_log("fast path available again")?;
    pair.agents.extend([agent, other]);
    pair.settle()?;
    ensure!(pair.host("left").show("ports")?[0]["lane"] == "fast");
    pair.ping_all(5)
}

#[test]
fn a_port_that_cannot_be_connected_says_why_and_holds_back_nothing_else() -> Result<()> {
    let mut pair = Pair::bare()?;
    let port = pair.topology.add_port(&pair.network, "left", 9);
    pair.topology.write(&pair.topology_file)?;
    // Not a tap, but a tunnel device without Ethernet headers: no bridge takes it.
    pair.host("left").run(&format!("ip tuntap add dev {} mode tun", port.tap()))?;
    pair.host("left").run(&format!("ip link set {} up", port.tap()))?;
    for name in ["left", "right"] {
        let agent = pair.lab.host(name).start_agent(&pair.topology_file, Lanes::Both)?;
        pair.agents.push(agent);
    }
    pair.boot()?;
    pair.left().wait_for(pair.ports[1].ipv4())?;
    let host = pair.host("left");
    let rows = || -> Result<Vec<(Value, String)>> {
        let rows = host.show("ports")?;
        Ok(rows
            .iter()
            .map(|row| (row["state"].clone(), row["reason"].as_str().unwrap_or_default().to_owned()))
            .collect())
    };
    let expected = format!(
        "could not add {} to bridge {}: putting into its bridge {0}: Invalid argument",
        port.tap(),
        pair.network.bridge()
    );
    wait_until("the reason is shown", || {
        let rows = rows()?;
        ensure!(rows[0].0 == "active" && rows[1].0 == "failing" && rows[1].1.starts_with(&expected), "{rows:?}");
        Ok(true)
    })?;
    let agent = &host.show("agent")?[0];
    ensure!(agent["state"] == "running" && agent["failing"].as_u64() >= Some(1), "{agent}");
    let Err(differences) = host.overlane("verify") else { anyhow::bail!("nothing was found") };
    let differences = format!("{differences:#}");
    ensure!(
        differences.contains(" is not in bridge ") && differences.contains("; the agent cannot mend it: "),
        "{differences}"
    );
    // Made anew as it should be, it is connected.
    host.run(&format!("ip link delete {}", port.tap()))?;
    let machine = host.boot(pair.lab.world(), &port)?;
    machine.wait_for(pair.ports[1].ipv4())?;
    nothing_to_do(host)?;
    ensure!(rows()?[1].0 == "active" && host.show("agent")?[0]["failing"] == 0);
    Ok(())
}
