//! QoS policies: how fast machines are under them, by either lane and while they change.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use overlane_tests::{
    lab::{Connection, Host, Lanes, Machine, Pair, QosRule, Stream},
    wait::wait_until,
};

const SENDS: u32 = 10_000;
const RECEIVES: u32 = 20_000;
const UDP: &str = "--udp --length 1200 --bitrate";

/// Two hosts whose left machine is limited in both directions.
fn limited_pair(lanes: Lanes) -> Result<Pair> {
    Pair::with_groups(lanes, |topology, [left, _]| topology.set_qos(&left.id, limits()))
}

fn limits() -> [QosRule; 2] {
    [QosRule::limit("egress", SENDS), QosRule::limit("ingress", RECEIVES)]
}

/// Expects that what `from` sends to `to` arrives at a rate in kilobits per second.
fn expect_rate(pair: &Pair, from: &Machine, to: &Machine, options: &str, kbps: u32) -> Result<()> {
    let _server = to.serve_iperf(pair.folder())?;
    let rate = from.steady_rate(to.port.ipv4(), options)? / 1000.0;
    // What counts is the frame, and less arrives: at most the part that headers are of it.
    ensure!((rate / f64::from(kbps) - 1.0).abs() <= 0.15, "{options}: {rate:.0} kbit/s instead of {kbps}");
    Ok(())
}

/// The queueing discipline of a tap.
fn qdisc(host: &Host, tap: &str) -> Result<String> {
    host.run(&format!("tc qdisc show dev {tap} root"))
}

#[test]
fn a_machine_sends_and_receives_as_fast_as_its_policy_says() -> Result<()> {
    let pair = limited_pair(Lanes::Both)?;
    let (left, right) = (pair.left(), pair.right());
    expect_rate(&pair, left, right, "", SENDS)?;
    expect_rate(&pair, left, right, &format!("{UDP} 30M"), SENDS)?;
    expect_rate(&pair, right, left, "", RECEIVES)?;
    expect_rate(&pair, right, left, &format!("{UDP} 40M"), RECEIVES)?;
    let row = &pair.host("left").show("ports")?[0];
    ensure!(row["qos"]["egress"]["kbps"] == SENDS && row["qos"]["ingress"]["kbps"] == RECEIVES, "{row}");
    ensure!(row["lane"] == "fast" && row["dropped"].as_u64() > Some(0), "{row}");
    let text = pair.host("left").overlane("show ports")?;
    ensure!(text.contains("sends 10 Mbit/s, receives 20 Mbit/s"), "{text}");
    let drops = pair.host("left").overlane("show drops")?;
    ensure!(drops.contains("rate-limited"), "{drops}");
    Ok(())
}

#[test]
fn without_the_fast_lane_policies_hold_and_programs_come_and_go_with_them() -> Result<()> {
    let mut pair = Pair::running(Lanes::KernelOnly)?;
    let (left, tap) = (pair.ports[0].id.clone(), pair.ports[0].tap());
    ensure!(pair.host("left").attached(&tap)?.is_empty());
    pair.change(|topology| topology.set_qos(&left, limits()))?;
    ensure!(pair.host("left").attached(&tap)? == ["from_port"]);
    expect_rate(&pair, pair.left(), pair.right(), "", SENDS)?;
    expect_rate(&pair, pair.right(), pair.left(), "", RECEIVES)?;
    ensure!(pair.host("left").counted("from_port", "tap", "encapsulated")? == 0, "the fast lane carried something");
    pair.change(|topology| topology.set_qos(&left, []))?;
    wait_until("the program is gone", || Ok(pair.host("left").attached(&tap)?.is_empty()))?;
    pair.ping_all(5)
}

