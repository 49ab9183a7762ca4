//! Taps are closed from their first packet on: before the agent has seen them, while it is dead, and when nobody knows them.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use overlane_tests::{
    lab::{Agent, Connection, HOSTS, Lanes, Machine, Pair, Rule, Stream, Topology, Waiting, nothing_to_do, send_udp},
    wait::wait_until,
};

/// Two hosts whose ports admit and send anything, as far as groups can say so.
fn pair_with_groups() -> Result<Pair> {
    Pair::with_groups(Lanes::Both, |topology, _| add_open_group(topology))
}

fn add_open_group(topology: &mut Topology) {
    let rules = [Rule::both("egress", None), Rule::both("ingress", None)].concat();
    topology.add_group("default", rules);
}

/// A machine whose tap is in the bridge as soon as it exists, as libvirt does it.
fn boot_like_libvirt(pair: &Pair, machine: &Machine) -> Result<()> {
    let host = pair.host("left");
    machine.power_on(host)?;
    host.run(&format!("ip link set {} mtu 1450 master {} up", machine.port.tap(), pair.network.bridge()))?;
    Ok(())
}

/// Not one frame passes, either way: broadcast neither.
fn expect_closed(pair: &Pair, machine: &Machine) -> Result<()> {
    ensure!(!machine.reaches(pair.ports[1].ipv4()) && !machine.reaches(pair.ports[1].ipv6()), "it reaches somebody");
    ensure!(!hears_broadcast(machine, pair.left())?, "its broadcast reaches somebody");
    ensure!(!hears_broadcast(pair.left(), machine)?, "somebody's broadcast reaches it");
    Ok(())
}

fn hears_broadcast(from: &Machine, to: &Machine) -> Result<bool> {
    send_udp(from, to, "10.0.10.255", 9999, 10)
}

#[test]
fn a_tap_that_appears_while_the_agent_is_dead_is_closed_until_it_is_filtered() -> Result<()> {
    let mut pair = pair_with_groups()?;
    let port = pair.topology.add_port(&pair.network, "left", 3);
    pair.agents.remove(0).stop(Signal::SIGKILL)?;
    pair.topology.write(&pair.topology_file)?;
    let machine = Machine::off(pair.lab.world(), "vm-third", &port)?;
    boot_like_libvirt(&pair, &machine)?;
    expect_closed(&pair, &machine)?;
    // What was there goes on without the agent, and is still filtered.
    pair.left().wait_for(pair.ports[1].ipv4())?;
    let _agent = Agent::start(pair.host("left"))?;
    machine.wait_for(pair.ports[1].ipv4())?;
    ensure!(hears_broadcast(&machine, pair.left())? && hears_broadcast(pair.left(), &machine)?, "it is open now");
    let filtered = pair.host("left").show("ports")?;
    ensure!(filtered.iter().all(|row| row["security"] == "groups" && row["secured"] == true), "{filtered:?}");
    Ok(())
}

#[test]
fn a_tap_that_nobody_has_announced_is_closed_and_one_that_comes_back_begins_closed() -> Result<()> {
    let mut pair = pair_with_groups()?;
    let port = pair.topology.add_port(&pair.network, "left", 3);
    let machine = Machine::off(pair.lab.world(), "vm-third", &port)?;
    boot_like_libvirt(&pair, &machine)?;
    expect_closed(&pair, &machine)?;
    pair.topology.write(&pair.topology_file)?;
    machine.wait_for(pair.ports[1].ipv4())?;
    pair.finish()?;
    // The same name, made anew while nobody looks.
    pair.agents.remove(0).stop(Signal::SIGKILL)?;
    pair.host("left").run(&format!("ip link delete {}", port.tap()))?;
    boot_like_libvirt(&pair, &machine)?;
    expect_closed(&pair, &machine)
}

#[test]
fn the_first_packet_that_a_machine_gets_out_can_be_answered() -> Result<()> {
    let mut pair = Pair::bare()?;
    add_open_group(&mut pair.topology);
    let port = pair.topology.add_port(&pair.network, "left", 3);
    pair.topology.write(&pair.topology_file)?;
    // Whoever answers must ask first where to, and nobody but the machine itself tells.
    pair.host("right").add_config("[vxlan]\narp_responder = false\n");
    pair.start(Lanes::Both)?;
    // A question that gets lost is not asked again for longer than anybody waits here.
    pair.right().namespace.set_parameter("net/ipv4/neigh/eth0/retrans_time_ms", "60000")?;
    let (host, machine) = (pair.host("left"), Machine::off(pair.lab.world(), "vm-third", &port)?);
    for is_libvirts in [true, false] {
        let waiting = Waiting::prepare(&machine, host, pair.folder(), pair.ports[1].ipv4())?;
        if is_libvirts {
            waiting.connect(host, &pair.network.bridge())?;
        }
        host.run(&format!("ip {}", waiting.appear()))?;
        waiting.first_answer().with_context(|| format!("is_libvirts: {is_libvirts}"))?;
        host.run(&format!("ip link delete {}", port.tap()))?;
        pair.right().run("ip neighbour flush dev eth0")?;
    }
    Ok(())
}

