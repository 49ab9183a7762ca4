//! ICMP and ICMPv6 errors: they belong to the flow of the packet that they quote.

use overlane_abi::{Direction, DropReason, Match, RuleKey};
use overlane_tests::packet::{ETHERNET, Ends, Frame};

use crate::{
    network::{Family, address, v4},
    security::world::{ANYBODY, ICMP, SYN, World, answers, asks, both, ping, received, sent, talk},
};

/// An error about `original`, which is quoted with eight bytes of its transport header, from a router.
fn error_to(receiver: Ends, original: &Frame) -> Frame {
    let quote = &original.0[ETHERNET..original.transport() + 8];
    if receiver.source.is_ipv4() {
        Ends { source: address("10.0.0.254"), ..receiver }.icmp(3, 4, [0, 0, 5, 120], quote)
    } else {
        Ends { source: address("fd00::254"), ..receiver }.icmp(2, 0, [0, 0, 5, 120], quote)
    }
}

/// An error that reaches the guest.
fn arriving(family: Family, original: &Frame) -> Frame {
    error_to(talk(family).reversed(), original)
}

fn client() -> World {
    let mut world = World::new();
    world.allow(Direction::Egress, RuleKey::ANY_PROTOCOL, (0, 0), &[ANYBODY]);
    world
}

#[test]
fn an_error_about_a_flow_reaches_the_port_that_began_it() {
    for family in both() {
        let (question, _) = ping(family, 1);
        for frame in [asks(family), sent(family, SYN), question] {
            let mut world = client();
            world.may_not_receive(&arriving(family, &frame), DropReason::InvalidState);
            world.sends(&frame);
            world.receives(&arriving(family, &frame));
            // Also when the flow has shown both of its ends.
            world.receives(&answers_to(family, &frame));
            world.sends(&frame);
            world.receives(&arriving(family, &frame));
        }
    }
}

fn answers_to(family: Family, frame: &Frame) -> Frame {
    if *frame == asks(family) {
        answers(family)
    } else if *frame == sent(family, SYN) {
        received(family, SYN | 16)
    } else {
        ping(family, 1).1
    }
}

#[test]
fn an_error_may_be_about_an_answer() {
    for family in both() {
        let mut world = World::new();
        world.allow(Direction::Ingress, RuleKey::ANY_PROTOCOL, (0, 0), &[ANYBODY]);
        world.receives(&answers(family));
        world.allow(Direction::Ingress, RuleKey::ANY_PROTOCOL, (0, 0), &[]);
        world.sends(&asks(family));
        world.receives(&arriving(family, &asks(family)));
    }
}

#[test]
fn a_port_may_refuse_what_it_has_received() {
    let mut world = World::new();
    world.allow(Direction::Ingress, RuleKey::ANY_PROTOCOL, (0, 0), &[ANYBODY]);
    let refusal = |original: &Frame| {
        let quote = &original.0[ETHERNET..original.transport() + 8];
        talk(v4()).icmp(3, 3, [0; 4], quote)
    };
    world.may_not_send(&refusal(&answers(v4())), DropReason::InvalidState);
    world.receives(&answers(v4()));
    world.sends(&refusal(&answers(v4())));
    // Only from its own address.
    let quote = &answers(v4()).0[ETHERNET..ETHERNET + 28];
    let spoofed = Ends { source: address("10.0.0.254"), ..talk(v4()) }.icmp(3, 3, [0; 4], quote);
    world.may_not_send(&spoofed, DropReason::SpoofedIp);
}

#[test]
fn an_error_must_go_to_whoever_has_sent_what_it_quotes() {
    for family in both() {
        let mut world = client();
        world.sends(&asks(family));
        // Quoting the other direction: the guest has not sent this.
        world.may_not_receive(&arriving(family, &answers(family)), DropReason::InvalidState);
        let other = if family.here.is_ipv4() { "10.0.0.9" } else { "fd00::9" };
        let elsewhere = Ends { destination: address(other), ..talk(family).reversed() };
        world.may_not_receive(&error_to(elsewhere, &asks(family)), DropReason::InvalidState);
    }
}

#[test]
fn errors_that_quote_too_little_or_nonsense_are_invalid() {
    for family in both() {
        let mut world = client();
        world.sends(&asks(family));
        let error = arriving(family, &asks(family));
        let quote = error.transport() + 8;
        let cut = |length: usize| {
            let quote = &asks(family).0[ETHERNET..ETHERNET + length];
            let ends = Ends { source: family.there, ..talk(family).reversed() };
            if family.here.is_ipv4() { ends.icmp(3, 4, [0; 4], quote) } else { ends.icmp(2, 0, [0; 4], quote) }
        };
        for length in [0, 4, asks(family).transport() - ETHERNET, asks(family).transport() - ETHERNET + 7] {
            world.may_not_receive(&cut(length), DropReason::InvalidState);
        }
        world.may_not_receive(&error.clone().with_byte(quote, 0x95), DropReason::InvalidState);
        world.receives(&error);
    }
    // A quoted fragment without ports, and a header that is too short.
    let mut world = client();
    world.sends(&asks(v4()));
    let error = arriving(v4(), &asks(v4()));
    let quote = error.transport() + 8;
    world.may_not_receive(&error.clone().with_byte(quote + 7, 1), DropReason::InvalidState);
    world.may_not_receive(&error.with_byte(quote, 0x44), DropReason::InvalidState);
}

#[test]
fn an_error_about_an_error_belongs_to_nothing() {
    let mut world = client();
    world.sends(&asks(v4()));
    let error = arriving(v4(), &asks(v4()));
    world.may_not_receive(&arriving(v4(), &error), DropReason::InvalidState);
}

#[test]
fn rules_may_admit_errors_as_well() {
    let mut world = World::new();
    world.allow(Direction::Ingress, RuleKey::ANY_CODE, (ICMP, 3 << 8), &[ANYBODY]);
    world.receives(&arriving(v4(), &asks(v4())));
    assert_eq!(world.counts(v4()), (0, 0));
}

#[test]
fn an_error_about_a_flow_that_is_not_admitted_any_more_is_refused() {
    for family in both() {
        let mut world = client();
        world.sends(&asks(family));
        world.allow(Direction::Egress, RuleKey::ANY_PROTOCOL, (0, 0), &[Match { set: 9, ..ANYBODY }]);
        world.receives(&arriving(family, &asks(family)));
        world.update(|port| port.revision += 1);
        world.may_not_receive(&arriving(family, &asks(family)), DropReason::InvalidState);
    }
}
