//! What a guest asks for when it boots.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use overlane_core::services::metadata::State;
use overlane_tests::{
    lab::Lanes,
    metadata::{MetadataService, instance, network_id, socket},
};

use crate::bed::Bed;

/// The address of the metadata service.
const METADATA: &str = "169.254.169.254";

#[test]
fn a_guest_gets_its_address_by_dhcp_and_its_metadata_from_another_host() -> Result<()> {
    let bed = Bed::new(Lanes::Both, |topology, [_, server]| {
        let server = topology.ports.iter_mut().find(|port| port.id == server.id).expect("it was just added");
        "network:dhcp".clone_into(&mut server.device_owner);
        server.port_security_enabled = Some(false);
    })?;
    let [guest, server] = bed.pair.ports.clone();
    let configuration = bed.pair.folder().join("udhcpd.conf");
    let leases = bed.pair.folder().join("leases");
    fs::write(&leases, "").context("writing a file of leases")?;
    let text = format!(
        "interface eth0\nstart 10.0.10.100\nend 10.0.10.100\nlease_file {leases}\npidfile {leases}.pid\n\
         static_lease {} {}\noption subnet 255.255.255.0\noption mtu 1400\noption lease 3600\n\
         option staticroutes {METADATA}/32 {}\n",
        guest.mac_address,
        guest.ipv4(),
        server.ipv4(),
        leases = leases.display(),
    );
    fs::write(&configuration, text).context("writing a configuration")?;
    let _dhcp = bed.start(&format!("udhcpd -f {}", configuration.display()))?;

    let namespace = &bed.machine().namespace;
    namespace.run(&format!("ip address add {METADATA}/32 dev eth0"))?;
    let network = network_id(10);
    let mut machine = instance("a-guest", network, &guest.mac_address, &[guest.ipv4()])?;
    machine.user_data = Some(b"#!/bin/sh\necho hello\n".to_vec());
    let state = State {
        sockets: vec![socket(namespace, METADATA, None, 80, &[network])?],
        instances: vec![machine],
        ..State::default()
    };
    let service = MetadataService::start(&bed.pair.host("right").namespace, bed.pair.folder(), &state)?;

    bed.guest.lease()?;
    let address = bed.guest.run("ip -4 address show dev eth0")?;
    ensure!(address.contains(&format!("inet {}/24", guest.ipv4())), "{address}");
    ensure!(bed.guest.run("cat /sys/class/net/eth0/mtu")?.trim() == "1400");
    let fetch = |path: &str| bed.guest.run(&format!("wget -q -O - http://{METADATA}/{path}"));
    ensure!(fetch("latest/meta-data/instance-id")? == "a-guest", "{}", service.log()?);
    ensure!(fetch("latest/user-data")? == "#!/bin/sh\necho hello\n");
    ensure!(fetch("openstack/latest/meta_data.json")?.contains("\"hostname\":\"a-guest.example\""));
    Ok(())
}
