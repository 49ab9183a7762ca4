//! Routers on several network nodes: one is active, and another takes over when it is lost.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use overlane_tests::{
    lab::{Agent, Host, Routed, Stream},
    wait::{wait_for, wait_until},
};

const NODES: [&str; 2] = ["node", "other"];
const FLOATING: &str = "10.0.50.160";
/// Three advertisements that do not come, a second each, up to one more second, and what a busy machine adds.
const FAILOVER_MAX: Duration = Duration::from_secs(8);

fn replicated() -> Result<Routed> {
    let mut routed = Routed::bare_on(&NODES)?;
    routed.topology.add_floating_ip(&routed.external, 160, Some(&routed.ports[0]));
    routed.start()?;
    let r = routed.machines[0].wait_for(routed.ports[1].ipv4()).and_then(|()|
    routed.machines[1].wait_for(routed.outside())).and_then(|()|
    routed.settle());
    if r.is_err() { dump(&routed); }
    r?;
    Ok(routed)
}

/// What a node says of the router.
fn state(routed: &Routed, node: &str) -> Result<String> {
    let rows = routed.lab.host(node).show("routers")?;
    Ok(rows.first().context("no router")?["state"].as_str().unwrap_or_default().to_owned())
}

/// The active node and the other one, once the two agree.
fn roles(routed: &Routed) -> Result<[&'static str; 2]> {
    wait_for("one node is active, and one waits", || {
        let [first, second] = NODES.map(|node| state(routed, node));
        Ok(match (first?.as_str(), second?.as_str()) {
            ("active", "standby") => Some([NODES[0], NODES[1]]),
            ("standby", "active") => Some([NODES[1], NODES[0]]),
            _ => None,
        })
    })
}

/// The process ids of keepalived: of the one that watches, and of the one that speaks.
fn keepalived(routed: &Routed, node: &Host) -> Result<[Pid; 2]> {
    let folder = node.folder().join("state/ha_confs").join(&routed.router.id);
    let read = |file: &str| -> Result<Pid> {
        let text = fs::read_to_string(folder.join(file)).with_context(|| format!("reading {file}"))?;
        Ok(Pid::from_raw(text.trim().parse().context("a process id")?))
    };
    Ok([read("pid")?, read("vrrp_pid")?])
}

/// Whether a node has any of the router's addresses.
fn has_addresses(routed: &Routed, node: &str) -> Result<bool> {
    let addresses = routed.lab.host(node).run_in(&routed.namespace(), "ip -br address")?;
    Ok(addresses.lines().any(|line| line.starts_with('q') && line.split_whitespace().count() > 2))
}

/// Pulls or plugs both wires of a node.
fn set_wires(routed: &Routed, node: &str, state: &str) -> Result<()> {
    for wire in [format!("to-{node}"), format!("phys-{node}")] {
        routed.lab.fabric().run(&format!("ip link set {wire} {state}"))?;
    }
    Ok(())
}

fn dump(routed: &Routed) {
    for node in NODES {
        let host = routed.lab.host(node);
        for line in ["ip -br address", "ip route", "ip -6 route", "ss -anw"] {
            println!("{node} router {line}: {}", host.run_in(&routed.namespace(), line).unwrap_or_else(|e| format!("{e:#}")));
        }
        println!("{node} {}", host.overlane("verify").unwrap_or_else(|e| format!("{e:#}")));
        println!("{node} {}", host.overlane("show routers").unwrap_or_else(|e| format!("{e:#}")));
        println!("{node} {}", host.overlane("show fdb").unwrap_or_else(|e| format!("{e:#}")));
        println!("{node} {}", host.run("bridge fdb").unwrap_or_else(|e| format!("{e:#}")));
        println!("{node} {}", fs::read_to_string(host.folder().join("agent.log")).unwrap_or_default());
        println!("{node} {}", fs::read_to_string(host.folder().join("state/ha_confs").join(&routed.router.id).join("keepalived.conf")).unwrap_or_default());
        println!("{node} {}", fs::read_to_string(host.folder().join("state/ha_confs").join(&routed.router.id).join("log")).unwrap_or_default());
    }
}

#[test]
fn the_other_node_takes_over_when_the_active_one_is_lost_and_keeps_the_router_when_it_is_back() -> Result<()> {
    let mut routed = replicated()?;
    let [active, other] = roles(&routed)?;
    ensure!(!has_addresses(&routed, other)?, "both have addresses");
    let outwards = Stream::start(routed.folder(), &routed.machines[1].namespace, routed.outside())?;
    let inwards = Stream::start(routed.folder(), &routed.internet, FLOATING)?;
    let between = Stream::start(routed.folder(), &routed.machines[0].namespace, routed.ports[1].ipv4())?;
    let index = NODES.iter().position(|node| *node == active).expect("one of them");
    set_wires(&routed, active, "down")?;
    routed.agents.remove(index).stop(Signal::SIGKILL)?;
    for pid in keepalived(&routed, routed.lab.host(active))? {
        kill(pid, Signal::SIGKILL).context("killing keepalived")?;
    }
    wait_until("the other one is active", || Ok(state(&routed, other)? == "active"))?;
    let pauses = [outwards.longest_pause()?, inwards.longest_pause()?, between.longest_pause()?];
    println!("failover: outwards {:?}, by floating IP {:?}, between networks {:?}", pauses[0], pauses[1], pauses[2]);
    ensure!(pauses.iter().all(|pause| *pause < FAILOVER_MAX), "{pauses:?}");
    // The node comes back with all that it had.
    let stream = Stream::start(routed.folder(), &routed.internet, FLOATING)?;
    set_wires(&routed, active, "up")?;
    let agent = Agent::start(routed.lab.host(active))?;
    routed.agents.insert(index, agent);
    ensure!(roles(&routed)? == [other, active], "the router has moved back");
    wait_until("the node gives up the addresses", || Ok(!has_addresses(&routed, active)?))?;
    routed.settle()?;
    println!("the node is back: {:?}", stream.longest_pause()?);
    Ok(())
}
