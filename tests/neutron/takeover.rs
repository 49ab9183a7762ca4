//! An agent takes a host over from Neutron's own, under traffic, and gives it back.

use anyhow::Result;
use nix::sys::signal::Signal;
use overlane_tests::{
    lab::{Connection, Machine, Stream},
    neutron::{Agent, Cloud, Network, PEER},
    wait::wait_until,
};
use serde_json::json;

use crate::restarts::acceptable_loss;

expect_of_both_agents! {
    a_host_is_taken_over_and_given_back
}

const HOST: &str = "spare";

fn a_host_is_taken_over_and_given_back(subject: Agent) -> Result<()> {
    let cloud = Cloud::alone()?;
    let node = cloud.node(HOST);
    node.start_agent(Agent::LinuxBridge)?;
    cloud.wait_until_alive(HOST, Agent::LinuxBridge)?;
    let group = cloud.security_group("taken over")?;
    cloud.add_rule(&group, &json!({"protocol": "icmp"}))?;
    let boot = |network: &Network, host: &str| -> Result<Machine> {
        cloud.boot(network, &cloud.port(network, host, &json!({"security_groups": [group]}))?)
    };
    // Each agent comes to devices of the one before.
    let mut pairs = Vec::new();
    for (old, new) in [(Agent::LinuxBridge, subject), (subject, Agent::LinuxBridge)] {
        let network = cloud.network(&json!({}))?;
        let (left, right) = (boot(&network, HOST)?, boot(&network, PEER)?);
        right.wait_for(left.port.ipv4())?;
        pairs.push((network, left, right));
        let stream = |(_, left, right): &(Network, Machine, Machine)| {
            Stream::start(cloud.world().folder(), &right.namespace, left.port.ipv4())
        };
        let streams = pairs.iter().map(stream).collect::<Result<Vec<_>>>()?;
        node.stop_agent(old, Signal::SIGTERM)?;
        if old == Agent::Overlane {
            // Its filters would stay in force, and new taps closed.
            node.overlane("detach --open")?;
        }
        node.start_agent(new)?;
        for (network, left, right) in &pairs {
            let machine = boot(network, HOST)?;
            right.wait_for(machine.port.ipv4())?;
            // The machine that was there obeys the new agent.
            let rule = cloud.add_rule(&group, &json!({"protocol": "tcp"}))?;
            let connects = || Ok(Connection::open(right, left, left.port.ipv4(), 80)?.is_some());
            wait_until("a new rule admits", connects)?;
            cloud.remove_rule(&rule)?;
            wait_until("a removed rule admits no more", || Ok(!connects()?))?;
        }
        streams.into_iter().try_for_each(|stream| stream.expect_loss_of_at_most(acceptable_loss(new)))?;
    }
    node.stop_agent(Agent::LinuxBridge, Signal::SIGTERM)
}