#[test]
fn a_port_that_leaves_the_topology_is_closed() -> Result<()> {
    let mut pair = pair_with_groups()?;
    pair.left().wait_for(pair.ports[1].ipv4())?;
    pair.change(|topology| topology.ports.truncate(0))?;
    ensure!(!pair.left().reaches(pair.ports[1].ipv4()));
    Ok(())
}

#[test]
fn a_guard_that_somebody_takes_apart_comes_back_at_once_and_cuts_nobody_off() -> Result<()> {
    let pair = pair_with_groups()?;
    pair.left().wait_for(pair.ports[1].ipv4())?;
    let stream = Stream::start(pair.folder(), &pair.left().namespace, pair.ports[1].ipv4())?;
    let host = pair.host("left");
    let guard = || host.run("nft list table bridge overlane");
    let whole = guard()?;
    for change in ["delete table bridge overlane", "flush chain bridge overlane from_tap", "flush ruleset"] {
        host.run(&format!("nft {change}"))?;
        // Nothing else happens that would make the agent look.
        wait_until(&format!("the guard is back after: nft {change}"), || Ok(guard()? == whole))?;
    }
    nothing_to_do(host)?;
    stream.expect_no_loss()
}

#[test]
fn a_killed_agent_leaves_the_rules_in_force() -> Result<()> {
    let mut pair = Pair::with_groups(Lanes::Both, |topology, [left, right]| {
        let client = topology.add_group("client", Rule::both("egress", None));
        let server = topology.add_group("server", Rule::both("ingress", Some("tcp")).map(|rule| rule.port(8080)));
        topology.set_groups(&left.id, &[&client]);
        topology.set_groups(&right.id, &[&server]);
    })?;
    let address = pair.ports[1].ipv4().to_owned();
    let mut connection = Connection::open(pair.left(), pair.right(), &address, 8080)?.context("a rule admits it")?;
    for agent in pair.agents.drain(..) {
        agent.stop(Signal::SIGKILL)?;
    }
    ensure!(connection.is_alive()?);
    ensure!(Connection::open(pair.left(), pair.right(), &address, 8080)?.is_some());
    ensure!(Connection::open(pair.left(), pair.right(), &address, 8081)?.is_none());
    // The next agents find everything, and nobody notices.
    for (name, _) in HOSTS {
        pair.agents.push(Agent::start(pair.host(name))?);
    }
    pair.finish()?;
    ensure!(connection.is_alive()?);
    Ok(())
}

#[test]
fn a_port_that_a_killed_agent_has_not_opened_yet_stays_closed_until_the_next_one_opens_it() -> Result<()> {
    let mut pair = pair_with_groups()?;
    pair.left().wait_for(pair.ports[1].ipv4())?;
    pair.agents.remove(0).stop(Signal::SIGKILL)?;
    // The entry is what comes last: the tap is connected and released already.
    let host = pair.host("left");
    let mut entries = host.map::<u32, overlane_abi::Port>("ports")?;
    let taps: Vec<u32> = entries.keys().collect::<Result<_, _>>()?;
    taps.iter().try_for_each(|tap| entries.remove(tap))?;
    let is_closed = || !pair.left().reaches(pair.ports[1].ipv4()) && !pair.right().reaches(pair.ports[0].ipv4());
    ensure!(is_closed());
    let said = host.overlane("detach")?;
    ensure!(said.contains("1 ports stay filtered") && is_closed(), "{said}");
    let _agent = Agent::start(host)?;
    pair.left().wait_for(pair.ports[1].ipv4())
}

#[test]
fn detach_keeps_the_filters_until_it_is_told_to_open_the_ports_and_then_the_devices_stay() -> Result<()> {
    let mut pair = Pair::with_groups(Lanes::Both, |topology, [left, right]| {
        let client = topology.add_group("client", Rule::both("egress", None));
        let server = topology.add_group("server", Rule::both("ingress", Some("tcp")).map(|rule| rule.port(8080)));
        topology.set_groups(&left.id, &[&client]);
        topology.set_groups(&right.id, &[&server]);
    })?;
    let address = pair.ports[1].ipv4().to_owned();
    let mut connection = Connection::open(pair.left(), pair.right(), &address, 8080)?.context("a rule admits it")?;
    pair.agents.remove(1).stop(Signal::SIGTERM)?;
    let said = pair.host("right").overlane("detach")?;
    ensure!(said.contains("1 ports stay filtered") && said.contains("detach --open"), "{said}");
    ensure!(connection.is_alive()?);
    ensure!(Connection::open(pair.left(), pair.right(), &address, 8081)?.is_none());
    let attached = pair.host("right").attached("vxlan-10")?;
    ensure!(attached.is_empty(), "{attached:?}");
    let said = pair.host("right").overlane("detach --open")?;
    ensure!(said.contains("port security and security groups are OFF"), "{said}");
    ensure!(pair.host("right").attached(&pair.ports[1].tap())?.is_empty());
    ensure!(pair.host("right").run("nft list table bridge overlane").is_err(), "the guard is still there");
    // The devices that Overlane has made carry what nobody filters any more.
    ensure!(connection.is_alive()? && Connection::open(pair.left(), pair.right(), &address, 8081)?.is_some());
    let said = pair.host("right").overlane("detach --purge")?;
    ensure!(said.contains("delete vxlan-10"), "{said}");
    Ok(())
}
