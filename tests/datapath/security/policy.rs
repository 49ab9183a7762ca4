//! Rules: what they name, and whom.

use overlane_abi::{Direction, DropReason, FlowEvent, Match, Member, MemberKey, Port, RuleKey, names};
use overlane_tests::packet::Ends;

use crate::{
    harness::{IFINDEX, Load},
    network::{address, v4, v6},
    security::world::{
        ANYBODY, HERE_PORT, ICMP, ICMPV6, POLICY, SYN, TCP, THERE_PORT, UDP, World, answers, asks, both, ping,
        received, sent, talk,
    },
};

use Direction::{Egress, Ingress};

const SET: u32 = 5;
const MEMBERS: Match = Match { set: SET, rule: 2, flags: Match::USED };

#[test]
fn a_port_without_rules_is_closed_both_ways() {
    let mut world = World::new();
    for family in both() {
        for frame in [asks(family), sent(family, SYN), talk(family).ip(50, &[0; 20])] {
            world.may_not_send(&frame, DropReason::NoRuleEgress);
        }
        for frame in [answers(family), received(family, SYN), talk(family).reversed().ip(50, &[0; 20])] {
            world.may_not_receive(&frame, DropReason::NoRuleIngress);
        }
    }
}

#[test]
fn directions_families_and_policies_have_rules_of_their_own() {
    let mut world = World::new();
    world.allow_family(Ingress, false, RuleKey::ANY_PROTOCOL, (0, 0), &[ANYBODY]);
    world.receives(&received(v4(), SYN));
    world.may_not_receive(&received(v6(), SYN), DropReason::NoRuleIngress);
    world.may_not_send(&asks(v4()), DropReason::NoRuleEgress);
    world.update(|port| port.policy += 1);
    world.may_not_receive(&talk(v4()).reversed().udp(1), DropReason::NoRuleIngress);
}

#[test]
fn a_rule_may_be_about_any_protocol_one_protocol_or_some_of_its_ports() {
    // 1024 to 2047 is one prefix of six bits.
    let cases = [
        (RuleKey::ANY_PROTOCOL, (0, 0), [true, true, true, true]),
        (RuleKey::ANY_SERVICE, (TCP, 0), [true, true, false, false]),
        (RuleKey::ANY_SERVICE + 6, (TCP, 1024), [false, true, false, false]),
        (RuleKey::WHOLE, (UDP, 1024), [false, false, true, false]),
        (RuleKey::ANY_SERVICE, (47, 0), [false, false, false, true]),
    ];
    for (bits, key, admitted) in cases {
        for family in both() {
            let mut world = World::new();
            world.allow(Ingress, bits, key, &[ANYBODY]);
            let remote = talk(family).reversed();
            let frames = [
                remote.segment(9, 80, SYN),
                remote.segment(9, 1500, SYN),
                remote.udp_between(9, 1024, b""),
                remote.ip(47, &[0; 8]),
            ];
            for (frame, admitted) in frames.iter().zip(admitted) {
                if admitted {
                    world.receives(frame);
                } else {
                    world.may_not_receive(frame, DropReason::NoRuleIngress);
                }
            }
        }
    }
}

#[test]
fn every_protocol_with_ports_is_known_by_them() {
    for protocol in [33, 132, 136] {
        for family in both() {
            let mut world = World::new();
            world.allow(Ingress, RuleKey::WHOLE, (protocol, 5000), &[ANYBODY]);
            let packet = |port: u16| {
                let [high, low] = port.to_be_bytes();
                talk(family).reversed().ip(protocol, &[0, 9, high, low, 0, 0, 0, 0, 0, 0, 0, 0])
            };
            world.receives(&packet(5000));
            world.may_not_receive(&packet(5001), DropReason::NoRuleIngress);
        }
    }
}