#[test]
fn a_policy_changes_without_a_loss_and_goes_under_connections_that_go_on() -> Result<()> {
    let mut pair = limited_pair(Lanes::Both)?;
    let (left, tap) = (pair.ports[0].id.clone(), pair.ports[0].tap());
    let address = pair.ports[1].ipv4().to_owned();
    let mut connection = Connection::open(pair.left(), pair.right(), &address, 8080)?.context("nothing is filtered")?;
    let stream = Stream::start(pair.folder(), &pair.left().namespace, &address)?;
    for kbps in [2 * SENDS, 3 * SENDS] {
        let rules = ["egress", "ingress"].map(|direction| QosRule::limit(direction, kbps));
        pair.change(|topology| topology.set_qos(&left, rules))?;
        let qdisc = qdisc(pair.host("left"), &tap)?;
        ensure!(qdisc.contains(&format!("rate {}Mbit", kbps / 1000)), "{qdisc}");
    }
    stream.expect_no_loss()?;
    expect_rate(&pair, pair.left(), pair.right(), &format!("{UDP} 45M"), 3 * SENDS)?;
    // It ends and comes back without a loss as well.
    let stream = Stream::start(pair.folder(), &pair.left().namespace, &address)?;
    for rules in [vec![], limits().to_vec(), vec![]] {
        let is_limited = !rules.is_empty();
        pair.change(|topology| topology.set_qos(&left, rules))?;
        let qdisc = qdisc(pair.host("left"), &tap)?;
        ensure!(qdisc.contains("rate 20Mbit") == is_limited && qdisc.contains("rate 1Tbit") != is_limited, "{qdisc}");
    }
    stream.expect_no_loss()?;
    ensure!(connection.is_alive()?);
    let _server = pair.right().serve_iperf(pair.folder())?;
    let rate = pair.left().steady_rate(&address, "")?;
    ensure!(rate > 5e3 * f64::from(SENDS), "the limit is gone, and TCP has {rate:.0} bit/s");
    Ok(())
}

#[test]
fn a_limit_that_somebody_removes_comes_back_and_outlives_the_agent_until_it_is_purged() -> Result<()> {
    let mut pair = limited_pair(Lanes::Both)?;
    let tap = pair.ports[0].tap();
    pair.host("left").run(&format!("tc qdisc del dev {tap} root"))?;
    wait_until("the limit is back", || Ok(qdisc(pair.host("left"), &tap)?.contains("tbf")))?;
    pair.agents[0].wait_for_log("repaired")?;
    let before = qdisc(pair.host("left"), &tap)?;
    pair.replace_agent(Signal::SIGKILL, Lanes::Both, |host| {
        ensure!(qdisc(host, &tap)? == before);
        // An agent of before there were policies has left no such maps.
        for map in ["qos", "buckets"] {
            std::fs::remove_file(host.pins().join(map)).context("removing a pin")?;
        }
        host.show("ports").map(drop)
    })?;
    ensure!(qdisc(pair.host("left"), &tap)? == before);
    pair.agents.remove(0).stop(Signal::SIGTERM)?;
    let host = pair.host("left");
    let said = host.overlane("detach")?;
    ensure!(said.contains("What 1 ports send stays limited"), "{said}");
    ensure!(host.attached(&tap)? == ["from_port"] && qdisc(host, &tap)? == before);
    expect_rate(&pair, pair.left(), pair.right(), &format!("{UDP} 30M"), SENDS)?;
    host.overlane("detach --purge")?;
    ensure!(!qdisc(host, &tap)?.contains("tbf"));
    wait_until("the program is gone", || Ok(host.attached(&tap)?.is_empty()))?;
    Ok(())
}

#[test]
fn what_a_machine_sends_arrives_with_its_mark_by_either_lane() -> Result<()> {
    for lanes in [Lanes::Both, Lanes::KernelOnly] {
        let pair = Pair::with_groups(lanes, |topology, [left, _]| topology.set_qos(&left.id, [QosRule::mark(26)]))?;
        for (program, address) in [("iptables", pair.ports[1].ipv4()), ("ip6tables", pair.ports[1].ipv6())] {
            pair.right().run(&format!("{program} -A INPUT -m dscp --dscp 26 -j ACCEPT"))?;
            pair.left().wait_for(address)?;
            pair.left().ping(address, 5)?;
            let counted = pair.right().run(&format!("{program}-save --counters --table filter"))?;
            let rule = counted.lines().find(|line| line.contains("--dscp")).context("the rule")?;
            let packets: u32 =
                rule[1..].split(':').next().and_then(|number| number.parse().ok()).context("a counter")?;
            ensure!(packets >= 5, "{lanes:?}: {counted}");
        }
    }
    Ok(())
}
