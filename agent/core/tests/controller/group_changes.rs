//! Changes of security groups that are not to be lost, whatever else happens.

use overlane_core::{
    model::{AddressGroupId, PortId},
    neutron::controller::{Answer, Question},
};
use serde_json::{Value, json};

use crate::{
    groups::{OTHER_GROUP, group, groups_of, members},
    running,
    simulated::{GROUP, SimulatedPort, World, port, wrapped},
};

const ADDRESS_GROUP: &str = "6f3ee3ec-630c-4271-a596-64c465897b9a";

/// A port that is asked about before all others.
const FIRST: PortId = PortId(uuid::Uuid::nil());

fn elsewhere() -> SimulatedPort {
    SimulatedPort { host: "host2", ..SimulatedPort::new(9, 1) }
}

fn members_updated(world: &mut World, id: &str) {
    world.notify("security_groups_member_updated", json!({ "security_groups": [id] }), false);
}

fn change_group(world: &mut World, of: &[u8], to: &'static str) {
    for number in of {
        world.ports.get_mut(&port(*number)).expect("a port").group = to;
        world.tell_port(port(*number));
    }
}

/// The only question that is due, and its answer as of now.
fn ask(world: &mut World) -> (Question, Answer) {
    let mut questions = world.controller.questions(world.now);
    let (Some(question), true) = (questions.pop(), questions.is_empty()) else { panic!("more: {questions:?}") };
    let answer = world.answer(&question).expect("the server answers");
    (question, answer)
}

fn unplug(world: &mut World, id: PortId) {
    world.taps.remove(&id.tap_name());
    world.host_follows();
}

fn rule_from(field: &str, id: &str) -> Value {
    json!({ "direction": "ingress", "ethertype": "IPv4", "protocol": "udp", field: id })
}

/// A member that joins is known, whoever is asked.
fn assert_changes_are_followed(world: &mut World) {
    world.settle();
    let known = members(&world.desired.rulebook, GROUP);
    world.ports.insert(port(9), elsewhere());
    members_updated(world, GROUP);
    world.settle();
    assert_eq!(members(&world.desired.rulebook, GROUP), known + 1);
}

#[test]
fn a_tap_that_went_while_its_groups_were_asked_for_hides_no_change() {
    let mut world = running();
    world.ports.insert(FIRST, SimulatedPort::new(0, 1));
    world.plug(FIRST);
    world.host_follows();
    let (question, answer) = ask(&mut world);
    unplug(&mut world, FIRST);
    world.controller.answered(question, answer, world.now);
    assert_changes_are_followed(&mut world);
}

#[test]
fn the_tap_of_a_port_that_works_elsewhere_hides_no_change_when_it_has_gone() {
    let mut world = running();
    world.ports.insert(FIRST, SimulatedPort { host: "host2", ..SimulatedPort::new(0, 1) });
    world.plug(FIRST);
    world.settle();
    unplug(&mut world, FIRST);
    assert_changes_are_followed(&mut world);
}

#[test]
fn a_change_is_learned_though_the_tap_goes_that_was_to_be_asked_about() {
    let mut world = running();
    world.ports.remove(&port(1));
    members_updated(&mut world, GROUP);
    unplug(&mut world, port(1));
    world.settle();
    assert_eq!(members(&world.desired.rulebook, GROUP), 1);
}

#[test]
fn a_change_is_learned_though_the_server_has_the_port_no_more_that_is_asked_about() {
    let mut world = running();
    world.ports.remove(&port(1));
    members_updated(&mut world, GROUP);
    world.settle();
    assert_eq!(members(&world.desired.rulebook, GROUP), 1);
    members_updated(&mut world, GROUP);
    assert_eq!(world.settle(), [Question::Security(vec![port(2).tap_name()])], "it is known whom to ask");
}

#[test]
fn a_change_of_members_is_learned_though_the_only_port_of_a_group_that_names_them_has_gone_from_the_server() {
    let mut world = running();
    world.rules.insert(OTHER_GROUP, vec![rule_from("remote_group_id", GROUP)]);
    change_group(&mut world, &[1], OTHER_GROUP);
    members_updated(&mut world, GROUP);
    world.settle();
    assert_eq!(members(&world.desired.rulebook, GROUP), 1);
    world.ports.remove(&port(1));
    world.ports.insert(port(9), elsewhere());
    members_updated(&mut world, GROUP);
    world.settle();
    assert_eq!(members(&world.desired.rulebook, GROUP), 2);
}

