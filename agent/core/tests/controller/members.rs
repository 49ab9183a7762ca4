//! Who is on other hosts, from messages in any order.

use std::{net::IpAddr, time::Duration};

use overlane_core::model::Mac;
use serde_json::json;

use crate::{
    running,
    simulated::{World, fdb, network},
};

const A: &str = "192.0.2.10";
const B: &str = "192.0.2.11";
const REMOTE: &str = "fa:16:3e:99:00:01";
const FLOOD: [&str; 2] = ["00:00:00:00:00:00", "0.0.0.0"];

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn vtep_of(world: &World, mac: &str) -> Option<IpAddr> {
    let mac: Mac = mac.parse().expect("a MAC address");
    world.desired.networks[&network(1)].remote_macs.get(&mac).copied()
}

fn tell(world: &mut World, method: &str, ports: &serde_json::Value) {
    world.notify(method, fdb(network(1), ports), false);
    world.settle();
}

fn readdress(world: &mut World, before: &str, after: &str) {
    let change = json!({ "before": [[REMOTE, before]], "after": [[REMOTE, after]] });
    let update = json!({ "fdb_entries": { "chg_ip": { network(1).to_string(): { A: change } } } });
    world.notify("update_fdb_entries", update, false);
    world.settle();
}

#[test]
fn a_member_elsewhere_is_known_by_its_mac_address_its_address_and_the_flood_list() {
    let mut world = running();
    tell(&mut world, "add_fdb_entries", &json!({ A: [FLOOD, [REMOTE, "10.0.1.99"], [REMOTE, "fd00::99"]] }));
    let network = &world.desired.networks[&network(1)];
    assert_eq!(vtep_of(&world, REMOTE), Some(address(A)));
    assert!(network.flood.contains(&address(A)) && world.desired.vteps.contains(&address(A)));
    assert_eq!(network.neighbors[&address("10.0.1.99")].mac.to_string(), REMOTE);
    assert!(!network.neighbors.contains_key(&address("fd00::99")), "whether it routes is not known");
}

#[test]
fn what_this_host_is_told_of_itself_is_left_out() {
    let mut world = running();
    tell(&mut world, "add_fdb_entries", &json!({ "192.0.2.1": [FLOOD, [REMOTE, "10.0.1.99"]] }));
    assert_eq!(vtep_of(&world, REMOTE), None);
    assert!(world.desired.networks[&network(1)].flood.is_empty());
}

#[test]
fn a_member_that_has_moved_is_not_taken_away_by_a_late_word_about_where_it_was() {
    let mut world = running();
    tell(&mut world, "add_fdb_entries", &json!({ A: [[REMOTE, "10.0.1.99"]] }));
    tell(&mut world, "add_fdb_entries", &json!({ B: [[REMOTE, "10.0.1.99"]] }));
    tell(&mut world, "remove_fdb_entries", &json!({ A: [[REMOTE, "10.0.1.99"]] }));
    assert_eq!(vtep_of(&world, REMOTE), Some(address(B)));
    assert!(world.desired.networks[&network(1)].neighbors.contains_key(&address("10.0.1.99")));
}

#[test]
fn a_member_that_has_another_address_is_answered_for_under_that() {
    let mut world = running();
    tell(&mut world, "add_fdb_entries", &json!({ A: [[REMOTE, "10.0.1.99"]] }));
    readdress(&mut world, "10.0.1.99", "10.0.1.77");
    let neighbors = &world.desired.networks[&network(1)].neighbors;
    assert!(neighbors.contains_key(&address("10.0.1.77")) && !neighbors.contains_key(&address("10.0.1.99")));
    assert_eq!(vtep_of(&world, REMOTE), Some(address(A)));
}

#[test]
fn every_network_of_a_message_counts_also_after_one_that_is_not_here() {
    let mut world = running();
    let mut message = fdb(network(1), &json!({ A: [[REMOTE, "10.0.1.99"]] }));
    let elsewhere = fdb(network(0), &json!({ A: [[REMOTE, "10.0.1.99"]] }));
    let entries = message["fdb_entries"].as_object_mut().expect("a table");
    entries.extend(elsewhere["fdb_entries"].as_object().expect("a table").clone());
    world.notify("add_fdb_entries", message, false);
    world.settle();
    assert_eq!(vtep_of(&world, REMOTE), Some(address(A)));
}

#[test]
fn what_a_full_list_lacks_goes_after_a_while_and_not_if_it_is_told_of_again() {
    let mut world = running();
    let kept = "fa:16:3e:99:00:02";
    tell(&mut world, "add_fdb_entries", &json!({ A: [FLOOD, [REMOTE, "10.0.1.99"]], B: [[kept, "10.0.1.98"]] }));
    world.controller.lost();
    world.elsewhere.insert(network(1), json!({ "192.0.2.12": [["fa:16:3e:99:00:03", "10.0.1.97"]] }));
    world.connect();
    world.settle();
    assert_eq!(vtep_of(&world, REMOTE), Some(address(A)), "it may only be being built anew");
    tell(&mut world, "add_fdb_entries", &json!({ B: [[kept, "10.0.1.98"]] }));
    world.pass(Duration::from_secs(61));
    assert_eq!(vtep_of(&world, REMOTE), None);
    assert_eq!(vtep_of(&world, kept), Some(address(B)));
    assert_eq!(vtep_of(&world, "fa:16:3e:99:00:03"), Some(address("192.0.2.12")));
    assert!(world.desired.networks[&network(1)].flood.is_empty());
}

/// A host that knows of a member, and has just been told after a lost connection that another entry is all there is.
fn whose_list_has_become(entry: &serde_json::Value) -> World {
    let mut world = running();
    tell(&mut world, "add_fdb_entries", &json!({ A: [FLOOD, [REMOTE, "10.0.1.99"]] }));
    world.controller.lost();
    world.elsewhere.insert(network(1), json!({ A: [FLOOD, entry] }));
    world.connect();
    world.settle();
    world
}

#[test]
fn a_member_whose_new_address_was_missed_keeps_its_mac_address_and_loses_the_old_one() {
    let mut world = whose_list_has_become(&json!([REMOTE, "10.0.1.77"]));
    world.pass(Duration::from_secs(61));
    assert_eq!(vtep_of(&world, REMOTE), Some(address(A)));
    let neighbors = &world.desired.networks[&network(1)].neighbors;
    assert!(neighbors.contains_key(&address("10.0.1.77")) && !neighbors.contains_key(&address("10.0.1.99")));
}

#[test]
fn a_member_that_has_gone_unnoticed_goes_also_when_another_has_its_address() {
    let heir = "fa:16:3e:99:00:02";
    let mut world = whose_list_has_become(&json!([heir, "10.0.1.99"]));
    world.pass(Duration::from_secs(61));
    assert_eq!((vtep_of(&world, REMOTE), vtep_of(&world, heir)), (None, Some(address(A))));
    assert_eq!(world.desired.networks[&network(1)].neighbors[&address("10.0.1.99")].mac.to_string(), heir);
}

#[test]
fn an_address_that_is_told_of_after_the_list_is_no_suspect() {
    let mut world = whose_list_has_become(&json!([REMOTE, "10.0.1.77"]));
    readdress(&mut world, "10.0.1.77", "10.0.1.99");
    world.pass(Duration::from_secs(61));
    let neighbors = &world.desired.networks[&network(1)].neighbors;
    assert!(neighbors.contains_key(&address("10.0.1.99")) && !neighbors.contains_key(&address("10.0.1.77")));
}
