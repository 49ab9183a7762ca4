//! What goes wrong, and what becomes of it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    mount::{MsFlags, mount, umount},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use overlane_tests::{
    lab::Lanes,
    wait::{wait_at_most, wait_until},
};

use super::{Cloud, said, same};

const DNSMASQ: &str = "/usr/sbin/dnsmasq";

#[test]
fn the_server_goes_on_without_the_agent_and_is_adopted_by_the_next_one() -> Result<()> {
    let mut cloud = Cloud::running(Lanes::Both)?;
    let (pid, machine) = (cloud.pid()?, cloud.boot(&cloud.pair.ports[1])?);
    cloud.pair.agents.remove(0).stop(Signal::SIGKILL)?;
    same("ip", said(&cloud.lease(&machine)?, "ip"), "10.0.10.2")?;
    let agent = cloud.node().start_agent(&cloud.pair.topology_file, Lanes::Both)?;
    cloud.pair.agents.insert(0, agent);
    cloud.pair.finish()?;
    same("the same process", cloud.pid()?, pid)?;
    same("ip", said(&cloud.lease(&machine)?, "ip"), "10.0.10.2")
}

#[test]
fn a_server_that_is_killed_is_back_within_a_second_and_knows_its_leases() -> Result<()> {
    let cloud = Cloud::running(Lanes::Both)?;
    let machine = cloud.boot(&cloud.pair.ports[1])?;
    cloud.lease(&machine)?;
    let pid = cloud.pid()?;
    kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL).context("killing dnsmasq")?;
    let begun = Instant::now();
    wait_at_most(Duration::from_secs(5), "another one runs", || {
        let now = fs::read_to_string(cloud.file("pid")).unwrap_or_default();
        let now = now.trim().parse::<u64>().ok().filter(|now| *now != pid);
        Ok(now.filter(|now| Path::new(&format!("/proc/{now}")).exists()))
    })?;
    ensure!(begun.elapsed() < Duration::from_secs(1), "it took {:?}", begun.elapsed());
    same("ip", said(&cloud.lease(&machine)?, "ip"), "10.0.10.2")
}

#[test]
fn a_namespace_that_is_deleted_is_made_again() -> Result<()> {
    let cloud = Cloud::running(Lanes::Both)?;
    let machine = cloud.boot(&cloud.pair.ports[1])?;
    cloud.lease(&machine)?;
    cloud.node().run(&format!("ip netns delete {}", cloud.namespace()))?;
    wait_until("it is there again", || Ok(cloud.inside("ip -o link show up")?.contains(&cloud.link())))?;
    same("ip", said(&cloud.lease(&machine)?, "ip"), "10.0.10.2")?;
    cloud.pair.finish()
}

#[test]
fn files_that_somebody_changes_and_addresses_that_somebody_takes_are_put_back() -> Result<()> {
    let mut cloud = Cloud::running(Lanes::Both)?;
    cloud.pid()?;
    cloud.pair.finish()?;
    cloud.inside(&format!("ip address delete 10.0.10.3/24 dev {}", cloud.link()))?;
    wait_until("the address is there", || Ok(cloud.inside("ip -o address show")?.contains("10.0.10.3/24")))?;
    let host = cloud.read("host")?;
    fs::write(cloud.file("host"), "")?;
    // Nothing tells of a file; the next agent looks, as every agent does from time to time.
    cloud.pair.agents.remove(0).stop(Signal::SIGKILL)?;
    let agent = cloud.node().start_agent(&cloud.pair.topology_file, Lanes::Both)?;
    cloud.pair.agents.insert(0, agent);
    wait_until("the file is there", || Ok(cloud.read("host")? == host))
}

#[test]
fn a_network_whose_namespace_somebody_else_has_made_waits_and_says_so() -> Result<()> {
    let mut cloud = Cloud::running(Lanes::Both)?;
    let other = cloud.pair.topology.add_network(20);
    let name = format!("qdhcp-{}", other.id);
    cloud.node().run(&format!("ip netns add {name}"))?;
    cloud.pair.topology.add_dhcp(&other, "left", 3);
    cloud.pair.topology.write(&cloud.pair.topology_file)?;
    let agent = &cloud.pair.agents[0];
    agent.wait_for_log(&format!("namespace {name} is there already, and Overlane has not made it"))?;
    // The other one works.
    let machine = cloud.boot(&cloud.pair.ports[1])?;
    same("ip", said(&cloud.lease(&machine)?, "ip"), "10.0.10.2")?;
    cloud.node().run(&format!("ip netns delete {name}"))?;
    wait_until("both run", || Ok(cloud.node().show("dhcp")?.iter().all(|row| row["pid"].is_u64())))
}

