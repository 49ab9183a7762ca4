//! QoS policies. On kernels without `act_police` Neutron's own agent has none, so only Overlane is tested.

use anyhow::{Context as _, Result, ensure};
use overlane_tests::{
    neutron::{Agent, Bed, Cloud},
    wait::wait_until,
};
use serde_json::{Value, json};

/// What the host says of the left machine's policy.
fn shown(bed: &Bed<'_>) -> Result<Value> {
    let text = bed.cloud.node(bed.host()).overlane("show ports --output json")?;
    let rows: Vec<Value> = serde_json::from_str(&text)?;
    let row = rows.into_iter().find(|row| row["port_id"] == bed.ports[0].id).context("the port is shown")?;
    Ok(row["qos"].clone())
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
