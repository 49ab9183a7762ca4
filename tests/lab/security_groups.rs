//! What security groups admit, with real packets of real sockets.

use anyhow::{Context as _, Result, ensure};
use overlane_tests::{
    lab::{Connection, Lanes, Pair, Rule, send_udp},
    wait::wait_until,
};

/// The port of servers that a rule admits.
const OPEN: u16 = 8080;
/// One that none does.
const SHUT: u16 = 8081;

/// The left machine may send anything; the right one admits what the rules say, and sends nothing of its own accord.
fn pair_with_server(rules: impl IntoIterator<Item = Rule>) -> Result<Pair> {
    Pair::with_groups(Lanes::Both, |topology, [left, right]| {
        let client = topology.add_group("client", Rule::both("egress", None));
        let server = topology.add_group("server", rules);
        topology.set_groups(&left.id, &[&client]);
        topology.set_groups(&right.id, &[&server]);
    })
}

fn connect(pair: &Pair, address: &str, port: u16) -> Result<Option<Connection>> {
    Connection::open(pair.left(), pair.right(), address, port)
}

fn dropped(pair: &Pair, host: &str, reason: &str) -> Result<u64> {
    let rows = pair.host(host).show("drops")?;
    let counts = rows.iter().filter(|row| row["reason"] == reason && !row["port_id"].is_null());
    Ok(counts.filter_map(|row| row["packets"].as_u64()).sum())
}

#[test]
fn tcp_reaches_a_machine_where_a_rule_admits_it_and_its_answers_come_back() -> Result<()> {
    let pair = pair_with_server(Rule::both("ingress", Some("tcp")).map(|rule| rule.port(OPEN)))?;
    for address in [pair.ports[1].ipv4(), pair.ports[1].ipv6()] {
        let mut connection = connect(&pair, address, OPEN)?.context("a rule admits it")?;
        ensure!(connection.is_alive()?, "{address}");
        let flows = pair.host("right").show(&format!("flows --port 0a02 --address {address}"))?;
        let [flow] = &flows[..] else { anyhow::bail!("one flow was expected: {flows:?}") };
        ensure!(flow["destination_port"] == OPEN && flow["state"] == "established", "{flow}");
        let rule = flow["to_rule"].as_str().context("the rule that let it in")?;
        ensure!(rule.starts_with("server: ingress IPv") && rule.ends_with("tcp 8080"), "{rule}");
        ensure!(connect(&pair, address, SHUT)?.is_none(), "no rule admits it");
        // The server may not begin anything itself, a ping included.
        ensure!(Connection::open(pair.right(), pair.left(), pair.ports[0].ipv4(), OPEN)?.is_none());
        ensure!(!pair.left().reaches(address));
    }
    ensure!(dropped(&pair, "right", "no-rule-ingress")? > 0 && dropped(&pair, "right", "no-rule-egress")? > 0);
    let rules = pair.host("right").show("rules")?;
    ensure!(rules.len() == 2 && rules.iter().all(|row| row["packets"].as_u64() == Some(1)), "{rules:?}");
    Ok(())
}

#[test]
fn udp_its_fragments_and_the_errors_about_it_pass_by_the_same_rule() -> Result<()> {
    let pair = pair_with_server(Rule::both("ingress", Some("udp")).map(|rule| rule.port(OPEN)))?;
    for address in [pair.ports[1].ipv4(), pair.ports[1].ipv6()] {
        for length in [100, 4000] {
            ensure!(send_udp(pair.left(), pair.right(), address, OPEN, length)?, "{length} bytes to {address}");
            ensure!(!send_udp(pair.left(), pair.right(), address, SHUT, length)?, "{length} bytes to {address}");
        }
        // Nobody listens there now: the machine says so, and that belongs to the flow.
        let refused = pair.left().namespace.inside(|| {
            let any = if address.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
            let socket = std::net::UdpSocket::bind(any).context("binding")?;
            socket.connect((address, OPEN)).context("connecting")?;
            let mut refused = false;
            wait_until("the error comes", || {
                refused |= socket.send(b"x").is_err();
                Ok(refused)
            })?;
            Ok(refused)
        })?;
        ensure!(refused, "no ICMP error came from {address}");
    }
    ensure!(dropped(&pair, "right", "unknown-fragment")? > 0);
    Ok(())
}

#[test]
fn a_rule_that_goes_ends_its_connections_and_one_that_comes_disturbs_none() -> Result<()> {
    let rule = Rule::both("ingress", Some("tcp"))[0].clone().port(OPEN);
    let mut pair = pair_with_server([rule.clone()])?;
    let address = pair.ports[1].ipv4().to_owned();
    let server = pair.topology.security_groups[1].id.clone();
    let mut connection = connect(&pair, &address, OPEN)?.context("a rule admits it")?;
    pair.change(|topology| topology.group(&server).rules.push(rule.clone().port(SHUT)))?;
    ensure!(connection.is_alive()?, "a rule was added");
    let mut other = connect(&pair, &address, SHUT)?.context("the new rule admits it")?;
    pair.change(|topology| topology.group(&server).rules.truncate(1))?;
    ensure!(!other.is_alive()?, "its rule is gone");
    ensure!(connection.is_alive()?, "its rule is still there");
    pair.change(|topology| topology.group(&server).rules.clear())?;
    ensure!(!connection.is_alive()?, "no rule is left");
    Ok(())
}

