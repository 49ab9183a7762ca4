//! Trunks: a machine of the agent under test is in two networks by one tap, next to machines of Neutron's own agent.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use overlane_tests::{
    lab::{Machine, Port, Stream, TrunkMachine},
    neutron::{Agent, Cloud, Network, PEER, host_of},
    wait::{PATIENCE, wait_at_most, wait_until},
};
use serde_json::json;

expect_of_overlane! {
    a_machine_is_in_two_networks_by_one_tap
    a_trunk_is_made_changed_and_deleted_while_its_machine_runs
    security_groups_of_a_subport_are_its_own
    a_subport_goes_and_comes_with_the_tap_of_its_trunk
    machines_behind_a_trunk_do_not_notice_that_the_agent_is_killed
    machines_behind_a_trunk_do_not_notice_that_members_of_their_group_come_and_go
}

const VID: u16 = 101;
const OTHER_VID: u16 = 102;

/// A machine whose port has a trunk, on the host of the agent under test, and one on another host in the subport's network.
struct Trunked<'cloud> {
    cloud: &'cloud Cloud,
    /// The trunk's own network.
    network: Network,
    port: Port,
    sub_network: Network,
    sub_port: Port,
    trunk: String,
    machine: TrunkMachine,
    peer: Machine,
}

impl<'cloud> Trunked<'cloud> {
    fn new(cloud: &'cloud Cloud, subject: Agent) -> Result<Self> {
        let network = cloud.network(&json!({}))?;
        let port = cloud.port(&network, host_of(subject), &json!({}))?;
        let (sub_network, sub_port, peer) = sub_network(cloud, subject)?;
        let trunk = cloud.trunk(&port, &[(&sub_port, VID)])?;
        let machine = cloud.plug_trunk(&network, &port, &[(&sub_port, VID)])?;
        let trunked = Self { cloud, network, port, sub_network, sub_port, trunk, machine, peer };
        trunked.wait_until_active()?;
        Ok(trunked)
    }

    fn wait_until_active(&self) -> Result<()> {
        for port in [&self.port, &self.sub_port] {
            self.cloud.wait_for_status(port, "ACTIVE")?;
        }
        self.cloud.wait_for_trunk(&self.trunk, "ACTIVE")
    }

    fn wait_until_connected(&self) -> Result<()> {
        self.machine.machine.wait_for(self.peer.port.ipv4())?;
        self.peer.wait_for(self.sub_port.ipv6())
    }

    fn has_device(&self) -> bool {
        self.cloud.lab().host(&self.port.host).run(&format!("ip link show {}", self.sub_port.tap())).is_ok()
    }
}

/// A network with a port that is to be a subport, bound to no host, and a machine of Neutron's own agent.
fn sub_network(cloud: &Cloud, subject: Agent) -> Result<(Network, Port, Machine)> {
    let network = cloud.bare_network(&json!({}))?;
    cloud.subnet(&network, &json!({"cidr": "10.1.0.0/24", "enable_dhcp": false}))?;
    cloud.subnet(&network, &json!({"cidr": "fd01::/64", "ip_version": 6, "enable_dhcp": false}))?;
    let sub_port = cloud.unbound_port(&network, host_of(subject), &json!({}))?;
    let peer_port = cloud.port(&network, PEER, &json!({}))?;
    let peer = cloud.boot(&network, &peer_port)?;
    Ok((network, sub_port, peer))
}

fn a_machine_is_in_two_networks_by_one_tap(subject: Agent) -> Result<()> {
    let cloud = Cloud::shared()?;
    let trunked = Trunked::new(&cloud, subject)?;
    let own_peer_port = cloud.port(&trunked.network, PEER, &json!({}))?;
    let own_peer = cloud.boot(&trunked.network, &own_peer_port)?;
    trunked.wait_until_connected()?;
    let machine = &trunked.machine.machine;
    own_peer.wait_for(trunked.port.ipv4())?;
    machine.wait_for(own_peer_port.ipv6())?;
    for (from, to) in [
        (machine, &trunked.peer.port),
        (&trunked.peer, &trunked.sub_port),
        (machine, &own_peer_port),
        (&own_peer, &trunked.port),
    ] {
        from.ping(to.ipv4(), 20)?;
        from.ping(to.ipv6(), 20)?;
    }
    let shown = cloud.show_port(&trunked.sub_port)?;
    ensure!(shown["binding:host_id"] == trunked.port.host.as_str(), "{shown}");
    ensure!(shown["device_owner"] == "trunk:subport" && shown["binding:vif_type"] == "bridge", "{shown}");
    let link = cloud.lab().host(&trunked.port.host).run(&format!("ip -o link show {}", trunked.sub_port.tap()))?;
    ensure!(link.contains(&format!("master {}", trunked.sub_network.bridge())), "{link}");
    Ok(())
}

