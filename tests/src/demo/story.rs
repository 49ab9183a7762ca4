//! What the demo does, in order.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result};
use overlane_tests::{
    lab::{Host, Namespace, UPLINK, World},
    wait::wait_until,
};
use serde_json::Value;

use crate::{
    compare::{self, average_micros},
    deployment::{CONTROLLER_BRIDGES, Deployment, OUTSIDE},
    network_node, picture, plug,
    report::Report,
    teardown,
};

const PINGS: u32 = 20;
const IPERF_SECS: u32 = 3;
/// As often is the responder asked, until nothing else is flooded meanwhile.
const ROUNDS: usize = 5;

/// Who pings whom: inside a network across hosts, the services on the controller, and through the router.
const PINGED: [(&str, &str, &str); 9] = [
    ("app1", "app2", "10.0.0.22"),
    ("app2", "app1", "10.0.0.21"),
    ("web1", "web2", "20.0.0.22"),
    ("web2", "web1", "20.0.0.21"),
    ("app1", "appnet's qdhcp", "10.0.0.10"),
    ("web2", "appnet2's qdhcp", "20.0.0.100"),
    ("app2", "the router", "10.0.0.1"),
    ("app1", "web2, through the router", "20.0.0.22"),
    ("web2", "the outside, through the router and extnet", OUTSIDE),
];

/// Tells the whole story.
pub(crate) fn tell(keep: bool, report: &mut Report) -> Result<()> {
    report.title("Three hosts, an agent on each; then the machines appear, and ask for their addresses");
    let world = if keep { World::shared(teardown::PREFIX, Path::new(teardown::FOLDER))? } else { World::private()? };
    let mut deployment = Deployment::new(world)?;
    settle(&deployment)?;
    report.say(&picture::draw(&deployment)?);

    report.check_result("bridges of the controller", bridges_are_the_reference_ones(&deployment));
    network_node::inspect(&deployment, report);
    report.title("Pings");
    for (from, name, address) in PINGED {
        report.check_result(format!("ping {from} to {name}"), ping(&deployment.machine(from).namespace, address));
    }
    report.title("Out, in, and what a machine is told about itself");
    network_node::try_out(&deployment, report);
    report.title("Which lane has carried a ping");
    fast_lane_carries_pings(&deployment, report)?;
    report.title("Questions for addresses are answered at the port");
    responder_answers(&deployment, report)?;
    report.title("Bulk data across hosts, and which lane has carried it");
    for (from, to) in [("app1", "app2"), ("web2", "web1")] {
        bulk(&deployment, report, from, to)?;
    }
    report.title("From a tap's appearance to the first answer");
    plug::measure(&deployment, report);
    report.title("The same with fast_path = off, under running machines");
    compare::compare(&mut deployment, report)?;
    if keep {
        teardown::explain(report);
        // Everything but the namespaces is processes, which go on by themselves.
        std::mem::forget(deployment);
    }
    Ok(())
}

/// Waits until every agent has done everything and the first questions have been asked.
fn settle(deployment: &Deployment) -> Result<()> {
    for (from, _, address) in PINGED {
        deployment.machine(from).wait_for(address)?;
    }
    for host in deployment.lab.hosts() {
        wait_until(&format!("{} is done", host.name), || Ok(host.overlane("plan")?.starts_with("Nothing to do.")))?;
    }
    Ok(())
}

/// Compares bridges and their ports with what `brctl show` says in the reference deployment.
fn bridges_are_the_reference_ones(deployment: &Deployment) -> Result<(bool, String)> {
    let controller = deployment.lab.host("controller");
    for (bridge, expected) in CONTROLLER_BRIDGES {
        let lines = controller.run(&format!("ip -o link show master {bridge}"))?;
        let name = |line: &str| Some(line.split(": ").nth(1)?.split('@').next()?.to_owned());
        let mut found: Vec<String> = lines.lines().filter_map(name).collect();
        found.sort();
        if found != expected {
            return Ok((false, format!("{bridge} has {found:?}, the reference deployment {expected:?}")));
        }
    }
    Ok((true, "three bridges, with the ports of the reference deployment".to_owned()))
}

pub(crate) fn ping(from: &Namespace, address: &str) -> Result<(bool, String)> {
    let output = from.ping(address, PINGS)?;
    Ok((true, format!("{PINGS} answers, {:.0} µs on average", average_micros(&output)?)))
}

/// Counters of a host by program, interface and outcome; the key of all packets is `packets`.
struct Counters(BTreeMap<(String, String, String), u64>);

impl Counters {
    fn read(host: &Host) -> Result<Self> {
        let mut counters = BTreeMap::new();
        for row in host.show("counters")? {
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            let mut add = |outcome: &str, count: &Value| {
                counters.insert((text("program"), text("interface"), outcome.to_owned()), count.as_u64().unwrap_or(0));
            };
            add("packets", &row["packets"]);
            row["outcomes"].as_object().context("outcomes")?.iter().for_each(|(outcome, count)| add(outcome, count));
        }
        Ok(Self(counters))
    }