#[test]
fn icmp_rules_name_type_and_code_and_zero_is_one_of_them() {
    let echo = |family, kind, code| Ends::icmp(&talk(family).reversed(), kind, code, [0, 1, 0, 1], b"");
    for (family, protocol, request) in [(v4(), ICMP, 8_u8), (v6(), ICMPV6, 128_u8)] {
        let mut world = World::new();
        world.allow(Ingress, RuleKey::ANY_CODE, (protocol, u16::from(request) << 8), &[ANYBODY]);
        world.receives(&echo(family, request, 0));
        world.receives(&echo(family, request, 9));
        world.may_not_receive(&echo(family, 151, 0), DropReason::NoRuleIngress);
    }
    let mut world = World::new();
    world.allow(Ingress, RuleKey::WHOLE, (ICMP, 0), &[ANYBODY]);
    world.receives(&echo(v4(), 0, 0));
    world.may_not_receive(&echo(v4(), 0, 1), DropReason::InvalidState);
    world.may_not_receive(&echo(v4(), 8, 0), DropReason::NoRuleIngress);
}

#[test]
fn a_remote_group_admits_its_members_only() {
    for family in both() {
        let mut world = World::new();
        world.allow(Ingress, RuleKey::ANY_PROTOCOL, (0, 0), &[MEMBERS]);
        world.allow(Egress, RuleKey::ANY_PROTOCOL, (0, 0), &[MEMBERS]);
        world.may_not_receive(&received(family, SYN), DropReason::NoRuleIngress);
        world.may_not_send(&asks(family), DropReason::NoRuleEgress);
        // One write, however many ports refer to the group.
        world.join(SET, family.there, 0);
        world.receives(&received(family, SYN));
        world.sends(&asks(family));
        // The port's own address is no member, nor is anybody in another set.
        world.join(SET + 1, address("10.0.0.4"), 0);
        let stranger = Ends { source: address("10.0.0.4"), ..talk(v4()).reversed() };
        world.may_not_receive(&stranger.udp(1), DropReason::NoRuleIngress);
    }
}

#[test]
fn members_may_be_prefixes() {
    let mut world = World::new();
    world.allow(Ingress, RuleKey::ANY_PROTOCOL, (0, 0), &[MEMBERS]);
    for (prefix, length) in [("192.168.0.0", 16), ("fd77::", 64)] {
        let prefix = address(prefix);
        let key = MemberKey { set: SET, address: prefix.into() };
        let bits = MemberKey::prefix_len(prefix.is_ipv6(), length);
        world.datapath.put_prefix(names::MEMBER_PREFIXES, bits, key, Member { rule: 0 });
    }
    let from = |source: &str| {
        let source = address(source);
        let family = if source.is_ipv4() { v4() } else { v6() };
        Ends { source, ..talk(family).reversed() }.udp(1)
    };
    for member in ["192.168.0.1", "192.168.255.255", "fd77::1"] {
        world.receives(&from(member));
    }
    for stranger in ["192.169.0.1", "fd77:0:0:1::1"] {
        world.may_not_receive(&from(stranger), DropReason::NoRuleIngress);
    }
}

#[test]
fn the_first_match_that_fits_admits_and_is_counted() {
    let mut world = World::new();
    let prefixes = Match { set: 9, rule: 0, flags: Match::USED | Match::RULE_OF_MEMBER };
    let other = Match { set: 8, rule: 6, flags: Match::USED };
    world.allow(Ingress, RuleKey::ANY_PROTOCOL, (0, 0), &[other, prefixes, ANYBODY]);
    world.join(9, v4().there, 4);
    let frame = received(v4(), SYN);
    let bytes = frame.0.len() as u64;
    world.receives(&frame);
    assert_eq!((world.datapath.hits(POLICY, 4), world.datapath.hits(POLICY, 1)), ((1, bytes), (0, 0)));
    // The same flow again: its rules are not asked.
    world.receives(&frame);
    assert_eq!(world.datapath.hits(POLICY, 4), (1, bytes));
    world.receives(&received(v6(), SYN));
    assert_eq!((world.datapath.hits(POLICY, 1).0, world.datapath.hits(POLICY, 6).0), (1, 0));
}

