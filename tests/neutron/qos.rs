//! QoS policies. On kernels without `act_police` Neutron's own agent has none, so only Overlane is tested.

use anyhow::{Context as _, Result, ensure};
use overlane_tests::{
    lab::{Machine, Port},
    neutron::{Agent, Bed, Cloud, host_of},
    wait::wait_until,
};
use serde_json::{Value, json};

/// What the host of a port says of it.
fn row(cloud: &Cloud, port: &Port) -> Result<Value> {
    let text = cloud.node(&port.host).overlane("show ports --output json")?;
    let rows: Vec<Value> = serde_json::from_str(&text)?;
    rows.into_iter().find(|row| row["port_id"] == port.id).context("the port is shown")
}

/// What the host says of the left machine's policy.
fn shown(bed: &Bed<'_>) -> Result<Value> {
    Ok(row(bed.cloud, &bed.ports[0])?["qos"].clone())
}

#[test]
fn a_port_is_active_once_its_policy_is_in_force() -> Result<()> {
    let cloud = Cloud::shared()?;
    let (network, policy) = (cloud.network(&json!({}))?, cloud.qos_policy("gold")?);
    cloud.add_qos_rule(&policy, "bandwidth_limit", &json!({"max_kbps": 8000, "direction": "ingress"}))?;
    let port = cloud.port(&network, host_of(Agent::Overlane), &json!({"qos_policy_id": policy}))?;
    // Somebody has put something at the tap that must not be replaced.
    let (machine, host) = (Machine::off(cloud.world(), "vm-gold", &port)?, cloud.lab().host(&port.host));
    let (tap, guest) = (port.tap(), machine.namespace.name());
    host.run(&format!("ip link add gold type veth peer name eth0 netns {guest} address {}", port.mac_address))?;
    host.run("tc qdisc add dev gold root handle 1: tbf rate 1gbit burst 100kb latency 50ms")?;
    host.run(&format!("ip link set gold name {tap} up"))?;
    wait_until("the port is connected, and shown as blocked", || {
        let row = row(&cloud, &port)?;
        let has_reason = row["reason"].as_str().is_some_and(|reason| reason.contains("tc qdisc del dev"));
        Ok(has_reason && row["secured"] == true)
    })?;
    ensure!(cloud.show_port(&port)?["status"] == "DOWN", "{}", cloud.show_port(&port)?);
    host.run(&format!("tc qdisc del dev {tap} root"))?;
    cloud.wait_for_status(&port, "ACTIVE")?;
    let qdisc = host.run(&format!("tc qdisc show dev {tap} root"))?;
    ensure!(qdisc.contains("rate 8Mbit"), "{qdisc}");
    Ok(())
}

#[test]
fn policies_of_ports_and_networks_are_carried_out_and_followed() -> Result<()> {
    let cloud = Cloud::shared()?;
    let bed = Bed::of(&cloud, Agent::Overlane)?;
    let policy = cloud.qos_policy("silver")?;
    cloud.add_qos_rule(&policy, "bandwidth_limit", &json!({"max_kbps": 20_000, "direction": "egress"}))?;
    let mark = cloud.add_qos_rule(&policy, "dscp_marking", &json!({"dscp_mark": 26}))?;
    cloud.update_port(&bed.ports[0], &json!({"qos_policy_id": policy}))?;
    wait_until("the policy is in force", || {
        let qos = shown(&bed)?;
        Ok(qos["egress"]["kbps"] == 20_000 && qos["dscp"] == 26)
    })?;
    // A change reaches every port that has the policy.
    cloud.remove_qos_rule(&policy, "dscp_marking", &mark)?;
    cloud.add_qos_rule(&policy, "bandwidth_limit", &json!({"max_kbps": 8000, "direction": "ingress"}))?;
    let tap = bed.ports[0].tap();
    wait_until("the changed policy is in force", || {
        let qdisc = cloud.lab().host(bed.host()).run(&format!("tc qdisc show dev {tap} root"))?;
        Ok(shown(&bed)?["dscp"].is_null() && qdisc.contains("tbf") && qdisc.contains("rate 8Mbit"))
    })?;
    // Without one of its own, the port has its network's.
    let of_network = cloud.qos_policy("bronze")?;
    cloud.add_qos_rule(&of_network, "bandwidth_limit", &json!({"max_kbps": 5000, "direction": "egress"}))?;
    cloud.update_network(&bed.network, &json!({"qos_policy_id": of_network}))?;
    cloud.update_port(&bed.ports[0], &json!({"qos_policy_id": null}))?;
    wait_until("the network's policy is in force", || {
        let qos = shown(&bed)?;
        Ok(qos["egress"]["kbps"] == 5000 && qos["ingress"].is_null())
    })?;
    cloud.update_network(&bed.network, &json!({"qos_policy_id": null}))?;
    wait_until("nothing is limited", || Ok(shown(&bed)?["egress"].is_null()))?;
    ensure!(bed.left().reaches(bed.ports[1].ipv4()), "the machines still reach each other");
    Ok(())
}
