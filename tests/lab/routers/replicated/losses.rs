//! What becomes of a router when a node is lost, and when it is back.

use anyhow::{Result, ensure};
use overlane_tests::{lab::Replicated, wait::wait_until};

use super::{
    super::ipv6::{advertise, boot_by_advertisement},
    FAILOVER_MAX, HANDOVER_MAX, REFRESHED_MAX, expect_pauses_below,
};

#[test]
fn the_other_node_takes_over_when_the_active_one_is_lost_and_keeps_the_router_when_it_is_back() -> Result<()> {
    let mut cloud = Replicated::running()?;
    let [active, other] = cloud.roles()?;
    ensure!(!cloud.has_addresses(other)?, "both have addresses");
    let streams = cloud.streams()?;
    cloud.lose(active)?;
    cloud.wait_until_active(other)?;
    expect_pauses_below(FAILOVER_MAX, "failover", streams)?;
    let machine = &cloud.routed.machines[0];
    let own = machine.run("curl --silent --fail --max-time 5 http://169.254.169.254/latest/meta-data/local-ipv4")?;
    ensure!(own == machine.port.ipv4(), "the metadata service says {own}");
    let streams = cloud.streams()?;
    cloud.boot(active)?;
    ensure!(cloud.roles()? == [other, active], "the router has moved back");
    ensure!(!cloud.has_addresses(active)?, "both have addresses");
    cloud.routed.settle()?;
    expect_pauses_below(HANDOVER_MAX, "the node is back", streams)
}

#[test]
fn a_node_that_was_cut_off_without_keepalived_gives_up_what_it_has_when_it_is_back() -> Result<()> {
    let mut cloud = Replicated::running()?;
    let [active, other] = cloud.roles()?;
    cloud.lose(active)?;
    cloud.wait_until_active(other)?;
    let streams = cloud.streams()?;
    cloud.set_wires(active, "up")?;
    cloud.start_agent(active)?;
    ensure!(cloud.roles()? == [other, active], "the router has moved back");
    wait_until("it gives up the addresses", || Ok(!cloud.has_addresses(active)?))?;
    // Whoever has heard something of it in between is told again soon.
    expect_pauses_below(REFRESHED_MAX, "it has had addresses for a moment", streams)
}

#[test]
fn taking_over_needs_no_agent() -> Result<()> {
    let mut cloud = Replicated::running()?;
    let [active, other] = cloud.roles()?;
    let streams = cloud.streams()?;
    // Neither where the router comes to be, nor where its machines are.
    cloud.kill_agent(other)?;
    cloud.kill_agent("compute")?;
    cloud.lose(active)?;
    cloud.wait_until_active(other)?;
    expect_pauses_below(FAILOVER_MAX, "failover without agents", streams)
}

#[test]
fn nodes_that_cannot_reach_each_other_are_both_active_and_agree_when_they_can() -> Result<()> {
    let cloud = Replicated::running()?;
    let [active, other] = cloud.roles()?;
    let streams = cloud.streams()?;
    cloud.set_wires(active, "down")?;
    cloud.wait_until_active(other)?;
    ensure!(cloud.state(active)? == "active", "nobody has told it");
    expect_pauses_below(FAILOVER_MAX, "cut off", streams)?;
    let streams = cloud.streams()?;
    cloud.set_wires(active, "up")?;
    cloud.roles()?;
    cloud.routed.settle()?;
    expect_pauses_below(FAILOVER_MAX, "joined", streams)?;
    let with_addresses = [active, other].iter().filter(|node| cloud.has_addresses(node).is_ok_and(|has| has)).count();
    ensure!(with_addresses == 1, "{with_addresses} nodes have the addresses");
    Ok(())
}

#[test]
fn advertisements_come_from_the_active_node_also_once_that_is_another_one() -> Result<()> {
    let mut of_machine = None;
    let mut cloud = Replicated::running_with(|routed| {
        of_machine = Some(advertise(routed));
        Ok(())
    })?;
    let port = of_machine.expect("prepared");
    let [active, other] = cloud.roles()?;
    let machine = boot_by_advertisement(&cloud.routed, "before", &port)?;
    cloud.lose(active)?;
    cloud.wait_until_active(other)?;
    // It goes on with what it knows, and another one in its place hears the same.
    machine.wait_for(cloud.routed.outside_ipv6())?;
    drop(machine);
    let link = port.tap();
    wait_until("the first machine's tap is gone", || {
        Ok(cloud.host("compute").run(&format!("ip link show {link}")).is_err())
    })?;
    boot_by_advertisement(&cloud.routed, "after", &port).map(drop)
}