#[test]
fn a_stateless_rule_admits_packets_and_no_answers() {
    for family in both() {
        let mut world = World::new();
        let stateless = Match { flags: Match::USED | Match::STATELESS, ..ANYBODY };
        world.allow(Egress, RuleKey::ANY_PROTOCOL, (0, 0), &[stateless]);
        for frame in [asks(family), sent(family, SYN), sent(family, 16)] {
            world.sends(&frame);
            world.sends(&frame);
        }
        assert_eq!(world.counts(family), (0, 0));
        assert_eq!(world.datapath.hits(POLICY, 1).0, 6);
        world.may_not_receive(&answers(family), DropReason::NoRuleIngress);
        world.may_not_receive(&received(family, SYN | 16), DropReason::InvalidState);
        // A stateful rule for the same packet decides differently.
        world.allow(Egress, RuleKey::WHOLE, (UDP, THERE_PORT), &[ANYBODY, stateless]);
        world.sends(&asks(family));
        world.receives(&answers(family));
    }
}

#[test]
fn the_log_says_which_rule_has_admitted_a_flow_and_what_was_dropped() {
    let mut world = World::with(Load { log_rate: 1000, ..Load::default() });
    world.update(|port| port.flags |= Port::LOG_DROPS);
    let logged = Match { flags: Match::USED | Match::LOGGED, ..ANYBODY };
    world.allow(Egress, RuleKey::WHOLE, (UDP, THERE_PORT), &[logged]);
    world.sends(&asks(v4()));
    world.sends(&asks(v4()));
    world.may_not_receive(&received(v4(), SYN), DropReason::NoRuleIngress);
    let events = world.datapath.events();
    let [admitted, dropped] = events.as_slice() else { panic!("{events:?}") };
    let of =
        |event: &FlowEvent| (event.ifindex, event.policy, event.reason, event.rule, event.direction, event.service);
    assert_eq!(of(admitted), (IFINDEX, POLICY, FlowEvent::ADMITTED, 1, Egress as u8, THERE_PORT));
    assert_eq!((admitted.source, admitted.destination), (v4().here.into(), v4().there.into()));
    assert_eq!(of(dropped), (IFINDEX, POLICY, DropReason::NoRuleIngress as u16, 0, Ingress as u8, HERE_PORT));
    assert_eq!((dropped.protocol, dropped.source_port, dropped.suppressed), (TCP, THERE_PORT, 0));
}

#[test]
fn the_log_is_limited_and_says_how_much_is_missing() {
    let mut world = World::with(Load { log_rate: 1, ..Load::default() });
    world.update(|port| port.flags |= Port::LOG_DROPS);
    // More than a second's allowance; a few seconds may pass meanwhile, and CPUs count for themselves.
    for _ in 0..200 {
        world.may_not_receive(&received(v4(), SYN), DropReason::NoRuleIngress);
    }
    let written = world.datapath.events().len();
    assert!((1..100).contains(&written), "{written} events");
    let suppressed = |world: &mut World| {
        world.may_not_receive(&received(v4(), SYN), DropReason::NoRuleIngress);
        world.datapath.events().iter().any(|event| event.suppressed > 0)
    };
    overlane_tests::wait::wait_until("an event that says so", || Ok(suppressed(&mut world))).expect("a second passes");
}

#[test]
fn an_echo_is_admitted_by_the_rule_for_its_request() {
    for (family, protocol, request) in [(v4(), ICMP, 8_u16), (v6(), ICMPV6, 128)] {
        let mut world = World::new();
        world.allow(Egress, RuleKey::ANY_CODE, (protocol, request << 8), &[ANYBODY]);
        let (question, answer) = ping(family, 3);
        world.may_not_receive(&answer, DropReason::InvalidState);
        world.sends(&question);
        world.receives(&answer);
        let (_, other) = ping(family, 4);
        world.may_not_receive(&other, DropReason::InvalidState);
    }
}
