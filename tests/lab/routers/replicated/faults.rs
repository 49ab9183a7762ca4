//! What is killed or taken by hand on nodes of a router.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use overlane_tests::{
    lab::{Replicated, Stream},
    wait::wait_until,
};

use super::{FAILOVER_MAX, HANDOVER_MAX, expect_pauses_below};

const FLOATING: &str = Replicated::FLOATING;

#[test]
fn an_agent_that_is_killed_on_the_active_node_moves_no_router_and_loses_no_packet() -> Result<()> {
    let mut cloud = Replicated::running()?;
    let roles = cloud.roles()?;
    let before = cloud.keepalived(roles[0])?;
    let streams = cloud.streams()?;
    cloud.kill_agent(roles[0])?;
    cloud.start_agent(roles[0])?;
    cloud.routed.settle()?;
    ensure!(cloud.roles()? == roles && cloud.keepalived(roles[0])? == before);
    streams.into_iter().try_for_each(Stream::expect_no_loss)
}

#[test]
fn the_other_node_takes_over_within_moments_when_keepalived_dies_and_it_is_started_again() -> Result<()> {
    let cloud = Replicated::running()?;
    let [active, other] = cloud.roles()?;
    let streams = cloud.streams()?;
    let [watcher, _] = cloud.keepalived(active)?;
    kill(watcher, Signal::SIGKILL).context("killing keepalived")?;
    cloud.wait_until_active(other)?;
    ensure!(cloud.roles()? == [other, active]);
    expect_pauses_below(HANDOVER_MAX, "keepalived killed", streams)?;
    ensure!(cloud.keepalived(active)?[0] != watcher, "it is another one");
    // All of it at once: nobody says goodbye, and the addresses stay until the next one begins.
    let streams = cloud.streams()?;
    for pid in cloud.keepalived(other)? {
        kill(pid, Signal::SIGKILL).context("killing keepalived")?;
    }
    cloud.wait_until_active(active)?;
    ensure!(cloud.roles()? == [active, other]);
    expect_pauses_below(FAILOVER_MAX, "all of keepalived killed", streams)?;
    cloud.routed.settle()
}

#[test]
fn what_is_taken_from_the_active_node_is_put_back_and_what_the_other_one_is_given_is_taken() -> Result<()> {
    let cloud = Replicated::running()?;
    let roles = cloud.roles()?;
    let [active, other] = roles;
    let gateway = cloud.routed.topology.ports.iter().find(|port| port.device_owner.ends_with("gateway"));
    let gateway = format!("qg-{}", &gateway.context("a gateway")?.id[..11]);
    let seen = || -> Result<[String; 3]> {
        let lines = ["ip -br address show", "ip route", "ip -6 route show default"];
        let mut seen = lines.map(|_| String::new());
        for (text, line) in seen.iter_mut().zip(lines) {
            let found = cloud.in_router(active, line)?;
            let words = found.split_whitespace().map(|word| word.split('@').next().unwrap_or(word));
            let mut words: Vec<&str> = words.collect();
            words.sort_unstable();
            *text = words.join(" ");
        }
        Ok(seen)
    };
    let before = seen()?;
    for damage in [
        "ip route delete default".to_owned(),
        "ip -6 route delete default".to_owned(),
        format!("ip address delete {FLOATING}/32 dev {gateway}"),
        format!("ip address delete 10.0.50.151/24 dev {gateway}"),
        format!("ip link set {gateway} down"),
        format!("ip link delete {gateway}"),
    ] {
        cloud.in_router(active, &damage)?;
        wait_until(&format!("{damage} is undone"), || {
            let now = seen()?;
            ensure!(now == before, "{now:#?}\ninstead of\n{before:#?}");
            Ok(true)
        })?;
        cloud.routed.wait_for(&cloud.routed.internet, FLOATING)?;
    }
    cloud.in_router(other, &format!("ip address add 10.0.50.151/24 dev {gateway}"))?;
    wait_until("it is taken", || Ok(!cloud.has_addresses(other)?))?;
    ensure!(cloud.roles()? == roles);
    cloud.routed.settle()
}

#[test]
fn a_node_that_waits_says_nothing_in_the_routers_name() -> Result<()> {
    let cloud = Replicated::running()?;
    let [_, other] = cloud.roles()?;
    // All that a machine asks everybody, and what is for a router that is not there, reaches this node as well.
    for machine in &cloud.routed.machines {
        machine.run("ip neighbor flush dev eth0")?;
        machine.ping(cloud.routed.outside(), 5)?;
        machine.ping(cloud.routed.outside_ipv6(), 5)?;
    }
    let links = cloud.in_router(other, "ip -s -j link")?;
    let links: Vec<serde_json::Value> = serde_json::from_str(&links).context("reading JSON")?;
    let of_router: Vec<_> =
        links.iter().filter(|link| link["ifname"].as_str().is_some_and(|name| name.starts_with('q'))).collect();
    ensure!(of_router.len() == 3, "{links:?}");
    for link in of_router {
        ensure!(link["stats64"]["tx"]["packets"] == 0, "it has said something: {link}");
        ensure!(link["stats64"]["rx"]["packets"] != 0, "nothing has reached it: {link}");
    }
    Ok(())
}
