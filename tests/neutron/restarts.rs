//! Agent, broker and server restart, one at a time, while machines talk: they do not notice, and the cloud goes on.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use overlane_tests::{
    lab::Stream,
    neutron::{Agent, Bed, Cloud},
    wait::{PATIENCE, wait_at_most},
};
use serde_json::json;

expect_of_overlane! {
    machines_do_not_notice_that_the_agent_is_killed
    machines_do_not_notice_that_the_broker_is_killed
    machines_do_not_notice_that_the_server_restarts
}

fn machines_do_not_notice_that_the_agent_is_killed(subject: Agent) -> Result<()> {
    disturb(subject, |cloud, host| {
        cloud.node(host).stop_agent(subject, Signal::SIGKILL)?;
        cloud.node(host).start_agent(subject)
    })
}

fn machines_do_not_notice_that_the_broker_is_killed(subject: Agent) -> Result<()> {
    disturb(subject, |cloud, _| {
        cloud.broker.kill()?;
        cloud.broker.start_again()?;
        cloud.wait_for_server()
    })
}

fn machines_do_not_notice_that_the_server_restarts(subject: Agent) -> Result<()> {
    disturb(subject, |cloud, _| {
        cloud.server.stop(Signal::SIGTERM)?;
        cloud.server.start_again()?;
        cloud.wait_for_server()
    })
}

/// Neutron's own agent takes rules away and puts them back: some pings of one each millisecond are lost.
pub(super) fn acceptable_loss(subject: Agent) -> usize {
    if subject == Agent::Overlane { 0 } else { 100 }
}

/// Disturbs a cloud in which pings flow: none is lost, nothing is said of ports that were there, and the next machine is
/// connected as ever. All agents find back.
fn disturb(subject: Agent, disturbance: impl FnOnce(&Cloud, &str) -> Result<()>) -> Result<()> {
    let cloud = Cloud::alone()?;
    // The other host's agent may miss what it is told meanwhile: it must admit the next machine without.
    let group = cloud.security_group("pingable")?;
    cloud.add_rule(&group, &json!({"protocol": "icmp"}))?;
    let bed = Bed::with(&cloud, subject, &json!({"security_groups": [group]}))?;
    bed.right().wait_for(bed.ports[0].ipv4())?;
    let stream = Stream::start(cloud.world().folder(), &bed.right().namespace, bed.ports[0].ipv4())?;
    let before = cloud.show_port(&bed.ports[0])?;
    disturbance(&cloud, bed.host())?;
    let port = cloud.port(&bed.network, bed.host(), &json!({}))?;
    let machine = cloud.boot(&bed.network, &port)?;
    // The agent of the other host may be waiting for an answer that was lost.
    let ping = format!("ping -c 1 -W 1 {}", bed.ports[1].ipv4());
    wait_at_most(PATIENCE * 3, "the new machine reaches the other host", || machine.run(&ping).map(Some))?;
    stream.expect_loss_of_at_most(acceptable_loss(subject))?;
    cloud.wait_for_reports()?;
    // A port that is told to be built, or up, has another revision.
    let after = cloud.show_port(&bed.ports[0])?;
    ensure!(after == before, "it was {before}, and is {after}");
    Ok(())
}
