//! What it takes until something new is in force: a rule, a group's members, a port.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use overlane_tests::{
    lab::{Agent, HOSTS, Lab, Lanes, Machine, Pair, Rule, Topology, plug_times},
    wait::{PATIENCE, wait_at_most},
};

use crate::{edits::edit, figures::Figures};

const PLUGS: usize = 21;
const CHANGES: usize = 20;
const MEMBERS: u32 = 10_000;
const NETWORKS: u8 = 10;
const PORTS_PER_NETWORK: u8 = 100;

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    plug_secured(figures).context("plugging a port with groups")?;
    load_group(figures).context("loading a group")?;
    change_rule(figures).context("changing a rule")
}

/// The groups of a port that may send anything and receive what `rules` say.
fn groups(topology: &mut Topology, rules: impl IntoIterator<Item = Rule>) -> [String; 2] {
    [topology.add_group("leaving", Rule::both("egress", None)), topology.add_group("arriving", rules)]
}

fn plug_secured(figures: &mut Figures) -> Result<()> {
    let mut pair = Pair::with_groups(Lanes::Both, |topology, [left, right]| {
        let [leaving, arriving] = groups(topology, Rule::both("ingress", Some("icmp")));
        for port in [left, right] {
            topology.set_groups(&port.id, &[&leaving, &arriving]);
        }
    })?;
    let probe = pair.topology.add_port(&pair.network, "left", 9);
    let [leaving, arriving] = [0, 1].map(|index| pair.topology.security_groups[index].id.clone());
    pair.topology.set_groups(&probe.id, &[&leaving, &arriving]);
    pair.topology.write(&pair.topology_file)?;
    let machine = Machine::off(pair.lab.world(), "probe", &probe)?;
    let times = plug_times(&machine, pair.host("left"), pair.folder(), pair.ports[1].ipv4(), PLUGS)?;
    figures.add("secured_plug_to_ping", "ms", times);
    Ok(())
}

/// The machines are there before: what is measured is that they join a group which a port of this host admits.
fn load_group(figures: &mut Figures) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..3 {
        let mut friends = String::new();
        let mut pair = Pair::with_groups(Lanes::Both, |topology, [left, right]| {
            friends = topology.add_group("friends", []);
            let [leaving, arriving] = groups(topology, Rule::both("ingress", None).map(|rule| rule.group(&friends)));
            topology.set_groups(&left.id, &[&leaving, &arriving]);
            topology.set_groups(&right.id, &[&leaving]);
        })?;
        pair.topology.add_crowd(&pair.network, "right", MEMBERS);
        edit(&pair)?;
        let ports = pair.topology.ports.len();
        for port in &mut pair.topology.ports[ports - MEMBERS as usize..] {
            port.security_groups = Some(vec![friends.clone()]);
        }
        times.push(edit(&pair)?.0);
    }
    figures.add("group_load_10k", "ms", times);
    Ok(())
}

/// One rule of one of a thousand ports comes and goes.
fn change_rule(figures: &mut Figures) -> Result<()> {
    let (mut pair, own) = host_with_a_thousand_ports()?;
    let [one, _] = Rule::both("ingress", Some("udp")).map(|rule| rule.port(123));
    let (mut apply, mut whole) = (Vec::new(), Vec::new());
    for number in 0..CHANGES {
        let rules = &mut pair.topology.group(&own).rules;
        if number % 2 == 0 {
            rules.push(one.clone());
        } else {
            rules.pop();
        }
        let (millis, with_reading) = edit(&pair)?;
        apply.push(millis);
        whole.push(with_reading);
    }
    figures.add("rule_change", "ms", apply);
    figures.add("rule_change_with_reading", "ms", whole);
    Ok(())
}

/// The left host with its ports, all of them secured; and a group that one of them has for itself.
fn host_with_a_thousand_ports() -> Result<(Pair, String)> {
    let mut pair = Pair::in_lab(Lab::new(&HOSTS)?)?;
    let [leaving, arriving] = groups(&mut pair.topology, Rule::both("ingress", Some("tcp")));
    let mut batch = String::new();
    for vni in 11..11 + NETWORKS {
        let network = pair.topology.add_network(vni);
        for number in 1..=PORTS_PER_NETWORK {
            let port = pair.topology.add_port(&network, "left", number);
            pair.topology.set_groups(&port.id, &[&leaving, &arriving]);
            batch += &format!("tuntap add dev {0} mode tap\nlink set {0} up\n", port.tap());
        }
    }
    let own = pair.topology.add_group("one port's own", Rule::both("ingress", Some("udp")).map(|rule| rule.port(53)));
    let changed = pair.topology.ports.last().context("a port")?.id.clone();
    pair.topology.set_groups(&changed, &[&leaving, &arriving, &own]);
    pair.topology.write(&pair.topology_file)?;
    let taps = pair.folder().join("taps");
    fs::write(&taps, batch)?;
    let host = pair.lab.host("left");
    host.run(&format!("ip -batch {}", taps.display()))?;
    host.configure(&pair.topology_file, Lanes::Both)?;
    let agent = Agent::launch(host)?;
    // Attaching 2,000 programs takes longer than a test's patience.
    wait_at_most(PATIENCE * 10, "all ports are secured", || Ok(agent.log()?.contains("ready: ").then_some(())))?;
    pair.agents.push(agent);
    let secured = pair.host("left").show("ports")?.iter().filter(|row| row["security"] == "groups").count();
    ensure!(secured == usize::from(NETWORKS) * usize::from(PORTS_PER_NETWORK), "{secured} ports are secured");
    Ok((pair, own))
}
