//! Trunks of ports, from the server's word to devices and back.

use std::time::Duration;

use overlane_core::{
    desired::SubPort,
    model::PortId,
    neutron::controller::{News, Question},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    details_of, restarted, running,
    simulated::{SimulatedPort, SimulatedTrunk, World, network, port},
};

const TRUNK: Uuid = Uuid::from_bytes([0xdd; 16]);

fn add_sub_port(world: &mut World, number: u8, vid: u32) {
    // Nobody has bound it yet.
    world.ports.insert(port(number), SimulatedPort { host: "", owner: "", ..SimulatedPort::new(number, 2) });
    let trunk = world.trunks.entry(port(1)).or_insert_with(|| SimulatedTrunk {
        id: TRUNK,
        status: "DOWN".to_owned(),
        sub_ports: [].into(),
    });
    trunk.sub_ports.insert(port(number), vid);
}

fn push(world: &mut World, kind: &str, event: &str, data: &Value) {
    let object = json!({ "versioned_object.name": kind, "versioned_object.version": "1.0",
                         "versioned_object.data": data });
    world.notify("push", json!({ "event_type": event, "resource_list": [object] }), false);
}

fn trunk_created(world: &mut World) {
    push(world, "Trunk", "created", &json!({ "id": TRUNK, "port_id": port(1), "status": "DOWN", "sub_ports": [] }));
}

fn sub_port_event(world: &mut World, event: &str, number: u8, vid: u32) {
    let data = json!({ "port_id": port(number), "trunk_id": TRUNK, "segmentation_type": "vlan",
                       "segmentation_id": vid });
    push(world, "SubPort", event, &data);
}

/// A host whose port 1 has a trunk with subports 7 and 8 in network 2.
fn trunk() -> World {
    let mut world = running();
    add_sub_port(&mut world, 7, 101);
    add_sub_port(&mut world, 8, 102);
    trunk_created(&mut world);
    world.settle();
    world
}

fn sub_ports(world: &World) -> Vec<(PortId, PortId, u16)> {
    let sub_ports = world.desired.sub_ports.iter();
    sub_ports.map(|(id, SubPort { parent, vid })| (*id, *parent, vid.get())).collect()
}

fn local_ports(world: &World) -> usize {
    world.desired.networks.get(&network(2)).map_or(0, |network| network.local_ports.len())
}

#[test]
fn a_new_trunk_is_bound_wired_and_told_to_be_active_and_its_subports_are_ports_like_others() {
    let world = trunk();
    assert_eq!(sub_ports(&world), [(port(7), port(1), 101), (port(8), port(1), 102)]);
    assert_eq!(world.trunks[&port(1)].status, "ACTIVE");
    assert!([7, 8].iter().all(|number| world.ports[&port(*number)].status == "ACTIVE"));
    assert_eq!(local_ports(&world), 2);
    assert!(world.news.contains(&News::TrunkStatus { trunk: TRUNK, status: "ACTIVE" }), "{:?}", world.news);
}

#[test]
fn a_port_that_comes_with_its_trunk_is_asked_about_it_and_no_subport_is() {
    let mut world = World::new();
    world.ports.insert(port(1), SimulatedPort::new(1, 1));
    add_sub_port(&mut world, 7, 101);
    world.plug(port(1));
    world.connect();
    let asked = world.settle();
    assert_eq!(local_ports(&world), 1);
    let read: Vec<_> = asked.iter().filter(|asked| matches!(asked, Question::Trunks(_))).collect();
    assert_eq!(read, [&Question::Trunks(vec![port(1)])]);
}

#[test]
fn subports_come_and_go_while_the_trunk_works() {
    let mut world = trunk();
    add_sub_port(&mut world, 9, 103);
    sub_port_event(&mut world, "created", 9, 103);
    let asked = world.settle();
    let bound: Vec<_> = asked
        .iter()
        .filter_map(|asked| if let Question::SubPorts(sub_ports) = asked { Some(sub_ports) } else { None })
        .flatten()
        .map(|sub_port| sub_port.port_id)
        .collect();
    assert_eq!((bound, local_ports(&world)), (vec![port(9)], 3));
    assert_eq!(world.trunks[&port(1)].status, "ACTIVE");

    world.trunks.get_mut(&port(1)).expect("a trunk").sub_ports.remove(&port(8));
    sub_port_event(&mut world, "deleted", 8, 102);
    world.settle();
    assert_eq!(sub_ports(&world), [(port(7), port(1), 101), (port(9), port(1), 103)]);
    assert_eq!((world.ports[&port(8)].status, local_ports(&world)), ("DOWN", 2));
    assert!(!world.taps.contains_key(&port(8).tap_name()));
}