#[test]
fn a_group_that_is_used_again_has_the_rules_and_members_of_now() {
    let mut world = running();
    world.rules.insert(GROUP, vec![rule_from("remote_group_id", OTHER_GROUP)]);
    world.notify("security_groups_rule_updated", json!({ "security_groups": [GROUP] }), false);
    world.settle();
    assert_eq!(world.desired.rulebook.groups.security[&group(GROUP)].rules.len(), 2);
    change_group(&mut world, &[1, 2], OTHER_GROUP);
    world.settle();
    world.rules.clear();
    world.ports.insert(port(9), elsewhere());
    members_updated(&mut world, GROUP);
    world.notify("security_groups_rule_updated", json!({ "security_groups": [GROUP] }), false);
    assert_eq!(world.settle(), [], "nobody here has it");
    change_group(&mut world, &[1], GROUP);
    world.settle();
    assert_eq!(groups_of(&world, 1), [group(GROUP)].into());
    assert_eq!(world.desired.rulebook.groups.security[&group(GROUP)].rules.len(), 1);
    assert_eq!(members(&world.desired.rulebook, GROUP), 2);
}

#[test]
fn a_port_is_held_to_the_rules_of_its_former_groups_until_its_new_ones_are_known() {
    let mut world = running();
    let before = world.desired.clone();
    change_group(&mut world, &[1, 2], OTHER_GROUP);
    let (question, answer) = ask(&mut world);
    world.controller.answered(question, answer, world.now);
    world.take_update();
    assert_eq!(world.desired.networks, before.networks);
    assert_eq!(world.desired.rulebook, before.rulebook);
    world.settle();
    assert!(!world.desired.rulebook.groups.security.contains_key(&group(GROUP)));
}

#[test]
fn a_late_answer_does_not_give_a_port_its_former_groups_back() {
    let mut world = running();
    change_group(&mut world, &[2], OTHER_GROUP);
    world.settle();
    members_updated(&mut world, GROUP);
    let (late, answer) = ask(&mut world);
    assert_eq!(late, Question::Security(vec![port(1).tap_name()]));
    change_group(&mut world, &[1], OTHER_GROUP);
    let (question, newer) = ask(&mut world);
    world.controller.answered(question, newer, world.now);
    world.controller.answered(late, answer, world.now);
    world.settle();
    assert_eq!(groups_of(&world, 1), [group(OTHER_GROUP)].into());
}

#[test]
fn allowed_address_pairs_that_a_port_gets_or_loses_are_members_at_once_wherever_it_is() {
    let mut world = running();
    world.ports.insert(port(9), elsewhere());
    members_updated(&mut world, GROUP);
    world.settle();
    for changed in [9, 1] {
        for (pairs, expected) in [(vec!["10.0.1.250", "10.9.0.0/24"], 5), (vec!["10.0.1.250"], 4), (vec![], 3)] {
            world.ports.get_mut(&port(changed)).expect("a port").pairs = pairs;
            world.tell_port(port(changed));
            let asked = world.settle();
            let about_groups = asked.iter().filter(|asked| matches!(asked, Question::Security(_)));
            assert_eq!(about_groups.count(), 1, "{asked:?}");
            assert_eq!(members(&world.desired.rulebook, GROUP), expected);
        }
    }
}

#[test]
fn changes_of_ports_elsewhere_that_leave_members_as_they_are_cost_no_question() {
    let mut world = running();
    world.ports.insert(port(9), SimulatedPort { pairs: vec!["10.0.1.250"], ..elsewhere() });
    members_updated(&mut world, GROUP);
    world.ports.insert(port(8), SimulatedPort { group: OTHER_GROUP, pairs: vec!["10.0.1.249"], ..elsewhere() });
    world.settle();
    for number in [8, 9] {
        world.tell_port(port(number));
    }
    assert_eq!(world.settle(), []);
}

#[test]
fn addresses_that_were_taken_out_of_an_address_group_stay_out_whatever_late_pushes_say() {
    let mut world = running();
    let addresses = |world: &World| {
        let id = AddressGroupId(ADDRESS_GROUP.parse().expect("an id"));
        world.desired.rulebook.groups.address[&id].iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let push = |world: &mut World, revision: u64, addresses: &[&str]| {
        let list: Vec<Value> =
            addresses.iter().map(|address| wrapped("AddressAssociation", &json!({ "address": address }))).collect();
        let group =
            wrapped("AddressGroup", &json!({ "id": ADDRESS_GROUP, "addresses": list, "revision_number": revision }));
        world.notify("push", json!({ "event_type": "updated", "resource_list": [group] }), false);
        world.settle()
    };
    world.address_groups.insert(ADDRESS_GROUP, vec!["198.51.100.0/24", "203.0.113.7/32"]);
    assert_eq!(push(&mut world, 1, &["198.51.100.0/24"]), [], "no rule here names it");
    world.rules.insert(GROUP, vec![rule_from("remote_address_group_id", ADDRESS_GROUP)]);
    world.notify("security_groups_rule_updated", json!({ "security_groups": [GROUP] }), false);
    world.settle();
    assert_eq!(addresses(&world), ["198.51.100.0/24", "203.0.113.7/32"]);
    world.address_groups.insert(ADDRESS_GROUP, vec!["203.0.113.7/32"]);
    push(&mut world, 3, &["203.0.113.7/32"]);
    push(&mut world, 2, &["198.51.100.0/24", "203.0.113.7/32"]);
    assert_eq!(addresses(&world), ["203.0.113.7/32"]);
}
