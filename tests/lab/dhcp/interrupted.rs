//! An agent that is killed in the middle of something, or kept from finishing it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::{
    signal::Signal,
    statfs::{NSFS_MAGIC, statfs},
};
use overlane_tests::{
    lab::{Agent, Lanes},
    wait::{PATIENCE, wait_with_pauses},
};

use super::{Cloud, said, same};

fn name_of(cloud: &Cloud) -> PathBuf {
    Path::new("/run/netns").join(cloud.namespace())
}

/// Starts the agents, and expects a machine to get its address.
fn expect_service(cloud: &mut Cloud) -> Result<()> {
    cloud.start(Lanes::Both)?;
    let machine = cloud.boot(&cloud.pair.ports[1])?;
    cloud.pair.finish()?;
    same("ip", said(&cloud.lease(&machine)?, "ip"), "10.0.10.2")
}

/// Kills the first agent as soon as `is_seen` of the name of the namespace that it makes.
fn kill_at_first_sight(is_seen: impl Fn(&Path) -> bool) -> Result<()> {
    let mut cloud = Cloud::prepare(|_, _| ())?;
    cloud.node().configure(&cloud.pair.topology_file, Lanes::Both)?;
    let (agent, name) = (Agent::launch(cloud.node())?, name_of(&cloud));
    wait_with_pauses(Duration::ZERO, PATIENCE, "the name is seen", || Ok(is_seen(&name).then_some(())))?;
    agent.stop(Signal::SIGKILL)?;
    expect_service(&mut cloud)
}

#[test]
fn an_agent_that_is_killed_while_it_gives_a_namespace_its_name_is_followed_by_one_that_makes_it() -> Result<()> {
    kill_at_first_sight(Path::exists)
}

#[test]
fn an_agent_that_is_killed_when_a_namespace_has_just_got_its_name_is_followed_by_one_that_knows_it() -> Result<()> {
    kill_at_first_sight(|name| statfs(name).is_ok_and(|found| found.filesystem_type() == NSFS_MAGIC))
}

#[test]
fn a_file_that_is_no_namespace_makes_room_for_one() -> Result<()> {
    let mut cloud = Cloud::prepare(|_, _| ())?;
    fs::write(name_of(&cloud), "").context("leaving a file")?;
    expect_service(&mut cloud)
}

#[test]
fn a_name_that_cannot_be_given_is_complained_about_and_leaves_nothing() -> Result<()> {
    let mut cloud = Cloud::prepare(|_, _| ())?;
    // Nothing can be mounted there, and it is nobody's to remove.
    let name = name_of(&cloud);
    fs::create_dir(&name).context("making a folder")?;
    cloud.start(Lanes::Both)?;
    cloud.pair.agents[0].wait_for_log("could not make the namespace: giving it its name: ")?;
    ensure!(name.is_dir(), "what is somebody else's has gone");
    fs::remove_dir(&name).context("removing a folder")?;
    cloud.pair.finish()
}
