//! Networks and trunks that the server fails on.

use std::time::Duration;

use overlane_core::neutron::controller::Question;
use uuid::Uuid;

use crate::{
    running,
    simulated::{SimulatedPort, SimulatedTrunk, World, network, port},
};

/// A host with one port in each of nine networks, that nobody has asked about yet.
fn nine() -> World {
    let mut world = World::new();
    for number in 1..=9 {
        world.ports.insert(port(number), SimulatedPort::new(number, number));
        world.plug(port(number));
    }
    world
}

fn is_about_network_1(asked: &Question) -> bool {
    matches!(asked, Question::Networks(asked) if asked.contains(&network(1)))
}

fn reason(world: &World, number: u8) -> Option<String> {
    world.controller.reasons().remove(port(number).tap_name().as_str())
}

#[test]
fn a_network_that_the_server_stumbles_over_holds_back_no_other_and_is_named() {
    let mut world = nine();
    world.stumbles = is_about_network_1;
    world.connect();
    world.settle();
    let asked = world.pass(Duration::from_secs(60));
    let active: Vec<u8> = (1..=9).filter(|number| world.ports[&port(*number)].status == "ACTIVE").collect();
    assert_eq!(active, (2..=9).collect::<Vec<_>>());
    let attempts = asked.iter().filter(|asked| matches!(asked, Question::Networks(_))).count();
    assert!((2..20).contains(&attempts), "{attempts} attempts in a minute");
    let said = reason(&world, 1).expect("a reason");
    assert!(said.contains(&network(1).to_string()) && said.contains("is not known yet"), "{said}");
    assert!((2..=9).all(|number| reason(&world, number).is_none()));
    world.stumbles = |_| false;
    world.pass(Duration::from_secs(40));
    assert_eq!((world.ports[&port(1)].status, reason(&world, 1)), ("ACTIVE", None));
}

#[test]
fn a_network_that_is_known_stays_as_it_is_while_the_server_stumbles_over_it() {
    let mut world = running();
    world.stumbles = is_about_network_1;
    world.controller.lost();
    world.connect();
    world.settle();
    world.pass(Duration::from_secs(6));
    assert_eq!(world.desired.networks[&network(1)].local_ports.len(), 2);
    let said = reason(&world, 1).expect("a reason");
    assert!(said.contains("stays as it was"), "{said}");
}

#[test]
fn nothing_is_asked_about_a_network_without_ports_here_because_the_server_stumbled_over_it() {
    let mut world = running();
    world.stumbles = |asked| matches!(asked, Question::Networks(asked) if asked.contains(&network(2)));
    world.ports.insert(port(3), SimulatedPort::new(3, 2));
    world.plug(port(3));
    world.settle();
    world.taps.remove(&port(3).tap_name());
    world.settle();
    let asked = world.pass(Duration::from_secs(60));
    let networks = asked.iter().filter(|asked| matches!(asked, Question::Networks(_))).count();
    assert!(networks <= 1, "{asked:?}");
}

fn trunk_of(number: u8) -> Uuid {
    Uuid::from_bytes([0xd0 + number; 16])
}

/// A host with nine ports that each have a trunk with one subport.
fn nine_trunks() -> World {
    let mut world = nine();
    for number in 1..=9 {
        let sub_port = port(100 + number);
        let described = SimulatedPort { host: "", owner: "", ..SimulatedPort::new(100 + number, 10) };
        world.ports.insert(sub_port, described);
        let sub_ports = [(sub_port, 101)].into();
        let trunk = SimulatedTrunk { id: trunk_of(number), status: "DOWN".to_owned(), sub_ports };
        world.trunks.insert(port(number), trunk);
    }
    world
}

fn active_trunks(world: &World) -> Vec<u8> {
    (1..=9).filter(|number| world.trunks[&port(*number)].status == "ACTIVE").collect()
}

fn trunk_trouble(stumbles: fn(&Question) -> bool, expected: &str) {
    let mut world = nine_trunks();
    world.stumbles = stumbles;
    world.connect();
    world.settle();
    world.pass(Duration::from_secs(90));
    assert_eq!(active_trunks(&world), (2..=9).collect::<Vec<_>>());
    let said = reason(&world, 1).expect("a reason");
    assert!(said.contains(expected), "{said}");
    assert_eq!(world.ports[&port(1)].status, "ACTIVE");
    world.stumbles = |_| false;
    world.pass(Duration::from_secs(60));
    assert_eq!((active_trunks(&world).len(), reason(&world, 1)), (9, None));
}

#[test]
fn a_trunk_that_the_server_stumbles_over_holds_back_no_other_and_is_named() {
    let is_about_trunk_1 = |asked: &Question| matches!(asked, Question::Trunks(ports) if ports.contains(&port(1)));
    trunk_trouble(is_about_trunk_1, "asked in vain whether it has a trunk");
}

#[test]
fn a_subport_that_the_server_stumbles_over_holds_back_no_other_and_is_named() {
    let is_about_sub_port_101 = |asked: &Question| matches!(asked, Question::SubPorts(asked) if asked.iter().any(|sub_port| sub_port.port_id == port(101)));
    trunk_trouble(is_about_sub_port_101, "asked in vain to bind its subport");
}

#[test]
fn a_trunk_whose_status_the_server_fails_to_note_holds_back_no_other_and_is_named() {
    let is_status_of_trunk_1 =
        |asked: &Question| matches!(asked, Question::TrunkStatus { trunk, .. } if *trunk == trunk_of(1));
    trunk_trouble(is_status_of_trunk_1, "could not be told how its trunk");
}
