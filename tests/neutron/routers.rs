//! Routing by the real qrouter: between networks, out by its address (SNAT), and in by a floating IP.

use anyhow::{Context as _, Result};
use overlane_tests::{
    lab::{Namespace, OUTSIDE},
    neutron::{Agent, Cloud, PHYSICAL_NETWORK, host_of},
    wait::wait_until,
};
use serde_json::{Value, json};

expect_of_both_agents! {
    machines_are_routed_and_have_floating_ips
}

/// The address of a machine in the physical network, which knows nothing of the cloud.
const OUTSIDER: &str = "203.0.113.1";

/// Connects a machine to the physical network.
fn outsider(cloud: &Cloud) -> Result<Namespace> {
    let outsider = cloud.world().namespace("outsider")?;
    let (fabric, name) = (cloud.lab().fabric(), outsider.name());
    // The kernel takes the wire of an ended namespace away some time later.
    wait_until("the wire of an earlier test is gone", || Ok(fabric.run("ip link show to-outsider").is_err()))?;
    fabric.run(&format!("ip link add to-outsider type veth peer name eth0 netns {name}"))?;
    fabric.run(&format!("ip link set to-outsider master {OUTSIDE} up"))?;
    outsider.run(&format!("ip address add {OUTSIDER}/24 dev eth0"))?;
    outsider.run("ip link set eth0 up")?;
    Ok(outsider)
}

fn id_of(answer: &Value, kind: &str) -> Result<String> {
    Ok(answer[kind]["id"].as_str().with_context(|| format!("no id: {answer}"))?.to_owned())
}

fn machines_are_routed_and_have_floating_ips(subject: Agent) -> Result<()> {
    // There is one flat network for the physical network.
    let cloud = Cloud::alone()?;
    let outsider = outsider(&cloud)?;
    let external = cloud.bare_network(&json!({
        "router:external": true, "provider:network_type": "flat", "provider:physical_network": PHYSICAL_NETWORK,
    }))?;
    cloud.subnet(&external, &json!({"cidr": "203.0.113.0/24", "gateway_ip": OUTSIDER, "enable_dhcp": false}))?;
    let mut router = cloud.router(&json!({"external_gateway_info": {"network_id": external.id}}))?;

    let group = cloud.security_group("pingable")?;
    cloud.add_rule(&group, &json!({"protocol": "icmp"}))?;
    let mut boot = |number| cloud.boot_behind(&mut router, number, host_of(subject), &group);
    let machines = [boot(1)?, boot(2)?];
    machines[0].wait_for(machines[1].port.ipv4())?;
    machines[0].wait_for(OUTSIDER)?;
    let body = json!({"floating_network_id": external.id, "port_id": machines[0].port.id, "project_id": "lab"});
    let answer = cloud.post("/floatingips", &json!({ "floatingip": body }))?;
    let floating = id_of(&answer, "floatingip")?;
    let address = answer["floatingip"]["floating_ip_address"].as_str().context("a floating IP")?;
    wait_until("the floating IP answers", || outsider.run(&format!("ping -c 1 -W 1 {address}")).map(|_| true))?;
    machines[0].wait_for(OUTSIDER)?;

    // The next one needs the physical network.
    cloud.delete(&format!("/floatingips/{floating}"))?;
    cloud.delete_router(&router)?;
    cloud.delete_network(&external)
}
