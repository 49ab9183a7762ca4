//! What is asked of a Neutron server, what it is told, and what follows for the host.

mod group_changes;
mod groups;
mod members;
mod objects;
mod policies;
mod routers;
mod simulated;
mod status;
mod trunks;

use std::time::Duration;

use overlane_core::neutron::controller::{News, Question};
use serde_json::json;

use simulated::{SimulatedPort, World, network, port};

/// A host with ports 1 and 2 of network 1 that an agent has connected and reported before.
fn running() -> World {
    let mut world = World::new();
    for number in [1, 2] {
        world.ports.insert(port(number), SimulatedPort::new(number, 1));
        world.plug(port(number));
    }
    world.connect();
    world.settle();
    world.pass(Duration::from_secs(6));
    assert!(world.desired.complete && world.ports.values().all(|port| port.status == "ACTIVE"));
    world
}

/// The next agent of the same host, which knows nothing yet.
fn restarted(old: World) -> World {
    World {
        ports: old.ports,
        policies: old.policies,
        trunks: old.trunks,
        taps: old.taps,
        made: old.made,
        elsewhere: old.elsewhere,
        now: old.now,
        ..World::new()
    }
}

fn details_of(asked: &[Question]) -> Vec<&String> {
    asked.iter().flat_map(|question| if let Question::Details(taps) = question { &taps[..] } else { &[] }).collect()
}

#[test]
fn a_new_tap_is_asked_about_connected_and_reported_up_in_this_order() {
    let mut world = running();
    world.ports.insert(port(3), SimulatedPort::new(3, 1));
    world.plug(port(3));
    let asked = world.settle();
    let [Question::Security(taps), Question::Ports(ports), Question::Status(status), Question::Trunks(_)] = &asked[..]
    else {
        panic!("{asked:?}")
    };
    assert_eq!((&taps[..], &ports[..]), (&[port(3).tap_name()][..], &[port(3)][..]));
    assert_eq!((&status.up[..], status.refresh), (&[port(3)][..], false));
    assert!(world.desired.networks[&network(1)].local_ports.contains_key(&port(3)));
}

#[test]
fn the_tap_of_a_port_that_nothing_filters_is_asked_about_in_detail() {
    let mut world = running();
    world.ports.insert(port(3), SimulatedPort { owner: "network:dhcp", ..SimulatedPort::new(3, 1) });
    world.plug(port(3));
    let asked = world.settle();
    assert_eq!(details_of(&asked), [&port(3).tap_name()]);
    assert_eq!(world.ports[&port(3)].status, "ACTIVE");
}

#[test]
fn a_tap_that_goes_and_comes_back_at_once_is_reported_up() {
    let mut world = running();
    world.taps.remove(&port(2).tap_name());
    world.host_follows();
    world.plug(port(2));
    world.settle();
    assert_eq!(world.ports[&port(2)].status, "ACTIVE");
    assert!(world.desired.networks[&network(1)].local_ports.contains_key(&port(2)));
}

#[test]
fn nothing_is_stale_before_everything_has_been_told() {
    let mut world = World::new();
    world.ports.insert(port(1), SimulatedPort::new(1, 1));
    world.plug(port(1));
    world.settle();
    assert!(world.desired.closed_by_default && !world.desired.complete);
    world.connect();
    world.settle();
    let has_unknown_members = |world: &World| world.desired.networks[&network(1)].has_unknown_members;
    assert!(has_unknown_members(&world));
    world.pass(Duration::from_secs(6));
    assert!(world.desired.complete && !has_unknown_members(&world));
}

#[test]
fn a_restarted_agent_reads_ports_that_work_without_disturbing_them() {
    let mut world = restarted(running());
    world.connect();
    let asked = world.settle();
    assert_eq!(details_of(&asked), Vec::<&String>::new());
    assert!(world.ports.values().all(|port| port.status == "ACTIVE"));
    assert_eq!(world.desired.networks[&network(1)].local_ports.len(), 2);
    let told: Vec<_> = asked
        .iter()
        .filter_map(|asked| if let Question::Status(status) = asked { Some(status) } else { None })
        .collect();
    assert_eq!(told.len(), 1, "only to be told who else is in the network: {told:?}");
    assert!(told[0].refresh && told[0].up.len() == 1);
}

#[test]
fn a_tap_that_was_made_anew_while_the_agent_was_dead_is_reported_to_whoever_waits_for_it() {
    let mut world = restarted(running());
    world.plug(port(2));
    world.connect();
    let asked = world.settle();
    assert_eq!(details_of(&asked), [&port(2).tap_name()]);
    assert_eq!(world.ports[&port(2)].status, "ACTIVE");
}

#[test]
fn after_a_lost_connection_only_what_has_changed_is_read_again() {
    let mut world = restarted(running());
    world.connect();
    world.settle();
    world.controller.lost();
    world.ports.get_mut(&port(2)).expect("a port").revision += 1;
    world.connect();
    let asked = world.settle();
    assert_eq!(details_of(&asked), Vec::<&String>::new());
    assert!(asked.contains(&Question::Ports(vec![port(2)])), "{asked:?}");
}

#[test]
fn a_server_that_cannot_be_asked_quietly_is_asked_as_the_linux_bridge_agent_does() {
    let mut world = restarted(running());
    world.can_pull = false;
    world.connect();
    let asked = world.settle();
    assert_eq!(details_of(&asked).len(), 2);
    assert_eq!(world.desired.networks[&network(1)].local_ports.len(), 2);
    assert!(world.ports.values().all(|port| port.status == "ACTIVE"));
}

