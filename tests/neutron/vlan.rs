//! VLAN networks of a provider. Neutron's own agent needs the kernel's 8021q module for them, so both hosts are Overlane's.

use anyhow::{Result, ensure};
use overlane_tests::{
    lab::NIC,
    neutron::{Agent, Cloud, PHYSICAL_NETWORK, host_of},
    wait::wait_until,
};
use serde_json::json;

expect_of_overlane! {
    machines_of_a_vlan_reach_each_other_and_its_device_goes_with_it
    a_subport_can_be_in_a_vlan
}

/// Another host of Overlane's.
const OTHER: &str = "lane2";
/// The tag that a machine knows the VLAN by; on the wire it has the network's.
const INNER_VID: u16 = 7;

fn vlan() -> serde_json::Value {
    json!({"provider:network_type": "vlan", "provider:physical_network": PHYSICAL_NETWORK})
}

fn machines_of_a_vlan_reach_each_other_and_its_device_goes_with_it(subject: Agent) -> Result<()> {
    let cloud = Cloud::shared()?;
    let network = cloud.network(&vlan())?;
    let hosts = [host_of(subject), OTHER];
    let ports = [cloud.port(&network, hosts[0], &json!({}))?, cloud.port(&network, hosts[1], &json!({}))?];
    let machines = [cloud.boot(&network, &ports[0])?, cloud.boot(&network, &ports[1])?];
    for (from, to) in [(&machines[0], &ports[1]), (&machines[1], &ports[0])] {
        from.wait_for(to.ipv4())?;
        from.wait_for(to.ipv6())?;
        from.ping(to.ipv4(), 20)?;
    }
    let device = format!("{NIC}.{}", network.segmentation_id.unwrap_or_default());
    for host in hosts.map(|host| cloud.lab().host(host)) {
        let link = host.run(&format!("ip -o link show {device}"))?;
        ensure!(link.contains(&format!("master {}", network.bridge())), "{link}");
    }
    // A group that admits nothing is in force here as well.
    let group = cloud.security_group("closed")?;
    cloud.update_port(&ports[0], &json!({"security_groups": [group]}))?;
    wait_until("nothing reaches the machine", || Ok(!machines[1].reaches(ports[0].ipv4())))?;
    for port in &ports {
        cloud.unplug(port)?;
        cloud.delete_port(port)?;
    }
    cloud.delete_network(&network)?;
    for host in hosts.map(|host| cloud.lab().host(host)) {
        wait_until("the device has gone", || Ok(host.run(&format!("ip link show {device}")).is_err()))?;
    }
    Ok(())
}

fn a_subport_can_be_in_a_vlan(subject: Agent) -> Result<()> {
    let cloud = Cloud::shared()?;
    let network = cloud.network(&json!({}))?;
    // Neutron does not let a subport have more room than its trunk.
    let mut fields = vlan();
    fields["mtu"] = network.mtu.into();
    let vlan = cloud.bare_network(&fields)?;
    cloud.subnet(&vlan, &json!({"cidr": "10.1.0.0/24", "enable_dhcp": false}))?;
    let port = cloud.port(&network, host_of(subject), &json!({}))?;
    let sub_port = cloud.unbound_port(&vlan, host_of(subject), &json!({}))?;
    let peer_port = cloud.port(&vlan, OTHER, &json!({}))?;
    let peer = cloud.boot(&vlan, &peer_port)?;
    let trunk = cloud.trunk(&port, &[(&sub_port, INNER_VID)])?;
    let machine = cloud.plug_trunk(&network, &port, &[(&sub_port, INNER_VID)])?;
    cloud.wait_for_trunk(&trunk, "ACTIVE")?;
    cloud.wait_for_status(&sub_port, "ACTIVE")?;
    machine.machine.wait_for(peer_port.ipv4())?;
    peer.wait_for(sub_port.ipv4())?;
    peer.ping(sub_port.ipv4(), 20)
}
