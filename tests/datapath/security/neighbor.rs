//! Neighbour discovery that a port sends.

use std::net::IpAddr;

use overlane_abi::{DropReason, Source, SourceKey, names};
use overlane_tests::packet::{Ends, Frame, neighbor_discovery};

use crate::{
    harness::IFINDEX,
    network::{HERE, NEIGHBOUR, address, v6},
    security::world::{World, talk},
};

const ROUTER_SOLICITATION: u8 = 133;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const OVERRIDE: u8 = 0x20;

fn to_group(source: IpAddr) -> Ends {
    Ends { destination_mac: [0x33, 0x33, 0xff, 0, 0, 1], source, destination: address("ff02::1:ff00:1"), ..talk(v6()) }
}

/// A solicitation without options, as duplicate address detection sends it.
fn detection(target: &str) -> Frame {
    let IpAddr::V6(target) = address(target) else { panic!("IPv6 only") };
    to_group(address("::")).icmp(SOLICITATION, 0, [0; 4], &target.octets())
}

#[test]
fn an_advertisement_says_only_what_is_true() {
    let mut world = World::new();
    let advertise = |target, mac| neighbor_discovery(&to_group(v6().here), ADVERTISEMENT, OVERRIDE, target, mac);
    world.sends(&advertise(v6().here, HERE));
    world.may_not_send(&advertise(v6().there, HERE), DropReason::SpoofedNd);
    world.may_not_send(&advertise(v6().here, NEIGHBOUR), DropReason::SpoofedNd);
    // A MAC address that the port may use as well, with an address that belongs to it.
    let unspecified = overlane_abi::Address::UNSPECIFIED;
    for (family, address) in [(SourceKey::MAC, unspecified), (SourceKey::V6, v6().there.into())] {
        let key = SourceKey { ifindex: IFINDEX, mac: NEIGHBOUR, family, address };
        world.datapath.put(names::SOURCES, key, Source { flags: 0 });
    }
    world.sends(&advertise(v6().there, NEIGHBOUR));
    world.may_not_send(&advertise(v6().here, NEIGHBOUR), DropReason::SpoofedNd);
}

#[test]
fn a_solicitation_may_ask_for_anybody_and_names_the_port_as_the_one_who_asks() {
    let mut world = World::new();
    let solicit = |mac| neighbor_discovery(&to_group(v6().here), SOLICITATION, 0, v6().there, mac);
    world.sends(&solicit(HERE));
    world.may_not_send(&solicit(NEIGHBOUR), DropReason::SpoofedNd);
    let router = |mac: [u8; 6]| {
        let option = [&[1, 1][..], &mac].concat();
        to_group(v6().here).icmp(ROUTER_SOLICITATION, 0, [0; 4], &option)
    };
    world.sends(&router(HERE));
    world.may_not_send(&router(NEIGHBOUR), DropReason::SpoofedNd);
}

#[test]
fn duplicate_address_detection_is_for_the_ports_own_addresses() {
    let mut world = World::new();
    world.sends(&detection("fd00::1"));
    world.may_not_send(&detection("fd00::3"), DropReason::SpoofedNd);
}

#[test]
fn an_advertisement_without_a_link_layer_address_speaks_for_the_frames_own() {
    let mut world = World::new();
    let advertise = |target: IpAddr| {
        let IpAddr::V6(target) = target else { panic!("IPv6 only") };
        to_group(v6().here).icmp(ADVERTISEMENT, 0, [OVERRIDE, 0, 0, 0], &target.octets())
    };
    world.sends(&advertise(v6().here));
    world.may_not_send(&advertise(v6().there), DropReason::SpoofedNd);
}

#[test]
fn messages_that_cannot_be_checked_are_dropped() {
    let mut world = World::new();
    let honest = neighbor_discovery(&to_group(v6().here), ADVERTISEMENT, OVERRIDE, v6().here, HERE);
    let option_length = honest.0.len() - 7;
    world.may_not_send(&honest.clone().with_byte(option_length, 0), DropReason::SpoofedNd);
    world.may_not_send(&honest.clone().with_byte(option_length, 2), DropReason::SpoofedNd);
    world.may_not_send(&honest.fragment(1, 0, 24), DropReason::SpoofedNd);
    // More options than anybody sends.
    let IpAddr::V6(target) = v6().here else { panic!("IPv6 only") };
    let options = [&[2, 1][..], &HERE].concat().repeat(9);
    let body = [&target.octets()[..], &options].concat();
    world.may_not_send(&to_group(v6().here).icmp(ADVERTISEMENT, 0, [OVERRIDE, 0, 0, 0], &body), DropReason::SpoofedNd);
}