#[test]
fn a_port_that_the_server_stumbles_over_holds_back_no_other() {
    let mut world = World::new();
    for number in 1..=9 {
        world.ports.insert(port(number), SimulatedPort::new(number, 1));
        world.plug(port(number));
    }
    world.broken.insert(port(5));
    world.connect();
    world.settle();
    assert_eq!(world.desired.networks[&network(1)].local_ports.len(), 8);
    assert!(world.controller.reasons()[port(5).tap_name().as_str()].contains("the server failed on its port"));
    world.broken.clear();
    world.pass(Duration::from_secs(40));
    assert_eq!(world.desired.networks[&network(1)].local_ports.len(), 9);
}

#[test]
fn a_change_of_a_port_that_the_server_stumbles_over_holds_back_no_other_change() {
    let mut world = running();
    world.broken.insert(port(1));
    for number in [1, 2] {
        world.ports.get_mut(&port(number)).expect("a port").admin_state_up = false;
        world.notify("port_update", json!({ "port": { "id": port(number) } }), false);
    }
    world.settle();
    let is_up = |world: &World, number| world.desired.networks[&network(1)].local_ports[&port(number)].admin_state_up;
    assert_eq!((is_up(&world, 1), is_up(&world, 2)), (true, false));
    assert!(world.controller.reasons()[port(1).tap_name().as_str()].contains("the server failed on its port"));
    world.broken.clear();
    world.pass(Duration::from_secs(40));
    assert!(!is_up(&world, 1) && world.controller.reasons().is_empty());
}

#[test]
fn a_server_of_another_age_is_named_as_the_reason_and_asked_again() {
    let mut world = World::new();
    world.ports.insert(port(1), SimulatedPort::new(1, 1));
    world.plug(port(1));
    world.is_of_another_age = true;
    world.connect();
    world.settle();
    world.pass(Duration::from_secs(5));
    let reasons = world.controller.reasons();
    assert!(reasons[port(1).tap_name().as_str()].contains("older or newer than this agent"), "{reasons:?}");
    world.is_of_another_age = false;
    world.pass(Duration::from_secs(40));
    assert!(world.controller.reasons().is_empty());
    assert_eq!(world.ports[&port(1)].status, "ACTIVE");
}

#[test]
fn a_tap_that_comes_before_its_port_is_bound_is_connected_once_it_is() {
    let mut world = World::new();
    world.ports.insert(port(1), SimulatedPort { host: "host2", ..SimulatedPort::new(1, 1) });
    world.plug(port(1));
    world.plug(port(2));
    world.connect();
    world.settle();
    assert!(world.desired.networks.is_empty());
    assert_eq!(world.controller.reasons().len(), 2);
    // One is announced, the other is found by itself.
    world.ports.get_mut(&port(1)).expect("a port").host = "host1";
    world.notify("binding_activate", json!({ "port_id": port(1), "host": "host1" }), false);
    world.settle();
    assert_eq!(world.desired.networks[&network(1)].local_ports.len(), 1);
    world.ports.insert(port(2), SimulatedPort::new(2, 1));
    world.pass(Duration::from_secs(40));
    assert_eq!(world.desired.networks[&network(1)].local_ports.len(), 2);
    assert!(world.controller.reasons().is_empty());
}

#[test]
fn a_port_whose_tap_goes_is_reported_down() {
    let mut world = running();
    world.taps.remove(&port(2).tap_name());
    world.settle();
    assert_eq!(world.ports[&port(2)].status, "DOWN");
    assert!(world.news.contains(&News::Down { port: port(2), network: Some(network(1)) }));
    assert_eq!(world.desired.networks[&network(1)].local_ports.len(), 1);
}

#[test]
fn a_port_whose_tap_went_while_the_agent_was_dead_is_reported_down() {
    let mut world = restarted(running());
    world.taps.remove(&port(2).tap_name());
    world.connect();
    world.settle();
    assert_eq!(world.ports[&port(2)].status, "DOWN");
}

#[test]
fn a_port_that_is_switched_off_and_on_is_reported_so() {
    let mut world = running();
    for (admin_state_up, status) in [(false, "DOWN"), (true, "ACTIVE")] {
        world.ports.get_mut(&port(1)).expect("a port").admin_state_up = admin_state_up;
        world.notify("port_update", json!({ "port": { "id": port(1) } }), false);
        let asked = world.settle();
        assert_eq!(details_of(&asked), Vec::<&String>::new());
        assert!(world.news.contains(&News::Changed { port: port(1), network: network(1) }));
        assert_eq!(world.ports[&port(1)].status, status);
        assert_eq!(world.desired.networks[&network(1)].local_ports[&port(1)].admin_state_up, admin_state_up);
    }
}

#[test]
fn a_port_that_migrates_away_is_given_up_and_taken_back_when_it_returns() {
    let mut world = running();
    let args = json!({ "port_id": port(1), "host": "host1", "network_id": network(1) });
    world.ports.get_mut(&port(1)).expect("a port").host = "host2";
    world.notify("binding_deactivate", args.clone(), false);
    world.settle();
    assert!(!world.desired.networks[&network(1)].local_ports.contains_key(&port(1)));
    world.ports.get_mut(&port(1)).expect("a port").host = "host1";
    world.notify("binding_activate", args, false);
    world.settle();
    assert!(world.desired.networks[&network(1)].local_ports.contains_key(&port(1)));
}

#[test]
fn a_deleted_network_leaves_with_all_its_ports() {
    let mut world = running();
    world.ports.clear();
    world.notify("network_delete", json!({ "network_id": network(1) }), false);
    world.settle();
    assert!(world.desired.networks.is_empty());
}
