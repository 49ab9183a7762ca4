//! Security groups: who is asked about, and what follows.

use std::collections::BTreeSet;

use overlane_core::{
    model::SecurityGroupId,
    neutron::controller::Question,
    security::{PortSecurity, Rulebook},
};
use serde_json::json;

use crate::{
    running,
    simulated::{GROUP, SimulatedPort, World, network, port},
};

pub(crate) const OTHER_GROUP: &str = "d5df4c46-9e75-4d75-bc4f-7ef4ce783969";

pub(crate) fn group(id: &str) -> SecurityGroupId {
    SecurityGroupId(id.parse().expect("an id"))
}

pub(crate) fn members(rulebook: &Rulebook, id: &str) -> usize {
    rulebook.groups.security[&group(id)].members.len()
}

pub(crate) fn groups_of(world: &World, number: u8) -> BTreeSet<SecurityGroupId> {
    match &world.desired.networks[&network(1)].local_ports[&port(number)].security {
        PortSecurity::Enforced(filter) => filter.groups.clone().expect("groups are known"),
        PortSecurity::Open => panic!("port {number} is open"),
    }
}

#[test]
fn a_new_member_is_asked_for_once_however_many_ports_admit_it() {
    let mut world = running();
    assert_eq!(members(&world.desired.rulebook, GROUP), 2);
    world.ports.insert(port(9), SimulatedPort { host: "host2", ..SimulatedPort::new(9, 1) });
    world.notify("security_groups_member_updated", json!({ "security_groups": [GROUP] }), false);
    let asked = world.settle();
    let [Question::Security(taps)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(taps.len(), 1);
    assert_eq!(members(&world.desired.rulebook, GROUP), 3);
}

#[test]
fn groups_that_no_port_here_has_or_names_are_not_asked_about() {
    let mut world = running();
    for method in ["security_groups_member_updated", "security_groups_rule_updated"] {
        world.notify(method, json!({ "security_groups": [OTHER_GROUP] }), false);
    }
    assert_eq!(world.settle(), []);
}

#[test]
fn a_port_stays_as_it_was_until_its_new_groups_are_known() {
    let mut world = running();
    world.ports.get_mut(&port(1)).expect("a port").group = OTHER_GROUP;
    world.notify("port_update", json!({ "port": { "id": port(1) } }), false);
    let asked = world.settle();
    assert_eq!(asked, [Question::Ports(vec![port(1)]), Question::Security(vec![port(1).tap_name()])]);
    assert_eq!(groups_of(&world, 1), [group(OTHER_GROUP)].into());
    assert_eq!(groups_of(&world, 2), [group(GROUP)].into());
}

#[test]
fn a_new_port_is_not_connected_before_its_groups_are_known() {
    let mut world = running();
    world.ports.insert(port(3), SimulatedPort { group: OTHER_GROUP, ..SimulatedPort::new(3, 1) });
    world.plug(port(3));
    world.settle();
    let now = world.now;
    let questions = world.controller.questions(now);
    assert_eq!(questions, []);
    assert_eq!(groups_of(&world, 3), [group(OTHER_GROUP)].into());
}
