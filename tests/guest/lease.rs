//! What a guest asks for when it boots.

use anyhow::{Result, ensure};
use overlane_tests::lab::{Instance, Lanes, Topology};

use crate::bed::Bed;

const METADATA: &str = "http://169.254.169.254";
const INSTANCE: &str = "1a000000-0000-4000-8000-000000000001";
const USER_DATA: &str = "#!/bin/sh\necho hello\n";

/// The other host is a network node. Nothing routes, so that the DHCP server is where metadata are asked for.
fn serve(topology: &mut Topology, guest: &str) {
    topology.make_network_node("right");
    let network = topology.networks[0].clone();
    topology.networks[0].mtu = Some(1400);
    topology.add_dhcp(&network, "right", 3);
    let port = topology.ports.iter_mut().find(|port| port.id == guest).expect("the guest has a port");
    INSTANCE.clone_into(&mut port.device_id);
    port.dns_name = Some("a-guest".to_owned());
    topology.instances.push(Instance {
        id: INSTANCE.to_owned(),
        name: "a guest".to_owned(),
        user_data: Some(USER_DATA.to_owned()),
        ..Instance::default()
    });
}

#[test]
fn a_guest_gets_its_address_by_dhcp_and_its_metadata_from_a_network_node() -> Result<()> {
    let bed = Bed::new(Lanes::Both, |topology, [guest, _]| serve(topology, &guest.id))?;
    let [guest, other] = bed.pair.ports.clone();
    bed.guest.lease()?;
    let address = bed.guest.run("ip -4 address show dev eth0")?;
    ensure!(address.contains(&format!("inet {}/24", guest.ipv4())), "{address}");
    ensure!(bed.guest.run("cat /sys/class/net/eth0/mtu")?.trim() == "1400");
    bed.guest.wait_for(other.ipv4())?;
    let fetch = |path: &str| bed.guest.run(&format!("wget -q -O - {METADATA}/{path}"));
    ensure!(fetch("latest/meta-data/instance-id")? == INSTANCE);
    ensure!(fetch("latest/user-data")? == USER_DATA);
    ensure!(fetch("openstack/latest/meta_data.json")?.contains("\"hostname\":\"a-guest\""));
    Ok(())
}