#[test]
fn the_tag_of_a_subport_can_change() {
    let mut world = trunk();
    world.trunks.get_mut(&port(1)).expect("a trunk").sub_ports.insert(port(7), 111);
    trunk_created(&mut world);
    world.settle();
    assert_eq!(sub_ports(&world)[0], (port(7), port(1), 111));
}

#[test]
fn a_deleted_trunk_takes_its_subports_along_and_not_its_port() {
    let mut world = trunk();
    world.trunks.clear();
    push(&mut world, "Trunk", "deleted", &json!({ "id": TRUNK }));
    world.settle();
    assert_eq!((sub_ports(&world), local_ports(&world)), (vec![], 0));
    assert_eq!((world.ports[&port(7)].status, world.ports[&port(1)].status), ("DOWN", "ACTIVE"));
    assert!(world.news.contains(&News::Trunk { port: port(1), trunk: TRUNK, sub_ports: None }));
}

#[test]
fn a_port_that_is_unplugged_takes_its_subports_along() {
    let mut world = trunk();
    world.taps.remove(&port(1).tap_name());
    world.settle();
    assert_eq!((sub_ports(&world), local_ports(&world)), (vec![], 0));
    assert!([1, 7, 8].iter().all(|number| world.ports[&port(*number)].status == "DOWN"));
    world.plug(port(1));
    world.settle();
    assert_eq!(local_ports(&world), 2);
    assert!([1, 7, 8].iter().all(|number| world.ports[&port(*number)].status == "ACTIVE"));
}

#[test]
fn a_restarted_agent_disturbs_neither_trunk_nor_subports() {
    let mut world = restarted(trunk());
    world.connect();
    let asked = world.settle();
    assert_eq!(details_of(&asked), Vec::<&String>::new());
    assert!(
        !asked.iter().any(|asked| matches!(asked, Question::SubPorts(_) | Question::TrunkStatus { .. })),
        "{asked:?}"
    );
    assert_eq!((sub_ports(&world).len(), local_ports(&world)), (2, 2));
    world.pass(Duration::from_secs(6));
    assert!(world.desired.complete);
    assert!(world.ports.values().all(|port| port.status == "ACTIVE"));
}

#[test]
fn what_has_happened_to_a_trunk_while_the_agent_was_away_is_caught_up_with() {
    let mut old = trunk();
    old.trunks.get_mut(&port(1)).expect("a trunk").sub_ports.remove(&port(8));
    add_sub_port(&mut old, 9, 103);
    let mut world = restarted(old);
    world.connect();
    world.settle();
    world.pass(Duration::from_secs(6));
    assert_eq!(sub_ports(&world), [(port(7), port(1), 101), (port(9), port(1), 103)]);
    assert_eq!((world.ports[&port(8)].status, world.trunks[&port(1)].status.as_str()), ("DOWN", "ACTIVE"));
}

#[test]
fn a_subport_that_cannot_be_connected_makes_the_trunk_degraded_until_it_can() {
    let mut world = running();
    world.blocked.insert(port(8));
    add_sub_port(&mut world, 7, 101);
    add_sub_port(&mut world, 8, 102);
    trunk_created(&mut world);
    world.settle();
    assert_eq!((world.trunks[&port(1)].status.as_str(), local_ports(&world)), ("BUILD", 1));
    world.pass(Duration::from_secs(11));
    assert_eq!(world.trunks[&port(1)].status, "DEGRADED");
    assert!(world.news.iter().any(|news| news.is_trouble() && matches!(news, News::TrunkStatus { .. })));
    world.blocked.clear();
    world.settle();
    assert_eq!((world.trunks[&port(1)].status.as_str(), local_ports(&world)), ("ACTIVE", 2));
}

#[test]
fn the_time_that_a_busy_server_takes_to_bind_subports_is_not_counted_as_the_hosts() {
    let mut world = running();
    (world.is_busy, world.blocked) = (true, [port(7)].into());
    add_sub_port(&mut world, 7, 101);
    trunk_created(&mut world);
    world.pass(Duration::from_secs(20));
    assert!(sub_ports(&world).is_empty());
    world.is_busy = false;
    while sub_ports(&world).is_empty() {
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.trunks[&port(1)].status, "BUILD");
    world.pass(Duration::from_secs(11));
    assert_eq!(world.trunks[&port(1)].status, "DEGRADED");
}

