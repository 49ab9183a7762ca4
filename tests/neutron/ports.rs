//! Changes of ports and networks reach the machines that run.

use anyhow::{Result, ensure};
use overlane_tests::{
    neutron::{Agent, Bed, Cloud, PEER},
    wait::wait_until,
};
use serde_json::json;

expect_of_overlane! {
    a_machine_may_use_the_addresses_of_its_port_and_no_others
    an_allowed_address_pair_is_reached_while_it_is_allowed
    a_port_that_is_administratively_down_carries_nothing
    a_new_mtu_reaches_the_devices_of_the_network
    a_deleted_port_is_forgotten_by_other_hosts
    a_deleted_network_leaves_the_host
}

fn a_machine_may_use_the_addresses_of_its_port_and_no_others(subject: Agent) -> Result<()> {
    let cloud = Cloud::shared()?;
    let bed = Bed::of(&cloud, subject)?;
    bed.wait_until_connected()?;
    let (old, new) = (bed.ports[0].ipv4(), "10.0.0.222");
    bed.left().run(&format!("ip address add {new}/24 dev eth0"))?;
    ensure!(!bed.right().reaches(new), "it is not the port's yet");
    cloud.update_port(&bed.ports[0], &json!({"fixed_ips": [{"ip_address": new}]}))?;
    bed.right().wait_for(new)?;
    wait_until("the old address is refused", || Ok(!bed.right().reaches(old)))?;
    cloud.wait_for_status(&bed.ports[0], "ACTIVE")
}

fn an_allowed_address_pair_is_reached_while_it_is_allowed(subject: Agent) -> Result<()> {
    let cloud = Cloud::shared()?;
    let bed = Bed::of(&cloud, subject)?;
    bed.wait_until_connected()?;
    let virtual_address = "10.0.0.200";
    bed.left().run(&format!("ip address add {virtual_address}/24 dev eth0"))?;
    ensure!(!bed.right().reaches(virtual_address), "it is not allowed yet");
    cloud.update_port(&bed.ports[0], &json!({"allowed_address_pairs": [{"ip_address": virtual_address}]}))?;
    bed.right().wait_for(virtual_address)?;
    cloud.update_port(&bed.ports[0], &json!({"allowed_address_pairs": []}))?;
    wait_until("it is not allowed any more", || Ok(!bed.right().reaches(virtual_address)))?;
    bed.right().wait_for(bed.ports[0].ipv4())
}

fn a_port_that_is_administratively_down_carries_nothing(subject: Agent) -> Result<()> {
    let cloud = Cloud::shared()?;
    let bed = Bed::of(&cloud, subject)?;
    bed.wait_until_connected()?;
    cloud.update_port(&bed.ports[0], &json!({"admin_state_up": false}))?;
    cloud.wait_for_status(&bed.ports[0], "DOWN")?;
    wait_until("it carries nothing", || Ok(!bed.right().reaches(bed.ports[0].ipv4())))?;
    cloud.update_port(&bed.ports[0], &json!({"admin_state_up": true}))?;
    cloud.wait_for_status(&bed.ports[0], "ACTIVE")?;
    bed.wait_until_connected()
}

fn a_new_mtu_reaches_the_devices_of_the_network(subject: Agent) -> Result<()> {
    let cloud = Cloud::shared()?;
    let bed = Bed::of(&cloud, subject)?;
    cloud.update_network(&bed.network, &json!({"mtu": 1300}))?;
    let host = cloud.lab().host(bed.host());
    for device in [bed.ports[0].tap(), bed.network.vxlan(), bed.network.bridge()] {
        let has_it = || Ok(host.run(&format!("ip link show {device}"))?.contains(" mtu 1300 "));
        wait_until(&format!("{device} has the new MTU"), has_it)?;
    }
    Ok(())
}

fn a_deleted_port_is_forgotten_by_other_hosts(subject: Agent) -> Result<()> {
    let cloud = Cloud::shared()?;
    let bed = Bed::of(&cloud, subject)?;
    bed.wait_until_connected()?;
    // Either host forgets the other one's machine. It is told as long as it has a port of the network.
    for (index, witness) in [(1, bed.host()), (0, PEER)] {
        let port = &bed.ports[index];
        // What the bridge has learned is in the list too, without a destination.
        let is_known = || {
            let table = cloud.lab().host(witness).run(&format!("bridge fdb show dev {}", bed.network.vxlan()))?;
            Ok(table.lines().any(|line| line.starts_with(&port.mac_address) && line.contains(" dst ")))
        };
        wait_until(&format!("{witness} knows it"), is_known)?;
        cloud.unplug(port)?;
        cloud.delete_port(port)?;
        wait_until(&format!("{witness} has forgotten it"), || Ok(!is_known()?))?;
    }
    Ok(())
}

fn a_deleted_network_leaves_the_host(subject: Agent) -> Result<()> {
    let cloud = Cloud::shared()?;
    let bed = Bed::of(&cloud, subject)?;
    bed.wait_until_connected()?;
    for port in &bed.ports {
        cloud.unplug(port)?;
        cloud.delete_port(port)?;
    }
    cloud.delete_network(&bed.network)?;
    let host = cloud.lab().host(bed.host());
    for device in [bed.network.bridge(), bed.network.vxlan()] {
        wait_until(&format!("{device} is gone"), || Ok(host.run(&format!("ip link show {device}")).is_err()))?;
    }
    Ok(())
}