/// Puts something else in the place of dnsmasq, for this test only.
fn replace_dnsmasq(cloud: &Cloud, script: &str) -> Result<()> {
    let file = cloud.pair.folder().join("instead");
    fs::write(&file, script).context("writing a script")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).context("making a script executable")?;
    mount(Some(&file), DNSMASQ, None::<&str>, MsFlags::MS_BIND, None::<&str>).context("covering dnsmasq")
}

fn expect_complaint(script: &str, complaint: &str) -> Result<()> {
    let mut cloud = Cloud::running(Lanes::Both)?;
    cloud.pid()?;
    // Before another network asks for one more.
    replace_dnsmasq(&cloud, script)?;
    let other = cloud.pair.topology.add_network(20);
    let ports = [cloud.pair.topology.add_port(&other, "left", 1), cloud.pair.topology.add_port(&other, "right", 2)];
    cloud.pair.topology.add_dhcp(&other, "left", 3);
    cloud.pair.topology.write(&cloud.pair.topology_file)?;
    cloud.pair.agents[0].wait_for_log(complaint)?;
    let node = cloud.node();
    wait_until("show agent tells", || Ok(node.overlane("show agent")?.contains(complaint)))?;
    let Err(differences) = node.overlane("verify") else { anyhow::bail!("verify finds nothing") };
    ensure!(format!("{differences:#}").contains(complaint), "{differences:#}");
    // Everything else works: what the network connects, and the server that runs already.
    let world = cloud.pair.lab.world();
    let machines = [cloud.pair.host("left").boot(world, &ports[0])?, cloud.pair.host("right").boot(world, &ports[1])?];
    machines[0].wait_for(machines[1].port.ipv4())?;
    let machine = cloud.boot(&cloud.pair.ports[1])?;
    same("ip", said(&cloud.lease(&machine)?, "ip"), "10.0.10.2")?;
    umount(DNSMASQ).context("uncovering dnsmasq")?;
    wait_at_most(Duration::from_secs(60), "both run", || {
        Ok(node.show("dhcp")?.iter().all(|row| row["pid"].is_u64()).then_some(()))
    })
}

#[test]
fn nothing_else_in_a_namespace_waits_for_a_program_that_does_not_start() -> Result<()> {
    const SOON: Duration = Duration::from_secs(3);
    let mut cloud = Cloud::running(Lanes::Both)?;
    let pid = cloud.pid()?;
    let tries = cloud.pair.folder().join("tries");
    replace_dnsmasq(&cloud, &format!("#!/bin/sh\necho again >>{}\necho 'Dnsmasq version 2.72'\n", tries.display()))?;
    kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL).context("killing dnsmasq")?;
    let n_tries = || fs::read_to_string(&tries).unwrap_or_default().lines().count();
    wait_until("the next try is more than six seconds away", || Ok(n_tries() >= 6))?;
    let n_before = n_tries();
    cloud.inside(&format!("ip address delete 10.0.10.3/24 dev {}", cloud.link()))?;
    wait_at_most(SOON, "the address is back", || {
        Ok(cloud.inside("ip -o address show")?.contains("10.0.10.3/24").then_some(()))
    })?;
    same("tries", n_tries(), n_before)?;
    // Whoever changes what is wanted may have mended it.
    cloud.pair.topology.networks[0].mtu = Some(1400);
    cloud.pair.topology.write(&cloud.pair.topology_file)?;
    wait_at_most(SOON, "it is tried at once", || Ok((n_tries() > n_before).then_some(())))?;
    ensure!(cloud.inside("ip -o link show")?.contains("mtu 1400"));
    umount(DNSMASQ).context("uncovering dnsmasq")?;
    wait_until("it runs", || Ok(cloud.node().show("dhcp")?[0]["pid"].is_u64()))
}

#[test]
fn a_dnsmasq_that_is_too_old_is_named_and_everything_else_works() -> Result<()> {
    let script = "#!/bin/sh\necho 'Dnsmasq version 2.72  Copyright (c) 2000-2014 Simon Kelley'\n";
    expect_complaint(script, "dnsmasq 2.72 is too old: 2.81 or newer is needed")
}

#[test]
fn a_dnsmasq_that_is_missing_is_named_and_everything_else_works() -> Result<()> {
    // To whom starts it, a program without an interpreter is not there.
    expect_complaint("#!/nowhere\n", "dnsmasq is not installed (on Debian: apt-get install dnsmasq-base)")
}