fn a_trunk_is_made_changed_and_deleted_while_its_machine_runs(subject: Agent) -> Result<()> {
    let cloud = Cloud::shared()?;
    let network = cloud.network(&json!({}))?;
    let port = cloud.port(&network, host_of(subject), &json!({}))?;
    let (_, first, first_peer) = sub_network(&cloud, subject)?;
    let (_, second, _) = sub_network(&cloud, subject)?;
    let trunk = cloud.trunk(&port, &[])?;
    let machine = cloud.plug_trunk(&network, &port, &[(&first, VID)])?;
    cloud.wait_for_status(&port, "ACTIVE")?;
    cloud.wait_for_trunk(&trunk, "ACTIVE")?;
    cloud.add_sub_ports(&trunk, &[(&first, VID), (&second, OTHER_VID)])?;
    for port in [&first, &second] {
        cloud.wait_for_status(port, "ACTIVE")?;
    }
    cloud.wait_for_trunk(&trunk, "ACTIVE")?;
    machine.machine.wait_for(first_peer.port.ipv4())?;
    first_peer.wait_for(first.ipv6())?;
    let host = cloud.lab().host(&port.host);
    let is_there = |port: &Port| host.run(&format!("ip link show {}", port.tap())).is_ok();
    cloud.remove_sub_ports(&trunk, &[&first])?;
    cloud.wait_for_status(&first, "DOWN")?;
    ensure!(!is_there(&first) && is_there(&second));
    ensure!(!machine.machine.reaches(first_peer.port.ipv4()));
    cloud.wait_for_trunk(&trunk, "ACTIVE")?;
    cloud.delete_trunk(&trunk)?;
    cloud.wait_for_status(&second, "DOWN")?;
    ensure!(!is_there(&second));
    // And anew, with the machine running.
    let trunk = cloud.trunk(&port, &[(&first, VID)])?;
    cloud.wait_for_status(&first, "ACTIVE")?;
    cloud.wait_for_trunk(&trunk, "ACTIVE")?;
    machine.machine.wait_for(first_peer.port.ipv4())
}

fn security_groups_of_a_subport_are_its_own(subject: Agent) -> Result<()> {
    let cloud = Cloud::shared()?;
    let trunked = Trunked::new(&cloud, subject)?;
    trunked.wait_until_connected()?;
    let group = cloud.security_group("closed")?;
    cloud.update_port(&trunked.sub_port, &json!({"security_groups": [group]}))?;
    wait_until("nothing reaches the subport", || Ok(!trunked.peer.reaches(trunked.sub_port.ipv4())))?;
    cloud.add_rule(&group, &json!({"protocol": "icmp"}))?;
    trunked.peer.wait_for(trunked.sub_port.ipv4())
}

fn a_subport_goes_and_comes_with_the_tap_of_its_trunk(subject: Agent) -> Result<()> {
    let cloud = Cloud::shared()?;
    let mut trunked = Trunked::new(&cloud, subject)?;
    drop(trunked.machine);
    for port in [&trunked.port, &trunked.sub_port] {
        cloud.wait_for_status(port, "DOWN")?;
    }
    trunked.machine = cloud.plug_trunk(&trunked.network, &trunked.port, &[(&trunked.sub_port, VID)])?;
    trunked.wait_until_active()?;
    ensure!(trunked.has_device());
    trunked.wait_until_connected()
}

fn machines_behind_a_trunk_do_not_notice_that_the_agent_is_killed(subject: Agent) -> Result<()> {
    let cloud = Cloud::alone()?;
    let trunked = Trunked::new(&cloud, subject)?;
    trunked.wait_until_connected()?;
    let host = trunked.port.host.as_str();
    let before = [cloud.show_port(&trunked.sub_port)?, cloud.show_trunk(&trunked.trunk)?];
    let stream = Stream::start(cloud.world().folder(), &trunked.peer.namespace, trunked.sub_port.ipv4())?;
    cloud.node(host).stop_agent(subject, Signal::SIGKILL)?;
    cloud.node(host).start_agent(subject)?;
    wait_at_most(PATIENCE * 3, "the agent is ready", || {
        let log = cloud.node(host).log(subject)?;
        Ok(log.contains("ready: ").then_some(()))
    })?;
    stream.expect_no_loss()?;
    // Neither was bound or built anew.
    let after = [cloud.show_port(&trunked.sub_port)?, cloud.show_trunk(&trunked.trunk)?];
    for (before, after) in before.iter().zip(&after) {
        ensure!(
            (&before["revision_number"], &before["status"]) == (&after["revision_number"], &after["status"]),
            "{after}"
        );
    }
    let other = cloud.port(&trunked.network, host, &json!({}))?;
    cloud.boot(&trunked.network, &other).map(drop)
}

fn machines_behind_a_trunk_do_not_notice_that_members_of_their_group_come_and_go(subject: Agent) -> Result<()> {
    let cloud = Cloud::alone()?;
    let trunked = Trunked::new(&cloud, subject)?;
    trunked.wait_until_connected()?;
    let node = cloud.node(&trunked.port.host);
    let stream = Stream::start(cloud.world().folder(), &trunked.peer.namespace, trunked.sub_port.ipv4())?;
    let member = cloud.port(&trunked.sub_network, PEER, &json!({}))?;
    for step in ["set", "delete"] {
        if step == "delete" {
            cloud.delete_port(&member)?;
        }
        wait_at_most(PATIENCE * 3, &format!("{step} {}", member.ipv4()), || {
            let is_it = |line: &str| line.contains(&format!("{step} members[")) && line.contains(member.ipv4());
            Ok(node.log(subject)?.lines().any(is_it).then_some(()))
        })?;
    }
    stream.expect_no_loss()
}
