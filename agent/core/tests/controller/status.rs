//! What the server is told of ports, and what follows when it fails on one of them.

use std::time::Duration;

use overlane_core::neutron::controller::{Failure, News, Question, Status};
use serde_json::json;

use crate::{
    restarted, running,
    simulated::{SimulatedPort, World, network, port},
};

const REMOTE: &str = "fa:16:3e:99:00:01";

/// A host with nine ports of network 1 that nobody has asked about yet.
fn nine() -> World {
    let mut world = World::new();
    for number in 1..=9 {
        world.ports.insert(port(number), SimulatedPort::new(number, 1));
        world.plug(port(number));
    }
    world
}

fn statuses(asked: &[Question]) -> Vec<&Status> {
    asked.iter().filter_map(|asked| if let Question::Status(status) = asked { Some(status) } else { None }).collect()
}

fn lines(world: &World, text: &str) -> usize {
    world.news.iter().filter(|news| news.is_trouble() && news.to_string().contains(text)).count()
}

fn trouble_that_begins_and_ends(begin: impl Fn(&mut World), end: impl Fn(&mut World)) {
    let mut world = nine();
    begin(&mut world);
    world.connect();
    world.settle();
    let asked = world.pass(Duration::from_secs(60));
    let active = (1..=9).filter(|number| world.ports[&port(*number)].status == "ACTIVE").count();
    assert_eq!(active, 8);
    let attempts = statuses(&asked).iter().filter(|status| status.up.contains(&port(1))).count();
    assert!((2..10).contains(&attempts), "{attempts} attempts in a minute");
    let reason = world.controller.reasons()[port(1).tap_name().as_str()].to_owned();
    assert!(reason.contains("could not be told that its port is up"), "{reason}");
    assert_eq!(lines(&world, &format!("port {} is up", port(1))), 1, "{:?}", world.news);
    end(&mut world);
    world.pass(Duration::from_secs(40));
    assert_eq!(world.ports[&port(1)].status, "ACTIVE");
    assert!(world.controller.reasons().is_empty());
}

#[test]
fn a_port_whose_status_the_server_fails_to_note_holds_back_no_other_and_is_named_once() {
    trouble_that_begins_and_ends(|world| _ = world.refused.insert(port(1)), |world| world.refused.clear());
}

#[test]
fn a_port_whose_status_is_never_answered_holds_back_no_other_and_is_named_once() {
    trouble_that_begins_and_ends(|world| _ = world.hung.insert(port(1)), |world| world.hung.clear());
}

#[test]
fn a_server_that_answers_nothing_is_told_ever_less_often_and_of_every_port_once_it_does() {
    let mut world = nine();
    world.hung = (1..=9).map(port).collect();
    world.connect();
    let mut asked = world.settle();
    asked.extend(world.pass(Duration::from_secs(60)));
    assert!(statuses(&asked).len() < 10, "{:?}", statuses(&asked));
    world.hung.clear();
    world.pass(Duration::from_secs(40));
    assert!(world.ports.values().all(|port| port.status == "ACTIVE"));
}

#[test]
fn who_is_elsewhere_is_asked_by_another_port_when_the_server_fails_on_the_first() {
    let mut world = nine();
    world.refused.insert(port(1));
    world.elsewhere.insert(network(1), json!({ "192.0.2.10": [[REMOTE, "10.0.1.99"]] }));
    world.connect();
    world.settle();
    let remote = REMOTE.parse().expect("a MAC address");
    assert!(world.desired.networks[&network(1)].remote_macs.contains_key(&remote));
}

#[test]
fn a_port_that_the_server_fails_to_take_for_down_is_told_of_again() {
    let mut world = running();
    world.refused.insert(port(2));
    world.taps.remove(&port(2).tap_name());
    world.settle();
    world.pass(Duration::from_secs(5));
    let down = News::Down { port: port(2), network: Some(network(1)) };
    assert!(!world.news.contains(&down));
    assert_eq!(lines(&world, &format!("port {} is down", port(2))), 1, "{:?}", world.news);
    world.refused.clear();
    world.pass(Duration::from_secs(40));
    assert_eq!(world.ports[&port(2)].status, "DOWN");
    assert!(world.news.contains(&down));
}

#[test]
fn a_port_that_is_back_is_not_taken_for_down_by_a_word_that_had_no_answer() {
    let mut world = running();
    world.taps.remove(&port(2).tap_name());
    world.host_follows();
    let now = world.now;
    let asked = world.controller.questions(now);
    let [told @ Question::Status(status)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((&status.up[..], &status.down[..]), (&[][..], &[port(2)][..]));
    world.plug(port(2));
    world.settle();
    world.controller.failed(told.clone(), Failure::Other("no answer in time".to_owned()), now);
    let asked = world.pass(Duration::from_secs(40));
    assert!(statuses(&asked).iter().all(|status| status.down.is_empty()), "{asked:?}");
    assert_eq!(world.ports[&port(2)].status, "ACTIVE");
}

#[test]
fn nothing_of_a_network_is_stale_before_a_slow_server_has_said_who_is_elsewhere() {
    let mut world = restarted(running());
    world.hung = [port(1), port(2)].into();
    world.connect();
    world.settle();
    world.pass(Duration::from_secs(90));
    assert!(world.desired.networks[&network(1)].has_unknown_members);
    world.hung.clear();
    world.pass(Duration::from_secs(40));
    assert!(world.desired.complete && !world.desired.networks[&network(1)].has_unknown_members);
}

#[test]
fn a_network_that_no_port_works_in_keeps_what_it_has_and_holds_back_no_other() {
    let mut world = restarted(running());
    world.ports.insert(port(3), SimulatedPort { status: "ACTIVE", ..SimulatedPort::new(3, 2) });
    world.plug(port(3));
    world.out_of_place.insert(port(3));
    world.connect();
    world.settle();
    world.pass(Duration::from_secs(20));
    assert!(!world.desired.complete, "the port may yet come into place");
    world.pass(Duration::from_secs(20));
    assert!(world.desired.complete);
    let has_unknown_members = |number| world.desired.networks[&network(number)].has_unknown_members;
    assert_eq!((has_unknown_members(1), has_unknown_members(2)), (false, true));
}
