//! Edits that cannot be meant: refused with the reason and the ids, while everything goes on as it was.

use anyhow::{Result, ensure};
use overlane_tests::lab::{Routed, Topology};

/// Makes an edit, and expects every agent to refuse it with all of `reasons`, and traffic to go on.
fn expect_refusal(routed: &Routed, edit: impl FnOnce(&mut Topology), reasons: &[&str]) -> Result<()> {
    let mut topology = routed.topology.clone();
    edit(&mut topology);
    topology.write(&routed.topology_file)?;
    for agent in &routed.agents {
        for reason in reasons {
            agent.wait_for_log(reason)?;
        }
        agent.wait_for_log("the last good one stays in force")?;
    }
    let [first, second] = &routed.machines[..] else { unreachable!("there are two") };
    first.ping(second.port.ipv4(), 10)?;
    first.ping(routed.outside(), 10)?;
    // The last good file settles it.
    routed.topology.write(&routed.topology_file)?;
    routed.settle()
}

#[test]
fn a_network_that_still_has_ports_cannot_be_deleted() -> Result<()> {
    let routed = Routed::running()?;
    let (network, port) = (routed.inside[0].id.clone(), routed.ports[0].id.clone());
    let reasons = [format!("network_id {network} is not among the networks"), format!("port {port} is in it")];
    let edit = |topology: &mut Topology| topology.networks.retain(|known| known.id != network);
    expect_refusal(&routed, edit, &reasons.each_ref().map(String::as_str))
}

#[test]
fn an_external_network_with_a_floating_ip_in_use_cannot_be_deleted() -> Result<()> {
    let routed = Routed::running_with(|routed| {
        let port = routed.ports[0].clone();
        routed.topology.add_floating_ip(&routed.external, 160, Some(&port));
        Ok(())
    })?;
    let (network, floating) = (routed.external.id.clone(), routed.topology.floating_ips[0].id.clone());
    let reasons = [
        format!("floating_network_id {network} is not among the networks"),
        format!("floating IP {floating} (10.0.50.160) is in use"),
    ];
    let edit = |topology: &mut Topology| {
        topology.networks.retain(|known| known.id != network);
        topology.ports.retain(|port| port.network_id != network);
    };
    expect_refusal(&routed, edit, &reasons.each_ref().map(String::as_str))
}

#[test]
fn a_refused_edit_is_complained_about_once_and_a_good_one_taken_at_once() -> Result<()> {
    let routed = Routed::running()?;
    let edit = |topology: &mut Topology| topology.routers[0].hosts = vec!["nowhere".to_owned()];
    expect_refusal(&routed, edit, &["host \"nowhere\" of router router1 is not among the hosts with network_node"])?;
    let log = routed.agents[0].log()?;
    ensure!(log.matches("host \"nowhere\" of router").count() == 1, "{log}");
    Ok(())
}