    /// How often something has happened since `earlier`.
    fn since(&self, earlier: &Self, program: &str, interface: &str, outcome: &str) -> u64 {
        let key = (program.to_owned(), interface.to_owned(), outcome.to_owned());
        self.0.get(&key).unwrap_or(&0) - earlier.0.get(&key).unwrap_or(&0)
    }
}

fn fast_lane_carries_pings(deployment: &Deployment, report: &mut Report) -> Result<()> {
    let (from, to) = (deployment.machine("app1"), deployment.machine("app2"));
    let (sender, receiver) = (deployment.host_of(from), deployment.host_of(to));
    let before = (Counters::read(sender)?, Counters::read(receiver)?);
    ping(&from.namespace, to.port.ipv4())?;
    let after = (Counters::read(sender)?, Counters::read(receiver)?);
    let encapsulated = after.0.since(&before.0, "from_port", &from.port.tap(), "encapsulated");
    let decapsulated = after.1.since(&before.1, "from_uplink", UPLINK, "decapsulated");
    report.check(
        "fast lane carries pings",
        encapsulated.min(decapsulated) >= PINGS.into(),
        format!(
            "of {PINGS} requests {encapsulated} were encapsulated at the tap, {decapsulated} decapsulated at the NIC"
        ),
    );
    Ok(())
}

fn responder_answers(deployment: &Deployment, report: &mut Report) -> Result<()> {
    let (from, to) = (deployment.machine("web1"), deployment.machine("web2"));
    let (sender, receiver) = (deployment.host_of(from), deployment.host_of(to));
    let ask = || {
        let before = (Counters::read(sender)?, Counters::read(receiver)?);
        from.run(&format!("ip neighbour flush to {}", to.port.ipv4()))?;
        from.wait_for(to.port.ipv4())?;
        let after = (Counters::read(sender)?, Counters::read(receiver)?);
        let answered = after.0.since(&before.0, "from_port", &from.port.tap(), "answered");
        anyhow::Ok((answered, after.1.since(&before.1, "from_overlay", "vxlan-25", "flood")))
    };
    // Machines flood things of their own now and then (router solicitations, multicast reports): not in every round.
    let mut round = ask()?;
    for _ in 1..ROUNDS {
        if round.1 == 0 {
            break;
        }
        round = ask()?;
    }
    let (answered, flooded) = round;
    report.check(
        "ARP responder",
        answered >= 1 && flooded == 0,
        format!("{answered} request answered at the tap of web1, {flooded} flooded to the other host"),
    );
    Ok(())
}

/// Runs iperf3 and checks that the fast lane's counters account for the packets.
fn bulk(deployment: &Deployment, report: &mut Report, from: &str, to: &str) -> Result<()> {
    let name = format!("iperf3 {from} to {to}");
    let (from, to) = (deployment.machine(from), deployment.machine(to));
    let (sender, receiver) = (deployment.host_of(from), deployment.host_of(to));
    let before = (Counters::read(sender)?, Counters::read(receiver)?);
    let server = to.serve_iperf(deployment.lab.world().folder())?;
    let throughput = from.iperf(to.port.ipv4(), IPERF_SECS);
    drop(server);
    report.check_result(name.as_str(), throughput.map(|bits| (bits > 0.0, format!("{:.2} Gbit/s", bits / 1e9))));
    let after = (Counters::read(sender)?, Counters::read(receiver)?);

    let tap = from.port.tap();
    let sent = after.0.since(&before.0, "from_port", &tap, "packets");
    let encapsulated = after.0.since(&before.0, "from_port", &tap, "encapsulated");
    report.check(
        format!("{name}: packets sent by the fast lane"),
        sent > 100 && is_nearly_all(encapsulated, sent),
        format!("{encapsulated} of {sent} packets from {tap} were encapsulated there"),
    );
    let tap = to.port.tap();
    let received = after.1.since(&before.1, "to_port", &tap, "packets");
    let decapsulated = after.1.since(&before.1, "from_uplink", UPLINK, "decapsulated");
    let vxlan = format!("vxlan-{}", if to.port.ipv4().starts_with("20.") { 25 } else { 10 });
    let delivered = after.1.since(&before.1, "from_overlay", &vxlan, "delivered");
    report.check(
        format!("{name}: packets received past the bridge"),
        received > 100 && is_nearly_all(decapsulated + delivered, received),
        format!(
            "of {received} packets into {tap}, {decapsulated} were decapsulated at {UPLINK} and {delivered} superpackets \
             redirected at {vxlan}"
        ),
    );
    Ok(())
}

/// A neighbour's question or a late answer may come in between.
fn is_nearly_all(part: u64, all: u64) -> bool {
    part * 100 >= all * 99
}
