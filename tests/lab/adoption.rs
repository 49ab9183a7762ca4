//! A host that works already is taken over, and handed from agent to agent, without losing a packet.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use overlane_tests::{
    lab::{Host, Lanes, Pair, Stream, UPLINK, nothing_to_do},
    wait::wait_until,
};

fn interface_indices(host: &Host, names: &[&str]) -> Result<Vec<String>> {
    names
        .iter()
        .map(|name| {
            let line = host.run(&format!("ip -o link show {name}"))?;
            Ok(line.split(':').next().context("an interface index")?.to_owned())
        })
        .collect()
}

#[test]
fn a_running_linux_bridge_host_is_taken_over_without_losing_a_packet() -> Result<()> {
    let mut pair = Pair::bare()?;
    pair.boot()?;
    for index in [0, 1] {
        pair.set_up_like_the_linux_bridge_agent(index)?;
    }
    let [left, right] = &pair.ports;
    pair.left().wait_for(right.ipv4())?;
    pair.right().wait_for(left.ipv6())?;
    let (bridge, tap) = (pair.network.bridge(), left.tap());
    let devices = [bridge.as_str(), "vxlan-10", tap.as_str()];
    let before = interface_indices(pair.host("left"), &devices)?;
    let streams = [
        Stream::start(pair.folder(), &pair.left().namespace, right.ipv4())?,
        Stream::start(pair.folder(), &pair.right().namespace, left.ipv6())?,
    ];
    for name in ["left", "right"] {
        let agent = pair.lab.host(name).start_agent(&pair.topology_file, Lanes::Both)?;
        pair.agents.push(agent);
        nothing_to_do(pair.host(name))?;
    }
    for stream in streams {
        stream.expect_no_loss()?;
    }
    ensure!(interface_indices(pair.host("left"), &devices)? == before, "a device was made anew");
    ensure!(pair.host("left").counted("from_port", "tap", "encapsulated")? > 20, "the fast lane carries nothing");
    Ok(())
}

#[test]
fn restarting_and_killing_an_agent_loses_no_packet() -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    let streams = [
        Stream::start(pair.folder(), &pair.left().namespace, pair.ports[1].ipv4())?,
        Stream::start(pair.folder(), &pair.right().namespace, pair.ports[0].ipv6())?,
    ];
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        pair.replace_agent(signal, Lanes::Both, |_| Ok(()))?;
    }
    for stream in streams {
        stream.expect_no_loss()?;
    }
    Ok(())
}

#[test]
fn switching_the_fast_path_off_and_on_loses_no_packet() -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    let stream = Stream::start(pair.folder(), &pair.left().namespace, pair.ports[1].ipv4())?;
    for lanes in [Lanes::KernelOnly, Lanes::Both] {
        pair.replace_agent(Signal::SIGTERM, lanes, |_| Ok(()))?;
        ensure!(pair.host("left").pins().exists() == (lanes == Lanes::Both), "the pins tell another story");
    }
    stream.expect_no_loss()
}

#[test]
fn what_others_have_put_on_a_host_stays() -> Result<()> {
    let pair = Pair::bare()?;
    let host = pair.host("left");
    // A bridge of libvirt, a tap that no port has, a vxlan device and an FDB entry of somebody else.
    host.run("ip link add name virbr0 type bridge")?;
    host.run("ip link add tapdeadbeef-00 type veth peer name other")?;
    host.run(&format!("ip link add vxlan99 type vxlan id 99 local {} dev {UPLINK} dstport 8472", host.local_ip))?;
    host.run("bridge fdb add 02:00:00:00:00:01 dev vxlan99 dst 192.0.2.1")?;
    host.run("ip link set tapdeadbeef-00 master virbr0")?;
    let picture = || -> Result<String> {
        let links = ["virbr0", "tapdeadbeef-00", "vxlan99"].map(|name| host.run(&format!("ip -d link show {name}")));
        let links: Result<Vec<String>> = links.into_iter().collect();
        // Bridges show timers, which tick.
        let links = links?.concat().lines().filter(|line| !line.contains("timer")).collect::<Vec<_>>().join("\n");
        Ok(links + &host.run("bridge fdb show dev vxlan99")?)
    };
    let before = picture()?;
    let agent = host.start_agent(&pair.topology_file, Lanes::Both)?;
    nothing_to_do(host)?;
    agent.stop(Signal::SIGTERM)?;
    ensure!(picture()? == before, "before:\n{before}\nafter:\n{}", picture()?);
    Ok(())
}

#[test]
fn an_agent_with_another_map_version_is_replaced_without_losing_a_packet() -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    let streams = [
        Stream::start(pair.folder(), &pair.left().namespace, pair.ports[1].ipv4())?,
        Stream::start(pair.folder(), &pair.right().namespace, pair.ports[0].ipv6())?,
    ];
    for round in 0..5 {
        let signal = if round % 2 == 0 { Signal::SIGTERM } else { Signal::SIGKILL };
        pair.replace_agent(signal, Lanes::Both, Host::pretend_to_be_older)?;
        ensure!(!pair.host("left").older_pins().exists(), "the old version is still pinned");
    }
    for stream in streams {
        stream.expect_no_loss()?;
    }
    let attached = pair.host("left").attached(&pair.ports[0].tap())?;
    ensure!(attached == ["from_port", "to_port"], "{attached:?}");
    pair.ping_all(5)?;
    ensure!(pair.host("left").counted("from_port", "tap", "encapsulated")? >= 10, "the fast lane carries nothing");
    Ok(())
}

#[test]
fn attachments_of_another_version_whose_interface_is_gone_or_not_ours_any_more_end() -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    pair.agents.remove(0).stop(Signal::SIGTERM)?;
    pair.host("left").pretend_to_be_older()?;
    pair.topology.ports.retain(|port| port.host != "left");
    pair.topology.write(&pair.topology_file)?;
    pair.host("left").run("ip link delete vxlan-10")?;
    let agent = pair.host("left").start_agent(&pair.topology_file, Lanes::Both)?;
    nothing_to_do(pair.host("left"))?;
    ensure!(!pair.host("left").older_pins().exists());
    // The kernel ends an attachment a moment after its last pin is gone.
    wait_until("no program is attached", || Ok(pair.host("left").attached(&pair.ports[0].tap())?.is_empty()))?;
    drop(agent);
    Ok(())
}
