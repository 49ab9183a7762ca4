//! Changes of security groups take effect on ports that are in use.

use anyhow::{Context as _, Result, ensure};
use overlane_tests::{
    lab::{Connection, Machine, Waiting},
    neutron::{Agent, Bed, Cloud},
    wait::wait_until,
};
use serde_json::json;

expect_of_overlane! {
    a_rule_admits_from_when_it_is_added_until_it_is_removed
    members_of_a_remote_group_come_and_go
    the_first_packet_that_a_machine_gets_out_can_be_answered
}

fn a_rule_admits_from_when_it_is_added_until_it_is_removed(subject: Agent) -> Result<()> {
    let cloud = Cloud::shared()?;
    let group = cloud.security_group("web")?;
    let bed = Bed::with(&cloud, subject, &json!({"security_groups": [group]}))?;
    let (left, right, address) = (bed.left(), bed.right(), bed.ports[0].ipv4());
    ensure!(!right.reaches(address), "nothing is admitted yet");
    let rule = cloud.add_rule(&group, &json!({"protocol": "tcp", "port_range_min": 80, "port_range_max": 80}))?;
    let mut connection = None;
    wait_until("the rule admits", || {
        connection = Connection::open(right, left, address, 80)?;
        Ok(connection.is_some())
    })?;
    let mut connection = connection.context("a connection")?;
    ensure!(connection.is_alive()?);
    ensure!(Connection::open(right, left, address, 81)?.is_none(), "the rule is for port 80 only");
    cloud.remove_rule(&rule)?;
    wait_until("nobody else is admitted", || Ok(Connection::open(right, left, address, 80)?.is_none()))?;
    wait_until("the connection is cut", || Ok(!connection.is_alive()?))
}

fn members_of_a_remote_group_come_and_go(subject: Agent) -> Result<()> {
    let cloud = Cloud::shared()?;
    let [servers, clients] = [cloud.security_group("servers")?, cloud.security_group("clients")?];
    cloud.add_rule(&servers, &json!({"protocol": "icmp", "remote_group_id": clients}))?;
    let bed = Bed::with(&cloud, subject, &json!({"security_groups": [servers]}))?;
    let address = bed.ports[0].ipv4();
    ensure!(!bed.right().reaches(address), "no client yet");
    cloud.update_port(&bed.ports[1], &json!({"security_groups": [servers, clients]}))?;
    bed.right().wait_for(address)?;
    cloud.update_port(&bed.ports[1], &json!({"security_groups": [servers]}))?;
    wait_until("it is no client any more", || Ok(!bed.right().reaches(address)))
}

fn the_first_packet_that_a_machine_gets_out_can_be_answered(subject: Agent) -> Result<()> {
    let cloud = Cloud::shared()?;
    let bed = Bed::of(&cloud, subject)?;
    bed.wait_until_connected()?;
    // Its peer asks by ARP where to answer, and does not ask again for longer than anybody waits here.
    bed.right().namespace.set_parameter("net/ipv4/neigh/eth0/retrans_time_ms", "60000")?;
    let (port, host) = (cloud.port(&bed.network, bed.host(), &json!({}))?, cloud.lab().host(bed.host()));
    let machine = Machine::off(cloud.world(), "vm-first", &port)?;
    let waiting = Waiting::prepare(&machine, host, cloud.world().folder(), bed.ports[1].ipv4())?;
    waiting.connect(host, &bed.network.bridge())?;
    host.run(&format!("ip {}", waiting.appear()))?;
    waiting.first_answer().map(drop)
}