#[test]
fn a_subport_that_the_server_cannot_bind_is_named_and_the_others_work() {
    let mut world = running();
    world.unbindable.insert(port(8));
    add_sub_port(&mut world, 7, 101);
    add_sub_port(&mut world, 8, 102);
    trunk_created(&mut world);
    world.settle();
    world.pass(Duration::from_secs(60));
    assert_eq!((world.trunks[&port(1)].status.as_str(), local_ports(&world)), ("ERROR", 1));
    assert!(world.news.contains(&News::NotBound { port: port(8), trunk: TRUNK }), "{:?}", world.news);
    world.unbindable.clear();
    trunk_created(&mut world);
    world.settle();
    assert_eq!((world.trunks[&port(1)].status.as_str(), local_ports(&world)), ("ACTIVE", 2));
}

#[test]
fn subports_that_are_told_apart_by_anything_but_a_vlan_are_named_and_left_out() {
    let mut world = running();
    add_sub_port(&mut world, 7, 101);
    add_sub_port(&mut world, 8, 4095);
    trunk_created(&mut world);
    world.settle();
    assert_eq!(sub_ports(&world), [(port(7), port(1), 101)]);
    let is_named = |news: &News| matches!(news, News::NotUnderstood { what } if what.contains("vlan 4095"));
    assert!(world.news.iter().any(is_named), "{:?}", world.news);
}

#[test]
fn a_trunk_whose_port_migrates_away_is_given_up() {
    let mut world = trunk();
    for number in [1, 7, 8] {
        world.ports.get_mut(&port(number)).expect("a port").host = "host2";
    }
    let args = json!({ "port_id": port(1), "host": "host1", "network_id": network(1) });
    world.notify("binding_deactivate", args, false);
    world.settle();
    assert_eq!((sub_ports(&world), local_ports(&world)), (vec![], 0));
}

#[test]
fn where_trunks_are_not_in_use_nothing_is_asked_about_them() {
    let mut world = World::without_trunks();
    world.ports.insert(port(1), SimulatedPort::new(1, 1));
    add_sub_port(&mut world, 7, 101);
    world.plug(port(1));
    world.connect();
    let asked = world.settle();
    assert!(!asked.iter().any(|asked| matches!(asked, Question::Trunks(_))), "{asked:?}");
    assert!(world.desired.sub_ports.is_empty());
}

/// A host with port 1, whose old server knows no trunks.
fn without_trunks() -> World {
    let mut world = World::new();
    world.ports.insert(port(1), SimulatedPort::new(1, 1));
    world.plug(port(1));
    (world.can_pull, world.has_trunks) = (false, false);
    world.connect();
    world.settle();
    world
}

#[test]
fn a_server_that_knows_no_trunks_keeps_nothing_else_from_being_complete() {
    let mut world = without_trunks();
    let asked = world.pass(Duration::from_secs(60));
    assert!(world.desired.complete);
    assert!(!asked.iter().any(|asked| matches!(asked, Question::Trunks(_) | Question::Trunk(_))), "{asked:?}");
    let is_named = |news: &&News| news.is_trouble() && news.to_string().contains("which trunks there are");
    assert_eq!(world.news.iter().filter(is_named).count(), 1, "{:?}", world.news);
}

#[test]
fn a_server_that_answers_no_question_about_many_trunks_is_asked_about_one_after_the_other() {
    let mut world = restarted(trunk());
    world.can_pull = false;
    world.connect();
    world.settle();
    assert_eq!((sub_ports(&world).len(), local_ports(&world)), (2, 2));
    world.pass(Duration::from_secs(6));
    assert!(world.desired.complete);
    assert!(world.ports.values().all(|port| port.status == "ACTIVE"));
    assert_eq!(world.trunks[&port(1)].status, "ACTIVE");
}

#[test]
fn subports_stay_while_an_old_server_takes_its_time_to_say_that_they_are_bound() {
    let mut world = restarted(trunk());
    (world.can_pull, world.is_busy) = (false, true);
    world.connect();
    world.settle();
    world.pass(Duration::from_secs(60));
    assert!(!world.desired.complete && world.taps.contains_key(&port(7).tap_name()));
    world.is_busy = false;
    world.pass(Duration::from_secs(40));
    assert!(world.desired.complete && world.taps.contains_key(&port(7).tap_name()));
}

#[test]
fn another_server_is_asked_for_trunks_that_the_former_did_not_know() {
    let mut world = without_trunks();
    world.controller.lost();
    (world.can_pull, world.has_trunks) = (true, true);
    add_sub_port(&mut world, 7, 101);
    world.connect();
    world.settle();
    assert_eq!(sub_ports(&world), [(port(7), port(1), 101)]);
}
