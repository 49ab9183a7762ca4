//! Routers on two network nodes, one with the Linux bridge agent and one with Overlane: keepalived moves their addresses, and
//! the server never says which node has them (contract §1.9).

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use overlane_tests::{
    neutron::{Agent, Cloud, PEER, Router, host_of},
    wait::{PATIENCE, wait_at_most, wait_for, wait_until},
};
use serde_json::json;

/// The nodes: Overlane is on the second one.
const NODES: [&str; 2] = ["network", "spare"];

/// Waits until the router is active on the given node, and on no other.
fn wait_for_active(cloud: &Cloud, router: &Router, active: &str) -> Result<()> {
    wait_at_most(PATIENCE * 3, &format!("the router is active on {active}"), || {
        let is_right = |name: &&str| router.is_active(cloud.node(name)) == (*name == active);
        Ok(NODES.iter().all(is_right).then_some(()))
    })
}

/// Has a second network node while `work` lasts; afterwards the cloud is as before, whatever became of the work.
fn with_second_node(work: impl FnOnce(&Cloud) -> Result<()>) -> Result<()> {
    let cloud = Cloud::alone()?;
    let name = NODES[1];
    let node = cloud.node(name);
    let result = [Agent::Overlane, Agent::L3]
        .into_iter()
        .try_for_each(|agent| {
            node.start_agent(agent)?;
            cloud.wait_until_alive(name, agent)
        })
        .and_then(|()| work(&cloud));
    // The server would give routers to it for as long as it may be silent.
    let forgotten = node.stop_agent(Agent::L3, Signal::SIGTERM).and_then(|()| cloud.forget_agent(name, Agent::L3));
    let stopped = node.stop_agent(Agent::Overlane, Signal::SIGTERM).and_then(|()| node.overlane("detach --purge"));
    result.and(forgotten).and(stopped.map(drop))
}

#[test]
fn machines_are_routed_whichever_node_is_active() -> Result<()> {
    with_second_node(|cloud| {
        let mut router = cloud.router(&json!({"ha": true}))?;
        let routed = expect_routed(cloud, &mut router);
        cloud.delete_router(&router)?;
        routed
    })
}

fn expect_routed(cloud: &Cloud, router: &mut Router) -> Result<()> {
    let group = cloud.security_group("pingable")?;
    cloud.add_rule(&group, &json!({"protocol": "icmp"}))?;
    let left = cloud.boot_behind(router, 1, host_of(Agent::Overlane), &group)?;
    let right = cloud.boot_behind(router, 2, PEER, &group)?;
    left.wait_for(right.port.ipv4())?;
    let is_active = |name: &&str| router.is_active(cloud.node(name));
    let first = wait_for("a node says that it routes", || Ok(NODES.into_iter().find(is_active)))?;
    let other = NODES.into_iter().find(|name| *name != first).context("there are two nodes")?;
    for (from, to) in [(first, other), (other, first)] {
        router.retire(cloud.node(from))?;
        wait_for_active(cloud, router, to)?;
        left.wait_for(right.port.ipv4())?;
        for host in [&left.port.host, NODES[1]] {
            let agrees =
                || Ok(cloud.node(host).overlane("verify")?.starts_with("Desired state, kernel and maps agree."));
            wait_until(&format!("everything is in order on {host}"), agrees)?;
        }
    }
    Ok(())
}
