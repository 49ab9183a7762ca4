//! Who asks is known by the network and the address that the question comes from.

use anyhow::{Result, ensure};
use overlane_core::services::metadata::State;
use overlane_tests::{
    lab::World,
    metadata::{MetadataService, instance, network_id, socket},
};
use serde_json::Value;

use super::{ADDRESS, Clouds, LINK_LOCAL, curl, curl_url, furnish, get, mac};

#[test]
fn machines_with_the_same_address_in_two_networks_get_each_its_own_metadata() -> Result<()> {
    let clouds = Clouds::new(&["one", "two"], |state| furnish(&mut state.instances[1]))?;
    for (machine, id) in clouds.machines.iter().zip(["one", "two"]) {
        ensure!(get(machine, "/latest/meta-data/instance-id")? == id);
        ensure!(get(machine, "/2009-04-04/meta-data/local-hostname")? == format!("{id}.example"));
        let document: Value = serde_json::from_str(&get(machine, "/openstack/latest/meta_data.json")?)?;
        ensure!(document["uuid"] == id, "{document}");
        // The link-local address that the machine has given itself is known as well.
        let url = format!("http://[{LINK_LOCAL}%25eth0]/latest/meta-data/instance-id");
        ensure!(curl_url(machine, &url, &[])? == format!("{id}\n200"));
    }
    let two = &clouds.machines[1];
    ensure!(get(two, "/latest/meta-data/public-ipv4")? == "203.0.113.7");
    ensure!(get(two, "/latest/meta-data/public-keys/0/openssh-key")? == "ssh-ed25519 AAAA me@example");
    ensure!(get(two, "/openstack/latest/")? == "meta_data.json\nuser_data\nvendor_data.json\nnetwork_data.json");
    ensure!(curl(&clouds.machines[0], "/latest/user-data", &[])?.0 == "404", "it has none");
    Ok(())
}

#[test]
fn user_data_of_any_bytes_arrives_as_it_is() -> Result<()> {
    let clouds = Clouds::new(&["one"], |state| furnish(&mut state.instances[0]))?;
    let file = clouds.world.folder().join("user-data");
    let output = file.display().to_string();
    for path in ["/latest/user-data", "/openstack/2018-08-27/user_data"] {
        curl(clouds.machine(), path, &["--fail", "--output", &output])?;
        ensure!(std::fs::read(&file)? == (0..=255).collect::<Vec<u8>>(), "{path}");
    }
    Ok(())
}

#[test]
fn what_a_machine_says_of_itself_is_not_believed() -> Result<()> {
    let clouds = Clouds::new(&["one", "two"], |_| ())?;
    let claims =
        ["X-Forwarded-For: 10.0.0.6", "X-Instance-ID: two", "X-Tenant-ID: x", "Forwarded: for=10.0.0.6", "Host: two"];
    let options: Vec<&str> = claims.iter().flat_map(|claim| ["--header", claim]).collect();
    ensure!(curl(clouds.machine(), "/latest/meta-data/instance-id", &options)? == ("200".to_owned(), "one".to_owned()));
    Ok(())
}

#[test]
fn an_address_that_no_port_has_is_told_so_and_logged_once() -> Result<()> {
    let clouds = Clouds::new(&["one"], |_| ())?;
    clouds.machine().run("ip address add 10.0.0.66/24 dev eth0")?;
    for _ in 0..3 {
        let (status, body) = curl(clouds.machine(), "/latest/meta-data/instance-id", &["--interface", "10.0.0.66"])?;
        ensure!(
            status == "404" && body.starts_with("No metadata for 10.0.0.66: no port of the networks"),
            "{status} {body}"
        );
    }
    let log = clouds.service.log()?;
    ensure!(log.matches("No metadata for 10.0.0.66").count() == 1, "{log}");
    Ok(())
}

#[test]
fn a_router_serves_the_machines_of_all_its_networks_and_no_others() -> Result<()> {
    let world = World::private()?;
    let (host, router) = (world.namespace("host")?, world.namespace("qrouter-1")?);
    router.set_parameter("net/ipv4/ip_forward", "1")?;
    let mut machines = Vec::new();
    let mut state = State::default();
    for number in [1_u8, 2] {
        let machine = world.namespace(&format!("vm-{number}"))?;
        let (name, mac) = (machine.name(), mac(number));
        router.run(&format!("ip link add qr-{number} type veth peer name eth0 address {mac} netns {name}"))?;
        router.run(&format!("ip address add 10.0.{number}.1/24 dev qr-{number}"))?;
        router.set_parameter(&format!("net/ipv6/conf/qr-{number}/accept_dad"), "0")?;
        router.run(&format!("ip link set qr-{number} up"))?;
        machine.set_parameter("net/ipv6/conf/eth0/accept_dad", "0")?;
        machine.run("ip link set eth0 up")?;
        machine.run(&format!("ip address add 10.0.{number}.5/24 dev eth0"))?;
        machine.run(&format!("ip route add default via 10.0.{number}.1"))?;
        state.instances.push(instance(name, network_id(number.into()), &mac, &[&format!("10.0.{number}.5")])?);
        machines.push(machine);
    }
    // A network that this router does not connect uses one of its addresses.
    state.instances.push(instance("elsewhere", network_id(3), &mac(3), &["10.0.2.77"])?);
    router.run("nft add table ip overlane")?;
    router.run("nft add chain ip overlane prerouting { type nat hook prerouting priority dstnat ; }")?;
    router.run(&format!("nft add rule ip overlane prerouting ip daddr {ADDRESS} tcp dport 80 redirect to :9697"))?;
    state.sockets.push(socket(&router, "0.0.0.0", None, 9697, &[network_id(1), network_id(2)])?);
    // Link-local addresses say nothing about the network: each interface has a socket of its own.
    for number in [1, 2] {
        state.sockets.push(socket(&router, "::", Some(&format!("qr-{number}")), 9697, &[network_id(number)])?);
    }
    let _service = MetadataService::start(&host, world.folder(), &state)?;
    for (number, machine) in (1..).zip(&machines) {
        ensure!(get(machine, "/latest/meta-data/instance-id")? == machine.name());
        let gateway = router.run(&format!("ip -6 -o address show dev qr-{number} scope link"))?;
        let gateway = gateway.split_whitespace().nth(3).and_then(|prefix| prefix.split('/').next()).unwrap_or_default();
        let url = format!("http://[{gateway}%25eth0]:9697/latest/meta-data/instance-id");
        ensure!(curl_url(machine, &url, &[])? == format!("{}\n200", machine.name()));
    }
    machines[1].run("ip address add 10.0.2.77/24 dev eth0")?;
    let (status, _) = curl(&machines[1], "/latest/meta-data/instance-id", &["--interface", "10.0.2.77"])?;
    ensure!(status == "404", "status {status}");
    Ok(())
}
