//! Taps of Nova's machines: libvirt makes one, puts it into its bridge, and sets it up, and fails when somebody was faster.

use anyhow::{Context as _, Result, ensure};
use overlane_tests::{
    lab::{Host, Lanes, Machine, Pair, connect_as_libvirt_does, nothing_to_do},
    wait::wait_until,
};
use serde_json::Value;

/// A pair whose left agent handles compute taps in a certain way. The left machine's tap has just been made, and is down.
fn made(compute_taps: &str) -> Result<Pair> {
    let mut pair = Pair::bare()?;
    pair.host("left").add_config(&format!("compute_taps = {compute_taps}\n"));
    for name in ["left", "right"] {
        let agent = pair.lab.host(name).start_agent(&pair.topology_file, Lanes::Both)?;
        pair.agents.push(agent);
    }
    let [left, right] = &pair.ports;
    let machine = Machine::off(pair.lab.world(), "left-machine", left)?;
    pair.host("left").make_tap(&machine.namespace, left, "eth0")?;
    let machines = [machine, pair.host("right").boot(pair.lab.world(), right)?];
    pair.machines.extend(machines);
    Ok(pair)
}

fn connect(pair: &Pair) -> Result<()> {
    connect_as_libvirt_does(pair.host("left"), &pair.ports[0].tap(), &pair.network.bridge())
}

fn row(host: &Host) -> Result<Value> {
    host.show("ports")?.into_iter().next().context("the port")
}

fn says(row: &Value, reason: &str) -> bool {
    row["state"] == "waiting" && row["reason"].as_str().is_some_and(|text| text.contains(reason))
}

/// Waits until the agent has dealt with everything that has happened so far: a tap that comes later is connected.
fn catch_up(pair: &mut Pair) -> Result<()> {
    let port = pair.topology.add_port(&pair.network, "left", 9);
    pair.topology.ports.last_mut().context("the port")?.device_owner = "network:dhcp".to_owned();
    pair.topology.write(&pair.topology_file)?;
    let later = Machine::off(pair.lab.world(), "later", &port)?;
    pair.host("left").make_tap(&later.namespace, &port, "eth0")?;
    let link = format!("ip -o link show {}", port.tap());
    wait_until("the later tap is connected", || Ok(pair.host("left").run(&link)?.contains("master")))
}

#[test]
fn a_tap_that_libvirt_is_about_to_connect_is_left_to_it() -> Result<()> {
    let mut pair = made("auto")?;
    catch_up(&mut pair)?;
    let row = row(pair.host("left"))?;
    ensure!(says(&row, "libvirt may be about to connect it"), "{row}");
    let link = pair.host("left").run(&format!("ip -o link show {}", pair.ports[0].tap()))?;
    ensure!(!link.contains("master") && link.contains("state DOWN"), "{link}");
    connect(&pair)?;
    pair.left().wait_for(pair.ports[1].ipv4())?;
    nothing_to_do(pair.host("left"))?;
    ensure!(pair.host("left").show("ports")?[0]["lane"] == "fast");
    Ok(())
}

#[test]
fn a_tap_that_nobody_connects_is_connected() -> Result<()> {
    for compute_taps in ["auto", "connect"] {
        let pair = made(compute_taps)?;
        pair.left().wait_for(pair.ports[1].ipv4())?;
        nothing_to_do(pair.host("left"))?;
        ensure!(row(pair.host("left"))?["state"] == "active");
    }
    Ok(())
}

#[test]
fn a_tap_that_is_to_be_left_to_nova_is_never_put_into_a_bridge() -> Result<()> {
    let mut pair = made("leave")?;
    let tap = pair.ports[0].tap();
    let reason = "is in no bridge, and [overlane] compute_taps = leave leaves that to Nova";
    wait_until("the port waits", || Ok(says(&row(pair.host("left"))?, reason)))?;
    connect(&pair)?;
    pair.left().wait_for(pair.ports[1].ipv4())?;
    pair.host("left").run(&format!("ip link set {tap} nomaster"))?;
    // Others are connected as always, and have been once the agent has seen all this.
    catch_up(&mut pair)?;
    ensure!(says(&row(pair.host("left"))?, reason), "{}", row(pair.host("left"))?);
    ensure!(!pair.host("left").run(&format!("ip -o link show {tap}"))?.contains("master"));
    Ok(())
}
