//! Fragments: the first one has the ports, the others follow it.

use overlane_abi::{Direction, DropReason, Port, RuleKey};
use overlane_tests::packet::{Ends, Frame};

use crate::{
    network::{Family, address, v4},
    security::world::{ANYBODY, HERE_PORT, SYN, THERE_PORT, UDP, World, both, talk},
};

/// A port that may send UDP to one port, and hear the same.
fn world() -> World {
    let mut world = World::new();
    for (direction, port) in [(Direction::Egress, THERE_PORT), (Direction::Ingress, HERE_PORT)] {
        world.allow(direction, RuleKey::WHOLE, (UDP, port), &[ANYBODY]);
    }
    world
}

fn datagram(family: Family, port: u16) -> Frame {
    talk(family).udp_between(HERE_PORT, port, &[7; 120])
}

#[test]
fn later_fragments_follow_the_first_one() {
    for family in both() {
        let mut world = world();
        let whole = datagram(family, THERE_PORT);
        let [first, second, third] = [(0, 48), (48, 96), (96, 200)].map(|(from, to)| whole.fragment(9, from, to));
        for later in [&second, &third] {
            world.may_not_send(later, DropReason::UnknownFragment);
        }
        world.sends(&first);
        for fragment in [&second, &third, &third, &second] {
            world.sends(fragment);
        }
        // Another packet's.
        world.may_not_send(&whole.fragment(10, 48, 96), DropReason::UnknownFragment);
        // Into the port it is another matter.
        let back = talk(family).reversed().udp_between(THERE_PORT, HERE_PORT, &[7; 120]);
        world.may_not_receive(&back.fragment(9, 48, 96), DropReason::UnknownFragment);
        world.receives(&back.fragment(9, 0, 48));
        world.receives(&back.fragment(9, 48, 96));
    }
}

#[test]
fn fragments_of_a_refused_packet_are_refused() {
    for family in both() {
        let mut world = world();
        let whole = datagram(family, THERE_PORT + 1);
        world.may_not_send(&whole.fragment(9, 0, 48), DropReason::NoRuleEgress);
        world.may_not_send(&whole.fragment(9, 48, 96), DropReason::UnknownFragment);
    }
}

#[test]
fn a_second_first_fragment_takes_the_permission_back() {
    for family in both() {
        let mut world = world();
        world.sends(&datagram(family, THERE_PORT).fragment(9, 0, 48));
        world.may_not_send(&datagram(family, THERE_PORT + 1).fragment(9, 0, 48), DropReason::NoRuleEgress);
        world.may_not_send(&datagram(family, THERE_PORT).fragment(9, 48, 96), DropReason::UnknownFragment);
    }
}

#[test]
fn a_fragment_that_reaches_back_into_the_first_one_is_dropped() {
    for family in both() {
        let mut world = world();
        let whole = datagram(family, THERE_PORT);
        world.sends(&whole.fragment(9, 0, 48));
        for from in [8, 16, 40] {
            world.may_not_send(&whole.fragment(9, from, 96), DropReason::OverlappingFragment);
        }
        world.sends(&whole.fragment(9, 48, 96));
    }
}

#[test]
fn a_first_fragment_must_hold_the_transport_header() {
    for family in both() {
        let mut world = World::open();
        let segment = talk(family).segment(HERE_PORT, THERE_PORT, SYN);
        world.may_not_send(&segment.fragment(9, 0, 16), DropReason::MalformedIp);
        world.may_not_send(&datagram(family, THERE_PORT).fragment(9, 0, 0), DropReason::MalformedIp);
    }
}

#[test]
fn fragments_must_come_from_the_ports_addresses_too() {
    let mut world = world();
    let stranger = Ends { source: address("10.0.0.2"), ..talk(v4()) };
    let whole = stranger.udp_between(HERE_PORT, THERE_PORT, &[7; 120]);
    for fragment in [whole.fragment(9, 0, 48), whole.fragment(9, 48, 96)] {
        world.may_not_send(&fragment, DropReason::SpoofedIp);
    }
}

#[test]
fn without_groups_fragments_pass_by_themselves() {
    for family in both() {
        let mut world = World::new();
        world.update(|port| port.flags = Port::SECURED);
        world.sends(&datagram(family, THERE_PORT).fragment(9, 48, 96));
    }
}

#[test]
fn a_packet_that_only_says_it_is_a_fragment_is_whole() {
    let mut world = world();
    let family = crate::network::v6();
    world.sends(&datagram(family, THERE_PORT).with_extension(44, &[0, 0, 0, 0, 0, 0, 1]));
    world.may_not_send(
        &datagram(family, THERE_PORT + 1).with_extension(44, &[0, 0, 0, 0, 0, 0, 1]),
        DropReason::NoRuleEgress,
    );
}
