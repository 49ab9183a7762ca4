//! Agent, broker and server restart, one at a time, while machines talk: they do not notice, and the cloud goes on.

use anyhow::Result;
use nix::sys::signal::Signal;
use overlane_tests::{
    lab::Stream,
    neutron::{Agent, Bed, Cloud},
};
use serde_json::json;

expect_of_agents! {
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

/// Disturbs a cloud in which pings flow: none is lost, and the next machine is connected as ever.
fn disturb(subject: Agent, disturbance: impl FnOnce(&Cloud, &str) -> Result<()>) -> Result<()> {
    let cloud = Cloud::alone()?;
    let bed = Bed::of(&cloud, subject)?;
    bed.wait_until_connected()?;
    let stream = Stream::start(cloud.world().folder(), &bed.right().namespace, bed.ports[0].ipv4())?;
    disturbance(&cloud, bed.host())?;
    let port = cloud.port(&bed.network, bed.host(), &json!({}))?;
    let machine = cloud.boot(&bed.network, &port)?;
    machine.wait_for(bed.ports[1].ipv4())?;
    stream.expect_no_loss()
}
