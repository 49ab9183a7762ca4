//! Another topology while a router of several nodes runs.

use anyhow::{Result, ensure};
use overlane_tests::{
    lab::{Replicated, Stream},
    wait::wait_until,
};

use super::{HANDOVER_MAX, expect_pauses_below};

#[test]
fn a_floating_ip_that_comes_and_goes_works_on_the_active_node_and_moves_no_router() -> Result<()> {
    let mut cloud = Replicated::running()?;
    let roles = cloud.roles()?;
    let before = cloud.keepalived(roles[0])?;
    let stream = Stream::start(cloud.routed.folder(), &cloud.routed.machines[1].namespace, cloud.routed.outside())?;
    let (external, port) = (cloud.routed.external.clone(), cloud.routed.ports[1].clone());
    cloud.routed.change(|topology| drop(topology.add_floating_ip(&external, 161, Some(&port))))?;
    cloud.routed.wait_for(&cloud.routed.internet, "10.0.50.161")?;
    cloud.routed.change(|topology| drop(topology.floating_ips.pop()))?;
    wait_until("it is gone", || Ok(!cloud.in_router(roles[0], "ip address")?.contains("10.0.50.161")))?;
    stream.expect_no_loss()?;
    ensure!(cloud.roles()? == roles && cloud.keepalived(roles[0])? == before);
    Ok(())
}

#[test]
fn a_node_that_is_taken_out_of_the_file_hands_the_router_over() -> Result<()> {
    let mut cloud = Replicated::running()?;
    let [active, other] = cloud.roles()?;
    let streams = cloud.streams()?;
    cloud.routed.change(|topology| topology.routers[0].hosts.retain(|host| host != active))?;
    expect_pauses_below(HANDOVER_MAX, "one node is left", streams)?;
    ensure!(cloud.state(other)? == "active");
    ensure!(cloud.in_router(other, "ip -6 address show scope link")?.matches("inet6 fe80::f816:").count() == 3);
    ensure!(cloud.host(active).show("routers")?.is_empty());
    cloud.routed.change(|topology| topology.routers[0].hosts = [active, other].map(str::to_owned).into())?;
    let [_, waiting] = cloud.roles()?;
    // Not even the addresses that a kernel gives links by itself.
    ensure!(!cloud.has_addresses(waiting)?, "{}", cloud.in_router(waiting, "ip -br address")?);
    cloud.routed.wait_for(&cloud.routed.machines[1].namespace, cloud.routed.outside())
}

#[test]
fn detaching_a_node_with_all_that_it_has_made_hands_the_router_over() -> Result<()> {
    let mut cloud = Replicated::running()?;
    let [active, other] = cloud.roles()?;
    let pids = cloud.keepalived(active)?;
    let streams = cloud.streams()?;
    cloud.kill_agent(active)?;
    cloud.host(active).overlane("detach --purge")?;
    cloud.wait_until_active(other)?;
    expect_pauses_below(HANDOVER_MAX, "detached", streams)?;
    let is_gone = |pid| nix::sys::signal::kill(pid, None).is_err();
    wait_until("keepalived has ended", || Ok(pids.into_iter().all(is_gone)))
}
