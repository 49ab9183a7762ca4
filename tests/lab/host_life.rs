//! The life of a host: one agent at a time, devices that end, back-out, and what the tools say about it all.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use overlane_tests::{
    lab::{Lanes, Pair, Process, Stream, UPLINK, nothing_to_do, overlane_binary},
    wait::wait_until,
};

#[test]
fn a_second_agent_on_the_same_host_refuses_to_start() -> Result<()> {
    let pair = Pair::running(Lanes::Both)?;
    let (status, log) = {
        let host = pair.host("left");
        let mut command = host.namespace.command(overlane_binary());
        command.arg("agent").arg("--config-file").arg(host.config_file());
        let mut second = Process::start(&mut command, &host.folder().join("second.log"), false)?;
        (second.wait()?, second.output()?)
    };
    ensure!(status.code() == Some(1) && log.contains("an agent is running on this host already, as process"), "{log}");
    // The first one goes on, and the other host's agent was never in the way.
    pair.ping_all(5)
}

#[test]
fn detach_gives_the_host_back_to_the_kernel_lane_without_losing_a_packet() -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    let running = pair.host("left").overlane("detach");
    ensure!(
        running.is_err_and(|error| format!("{error:#}").contains("stop it first")),
        "detached under a running agent"
    );
    let streams = [
        Stream::start(pair.folder(), &pair.left().namespace, pair.ports[1].ipv4())?,
        Stream::start(pair.folder(), &pair.right().namespace, pair.ports[0].ipv6())?,
    ];
    pair.agents.remove(0).stop(Signal::SIGTERM)?;
    pair.host("left").overlane("detach")?;
    for stream in streams {
        stream.expect_no_loss()?;
    }
    ensure!(!pair.host("left").pins().exists(), "something is still pinned");
    for device in [pair.ports[0].tap().as_str(), "vxlan-10", UPLINK] {
        let attached = pair.host("left").attached(device)?;
        ensure!(attached.is_empty(), "{attached:?} at {device}");
    }
    ensure!(pair.host("left").show("ports")?[0]["lane"] == "kernel");
    Ok(())
}

#[test]
fn purge_removes_what_overlane_has_made_and_nothing_else() -> Result<()> {
    let mut pair = Pair::bare()?;
    let host = pair.lab.host("left");
    host.run("ip link add name virbr0 type bridge")?;
    let before = host.run("ip -o link")?;
    let agent = host.start_agent(&pair.topology_file, Lanes::Both)?;
    let machine = host.boot(pair.lab.world(), &pair.ports[0])?;
    nothing_to_do(host)?;
    agent.stop(Signal::SIGTERM)?;
    host.overlane("detach --purge")?;
    let tap = pair.ports[0].tap();
    ensure!(host.run(&format!("ip -o link show {tap}"))?.contains(&tap), "the machine's tap is gone");
    host.run(&format!("ip link delete {tap}"))?;
    drop(machine);
    let names =
        |links: &str| links.lines().filter_map(|line| Some(line.split(": ").nth(1)?.to_owned())).collect::<Vec<_>>();
    ensure!(names(&host.run("ip -o link")?) == names(&before), "{}", host.run("ip -o link")?);
    ensure!(host.overlane("detach --purge")?.contains("There is no device and no limit that Overlane has made."));
    pair.agents.clear();
    Ok(())
}

#[test]
fn devices_end_after_the_grace_period_but_not_under_a_tap_and_not_if_only_adopted() -> Result<()> {
    let mut pair = Pair::bare()?;
    let other = pair.topology.add_network(11);
    let adopted = pair.topology.add_network(12);
    let ports = [&other, &adopted].map(|network| pair.topology.add_port(network, "left", 5));
    pair.topology.write(&pair.topology_file)?;
    let host = pair.host("left");
    host.run(&format!("ip link add name {} type bridge", adopted.bridge()))?;
    host.add_config("unused_device_grace_secs = 1\n");
    let _agent = host.start_agent(&pair.topology_file, Lanes::Both)?;
    let machine = host.boot(pair.lab.world(), &ports[0])?;
    nothing_to_do(host)?;
    pair.topology.ports.clear();
    pair.topology.write(&pair.topology_file)?;
    let host = pair.host("left");
    wait_until("the unused network is gone", || {
        let links = host.run("ip -o link")?;
        Ok(!links.contains(&pair.network.bridge()) && !links.contains("vxlan-10"))
    })?;
    let links = host.run("ip -o link")?;
    ensure!(links.contains(&other.bridge()), "a bridge was deleted under a tap");
    ensure!(links.contains(&adopted.bridge()), "an adopted bridge was deleted");
    host.run(&format!("ip link delete {}", machine.port.tap()))?;
    wait_until("the bridge follows its last tap", || Ok(!host.run("ip -o link")?.contains(&other.bridge())))
}

#[test]
fn a_network_that_comes_back_within_the_grace_period_finds_its_devices() -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    let links = |pair: &Pair| pair.host("left").run("ip -o link show vxlan-10");
    let before = links(&pair)?;
    let topology = pair.topology.clone();
    pair.topology.ports.retain(|port| port.host != "left");
    pair.topology.write(&pair.topology_file)?;
    wait_until("the port has left the fast lane", || Ok(pair.host("left").show("counters")?.len() < 4))?;
    topology.write(&pair.topology_file)?;
    nothing_to_do(pair.host("left"))?;
    ensure!(links(&pair)? == before);
    pair.settle()
}

#[test]
fn verify_explains_every_difference_in_a_sentence() -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    let host = pair.lab.host("left");
    ensure!(host.overlane("verify")?.starts_with("Desired state, kernel and maps agree."));
    pair.agents.remove(0).stop(Signal::SIGTERM)?;
    let (tap, bridge) = (pair.ports[0].tap(), pair.network.bridge());
    host.run(&format!("ip link set {tap} nomaster"))?;
    host.run("bridge fdb del 00:00:00:00:00:00 dev vxlan-10")?;
    host.run("ip link add tapdeadbeef-00 type veth peer name other")?;
    std::fs::remove_file(host.pins().join("links").join(format!("from_uplink-{}", ifindex(&pair, "eth1")?)))?;
    let expect = |expected: &[String]| -> Result<()> {
        let Err(error) = host.overlane("verify") else { anyhow::bail!("nothing was found") };
        let text = format!("{error:#}");
        for sentence in expected {
            ensure!(text.contains(sentence), "{sentence:?} is not in\n{text}");
        }
        Ok(())
    };
    expect(&[
        format!("{tap} is not in bridge {bridge}"),
        "the entry of vxlan-10 for 00:00:00:00:00:00 at 10.10.10.12 is missing".to_owned(),
        "program from_uplink is not attached to eth1".to_owned(),
        "note: tapdeadbeef-00 is here, but the control plane has no port of that name on this host".to_owned(),
    ])?;
    host.run(&format!("ip link delete {bridge}"))?;
    expect(&[format!("bridge {bridge} does not exist; network net10 needs it for {tap} (there)")])
}

fn ifindex(pair: &Pair, device: &str) -> Result<String> {
    let line = pair.host("left").run(&format!("ip -o link show {device}"))?;
    Ok(line.split(':').next().context("an interface index")?.to_owned())
}
