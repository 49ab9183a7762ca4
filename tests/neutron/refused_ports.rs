//! Ports that cannot work on the host: each is marked with the reason, and the others work.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use overlane_tests::{
    lab::Port,
    neutron::{Agent, Bed, Cloud, PHYSICAL_NETWORK, host_of},
    wait::wait_until,
};
use serde_json::json;

/// A host without an agent.
const SPARE: &str = "spare";

/// Waits until the host says why a port does not work, and its log what to do.
pub(super) fn wait_for_reason(cloud: &Cloud, port: &Port, state: &str, words: &str) -> Result<()> {
    let node = cloud.node(&port.host);
    wait_until(&format!("{} is marked as {state}: {words}", port.tap()), || {
        let shown = node.shown_port(&port.tap())?;
        ensure!(shown["state"] == state, "it is {shown}; {}", node.log(Agent::Overlane)?);
        let reason = shown["reason"].as_str().with_context(|| format!("no reason: {shown}"))?;
        ensure!(reason.contains(words), "the reason is {reason:?}");
        Ok(true)
    })?;
    let log = node.log(Agent::Overlane)?;
    let is_told = log.lines().any(|line| line.contains(words) && (line.contains("WARN") || line.contains("ERROR")));
    ensure!(is_told, "the log does not say so: {log}");
    ensure!(cloud.show_port(port)?["status"] != "ACTIVE");
    Ok(())
}

#[test]
fn a_port_whose_physical_network_is_not_mapped_holds_back_no_other() -> Result<()> {
    let cloud = Cloud::alone()?;
    let node = cloud.node(SPARE);
    node.start_agent(Agent::Overlane)?;
    cloud.wait_until_alive(SPARE, Agent::Overlane)?;
    let vlan = cloud.bare_network(&json!({
        "provider:network_type": "vlan", "provider:physical_network": PHYSICAL_NETWORK, "provider:segmentation_id": 177,
    }))?;
    cloud.subnet(&vlan, &json!({"cidr": "10.9.0.0/24", "enable_dhcp": false}))?;
    let lost = cloud.port(&vlan, SPARE, &json!({}))?;
    // The mapping goes while the port is bound.
    node.stop_agent(Agent::Overlane, Signal::SIGTERM)?;
    let files = node.edit("linuxbridge_agent.ini", "physical_interface_mappings", "#")?;
    node.start_agent(Agent::Overlane)?;
    let result = (|| {
        let network = cloud.network(&json!({}))?;
        let _lost = cloud.plug(&vlan, &lost)?;
        let _machine = cloud.boot(&network, &cloud.port(&network, SPARE, &json!({}))?)?;
        wait_for_reason(&cloud, &lost, "blocked", "physical network \"physnet1\" is neither in [linux_bridge]")
    })();
    node.stop_agent(Agent::Overlane, Signal::SIGTERM)?;
    node.restore("linuxbridge_agent.ini", &files)?;
    node.overlane("detach --purge")?;
    result
}

#[test]
fn a_port_whose_binding_the_server_refuses_works_once_it_is_bound() -> Result<()> {
    let cloud = Cloud::shared()?;
    let bed = Bed::of(&cloud, Agent::Overlane)?;
    // The server has no driver for such ports.
    let body = json!({"port": {
        "network_id": bed.network.id, "project_id": "lab", "device_owner": "compute:nova",
        "device_id": "00000000-0000-4000-8001-000000000001",
        "binding:host_id": bed.host(), "binding:vnic_type": "direct",
    }});
    let made = cloud.post("/ports", &body)?["port"].clone();
    ensure!(made["binding:vif_type"] == "binding_failed", "{made}");
    let text = |field: &str| made[field].as_str().map(str::to_owned).with_context(|| format!("no {field}: {made}"));
    let port = Port { id: text("id")?, mac_address: text("mac_address")?, ..bed.ports[0].clone() };
    let _machine = cloud.plug(&bed.network, &port)?;
    wait_for_reason(&cloud, &port, "refused", "the server could not bind its port to this host")?;
    bed.wait_until_connected()?;
    cloud.update_port(&port, &json!({"binding:vnic_type": "normal"}))?;
    cloud.wait_for_status(&port, "ACTIVE")
}

#[test]
fn a_tap_whose_port_works_on_another_host_is_left_closed() -> Result<()> {
    let cloud = Cloud::shared()?;
    let bed = Bed::of(&cloud, Agent::Overlane)?;
    bed.wait_until_connected()?;
    let elsewhere = cloud.port(&bed.network, "network", &json!({}))?;
    let here = Port { host: host_of(Agent::Overlane).to_owned(), ..elsewhere };
    let _machine = cloud.plug(&bed.network, &here)?;
    wait_for_reason(&cloud, &here, "refused", "its port works on another host")?;
    bed.wait_until_connected()
}