#[test]
fn members_of_a_group_are_admitted_from_when_they_join_until_they_leave() -> Result<()> {
    let friends = "5ec00000-0000-4000-8000-000000000003";
    let mut pair = Pair::with_groups(Lanes::Both, |topology, [left, right]| {
        let client = topology.add_group("client", Rule::both("egress", None));
        let server = topology.add_group("server", Rule::both("ingress", Some("tcp")).map(|rule| rule.group(friends)));
        topology.add_group("friends", []);
        topology.set_groups(&left.id, &[&client]);
        topology.set_groups(&right.id, &[&server]);
    })?;
    let (left, client) = (pair.ports[0].id.clone(), pair.topology.security_groups[0].id.clone());
    let addresses = [pair.ports[1].ipv4().to_owned(), pair.ports[1].ipv6().to_owned()];
    for address in &addresses {
        ensure!(connect(&pair, address, OPEN)?.is_none(), "it is no member");
    }
    pair.change(|topology| topology.set_groups(&left, &[&client, friends]))?;
    let mut connections = Vec::new();
    for address in &addresses {
        connections.push(connect(&pair, address, OPEN)?.context("it is a member")?);
    }
    pair.change(|topology| topology.set_groups(&left, &[&client]))?;
    for connection in &mut connections {
        ensure!(!connection.is_alive()?, "it is no member any more");
    }
    Ok(())
}

#[test]
fn rules_of_a_stateless_group_admit_single_packets() -> Result<()> {
    let mut pair = Pair::with_groups(Lanes::Both, |topology, [left, right]| {
        let client = topology.add_group("client", Rule::both("egress", None));
        let server = topology.add_group("server", Rule::both("ingress", Some("icmp")));
        topology.group(&server).stateful = false;
        topology.set_groups(&left.id, &[&client]);
        topology.set_groups(&right.id, &[&server]);
    })?;
    let address = pair.ports[1].ipv4().to_owned();
    ensure!(!pair.left().reaches(&address), "the answer needs a rule of its own");
    let server = pair.topology.security_groups[1].id.clone();
    pair.change(|topology| topology.group(&server).rules.extend(Rule::both("egress", Some("icmp"))))?;
    ensure!(pair.left().reaches(&address), "now it has one");
    Ok(())
}

#[test]
fn ports_of_one_host_are_held_to_their_groups_too() -> Result<()> {
    let mut pair = Pair::bare()?;
    let third = pair.topology.add_port(&pair.network, "left", 3);
    let client = pair.topology.add_group("client", Rule::both("egress", None));
    let server = pair.topology.add_group("server", Rule::both("ingress", Some("tcp")).map(|rule| rule.port(OPEN)));
    pair.topology.set_groups(&pair.ports[0].id, &[&client]);
    pair.topology.set_groups(&third.id, &[&server]);
    pair.topology.write(&pair.topology_file)?;
    let host = pair.lab.host("left");
    let _agent = host.start_agent(&pair.topology_file, Lanes::Both)?;
    let (first, third_machine) = (host.boot(pair.lab.world(), &pair.ports[0])?, host.boot(pair.lab.world(), &third)?);
    overlane_tests::lab::nothing_to_do(host)?;
    let mut connection = Connection::open(&first, &third_machine, third.ipv4(), OPEN)?.context("a rule admits it")?;
    ensure!(connection.is_alive()?);
    ensure!(Connection::open(&first, &third_machine, third.ipv4(), SHUT)?.is_none());
    Ok(())
}

#[test]
fn groups_that_ask_for_it_have_their_flows_and_drops_in_the_log() -> Result<()> {
    let pair = Pair::with_groups(Lanes::Both, |topology, [left, right]| {
        let client = topology.add_group("client", Rule::both("egress", None));
        let server = topology.add_group("server", Rule::both("ingress", Some("tcp")).map(|rule| rule.port(OPEN)));
        topology.group(&server).log = Some("all".to_owned());
        topology.set_groups(&left.id, &[&client]);
        topology.set_groups(&right.id, &[&server]);
    })?;
    let address = pair.ports[1].ipv4();
    drop(connect(&pair, address, OPEN)?.context("a rule admits it")?);
    ensure!(connect(&pair, address, SHUT)?.is_none());
    let log = &pair.agents[1];
    log.wait_for_log("flow admitted")?;
    log.wait_for_log("packet dropped")?;
    let text = log.log()?;
    for expected in ["server: ingress IPv4 tcp 8080", "service=8081", "reason=\"no-rule-ingress\"", &pair.ports[1].id] {
        ensure!(text.contains(expected), "{expected} is not in\n{text}");
    }
    ensure!(!pair.agents[0].log()?.contains("flow admitted"), "its group does not ask for it");
    Ok(())
}

#[test]
fn filters_stay_in_force_when_the_kernel_lane_carries_everything() -> Result<()> {
    let pair = Pair::with_groups(Lanes::KernelOnly, |topology, [left, right]| {
        let client = topology.add_group("client", Rule::both("egress", None));
        let server = topology.add_group("server", Rule::both("ingress", Some("tcp")).map(|rule| rule.port(OPEN)));
        topology.set_groups(&left.id, &[&client]);
        topology.set_groups(&right.id, &[&server]);
    })?;
    let address = pair.ports[1].ipv4();
    let mut connection = connect(&pair, address, OPEN)?.context("a rule admits it")?;
    ensure!(connection.is_alive()?);
    ensure!(connect(&pair, address, SHUT)?.is_none());
    ensure!(pair.host("left").counted("from_port", "tap", "encapsulated")? == 0, "the fast lane carried something");
    ensure!(pair.host("left").show("ports")?[0]["lane"] == "kernel");
    Ok(())
}
