//! What becomes of leases when ports, subnets and networks change.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use overlane_tests::{
    lab::{Lanes, Subnet},
    wait::{wait_at_most, wait_until},
};

use super::{Cloud, said, same};

#[test]
fn a_port_that_is_added_or_changed_is_known_at_once_without_a_restart() -> Result<()> {
    let mut cloud = Cloud::running(Lanes::Both)?;
    let pid = cloud.pid()?;
    let network = cloud.pair.network.clone();
    let port = cloud.pair.topology.add_port(&network, "right", 77);
    let begun = Instant::now();
    cloud.pair.topology.write(&cloud.pair.topology_file)?;
    wait_at_most(Duration::from_secs(2), "the port has a reservation", || {
        Ok(cloud.read("host")?.contains(&port.mac_address).then_some(()))
    })?;
    ensure!(begun.elapsed() < Duration::from_secs(1), "it took {:?}", begun.elapsed());
    let machine = cloud.boot(&port)?;
    same("ip", said(&cloud.lease(&machine)?, "ip"), "10.0.10.77")?;
    // Another address for the same machine: its lease of the old one does not hold it back.
    cloud.pair.change(|topology| {
        topology.ports.last_mut().expect("it").fixed_ips = vec!["10.0.10.78".to_owned()];
    })?;
    same("ip", said(&cloud.lease(&machine)?, "ip"), "10.0.10.78")?;
    same("the same process", cloud.pid()?, pid)
}

#[test]
fn an_address_is_free_for_another_machine_as_soon_as_its_port_has_gone() -> Result<()> {
    let mut cloud = Cloud::running(Lanes::Both)?;
    let pid = cloud.pid()?;
    let machine = cloud.boot(&cloud.pair.ports[1])?;
    same("ip", said(&cloud.lease(&machine)?, "ip"), "10.0.10.2")?;
    ensure!(cloud.read("leases")?.contains(" 10.0.10.2 "));
    let network = cloud.pair.network.clone();
    cloud.pair.change(|topology| topology.ports.retain(|port| port.ipv4() != "10.0.10.2"))?;
    wait_until("the lease is released", || Ok(!cloud.read("leases")?.contains(" 10.0.10.2 ")))?;
    let mut successor = cloud.pair.topology.add_port(&network, "right", 99);
    successor.fixed_ips = vec!["10.0.10.2".to_owned()];
    *cloud.pair.topology.ports.last_mut().expect("it") = successor.clone();
    cloud.pair.change(|_| ())?;
    let other = cloud.boot(&successor)?;
    same("ip", said(&cloud.lease(&other)?, "ip"), "10.0.10.2")?;
    same("the same process", cloud.pid()?, pid)
}

#[test]
fn another_subnet_is_another_start_and_leases_survive_it() -> Result<()> {
    let mut cloud = Cloud::running(Lanes::Both)?;
    let machine = cloud.boot(&cloud.pair.ports[1])?;
    cloud.lease(&machine)?;
    let (pid, leases) = (cloud.pid()?, cloud.read("leases")?);
    cloud.pair.change(|topology| topology.networks[0].subnets.push(Subnet::of("11.0.0.0/24")))?;
    ensure!(cloud.pid()? != pid, "it knows nothing of the new subnet");
    let line = leases.lines().find(|line| line.contains(" 10.0.10.2 ")).unwrap_or_default();
    wait_until("the lease is still there", || Ok(cloud.read("leases")?.contains(line)))?;
    same("ip", said(&cloud.lease(&machine)?, "ip"), "10.0.10.2")
}

#[test]
fn a_subnet_that_is_served_no_longer_takes_its_leases_with_it_however_many_there_are() -> Result<()> {
    let mut cloud = Cloud::with(Lanes::Both, |topology, _| {
        // With room for four, and the other one has had five.
        topology.networks[0].subnets[1].enable_dhcp = Some(false);
        topology.networks[0].subnets.push(Subnet::of("11.0.0.0/30"));
        topology.ports[1].fixed_ips.push("11.0.0.2".to_owned());
        topology.ports.last_mut().expect("the server's port").fixed_ips.push("11.0.0.1".to_owned());
    })?;
    let machine = cloud.boot(&cloud.pair.ports[1])?;
    let given = cloud.lease(&machine)?;
    ensure!(cloud.read("leases")?.contains(&format!(" {} ", said(&given, "ip"))));
    ensure!(cloud.read("leases")?.lines().filter(|line| !line.starts_with("duid")).count() > 4);
    cloud.pair.change(|topology| topology.networks[0].subnets[0].enable_dhcp = Some(false))?;
    same("ip", said(&cloud.lease(&machine)?, "ip"), "11.0.0.2")?;
    let leases = cloud.read("leases")?;
    ensure!(!leases.contains(" 10.0.10."), "{leases}");
    Ok(())
}

#[test]
fn what_is_no_longer_wanted_goes_and_what_somebody_else_keeps_there_stays() -> Result<()> {
    let mut cloud = Cloud::running(Lanes::Both)?;
    let pid = cloud.pid()?;
    // The place of the files may be one that others use: a state path of Neutron's, or /var/lib.
    let state = cloud.node().folder().join("state");
    let others = [state.join("dhcp/of-somebody-else/host"), state.join("something/else/file")];
    for file in &others {
        fs::create_dir_all(file.parent().context("a folder")?)?;
        fs::write(file, "precious")?;
    }
    cloud.pair.change(|topology| {
        topology.networks[0].subnets.iter_mut().for_each(|subnet| subnet.enable_dhcp = Some(false));
    })?;
    let node = cloud.node();
    ensure!(!node.run("ip netns list")?.contains("qdhcp-"), "the namespace is left");
    // The kernel takes a namespace apart in its own time.
    wait_until("the tap has gone", || Ok(!node.run("ip -o link show")?.contains(&cloud.server.tap())))?;
    ensure!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "dnsmasq is left");
    wait_until("its folder has gone", || Ok(!cloud.file("").exists()))?;
    ensure!(others.iter().all(|file| file.exists()), "what is somebody else's has gone");
    Ok(())
}
