//! The connection table: what belongs to a flow, how long it is remembered, and who can push whom out.

use overlane_abi::{Direction, DropReason, Flow, FlowEnd, FlowState, RULE_FIXED, RuleKey, names};
use overlane_tests::{packet::Ends, wait::wait_until};

use crate::{
    harness::{FLOWS_MAX, IFINDEX, Load},
    network::{NEIGHBOUR, address, v4, v6},
    security::world::{
        ACK, ANYBODY, HERE_PORT, POLICY, REVISION, SYN, THERE_PORT, World, answers, asks, both, ping, received, sent,
        source, talk,
    },
};

/// A port that may begin everything, and be reached by nobody.
fn client(load: Load) -> World {
    let mut world = World::with(load);
    world.allow(Direction::Egress, RuleKey::ANY_PROTOCOL, (0, 0), &[ANYBODY]);
    world
}

#[test]
fn answers_need_no_rule_and_strangers_do() {
    for family in both() {
        let mut world = client(Load::default());
        world.may_not_receive(&answers(family), DropReason::NoRuleIngress);
        world.sends(&asks(family));
        world.receives(&answers(family));
        let remote = talk(family).reversed();
        for (source_port, port) in [(THERE_PORT + 1, HERE_PORT), (THERE_PORT, HERE_PORT + 1)] {
            let frame = remote.udp_between(source_port, port, b"");
            world.may_not_receive(&frame, DropReason::NoRuleIngress);
        }
        let other = if family.here.is_ipv4() { "10.0.0.4" } else { "fd00::4" };
        let stranger = Ends { source: address(other), ..remote };
        world.may_not_receive(&stranger.udp_between(THERE_PORT, HERE_PORT, b""), DropReason::NoRuleIngress);
        // Another protocol between the same ports.
        world.may_not_receive(&received(family, SYN), DropReason::NoRuleIngress);
    }
}

#[test]
fn networks_do_not_mix() {
    for family in both() {
        let mut world = client(Load::default());
        world.sends(&asks(family));
        world.update(|port| port.network += 1);
        world.may_not_receive(&answers(family), DropReason::NoRuleIngress);
        world.update(|port| port.network -= 1);
        world.receives(&answers(family));
    }
}

#[test]
fn protocols_without_ports_have_flows_between_addresses() {
    for family in both() {
        let mut world = client(Load::default());
        world.sends(&talk(family).ip(47, &[0; 8]));
        world.receives(&talk(family).reversed().ip(47, &[0; 8]));
        world.may_not_receive(&talk(family).reversed().ip(50, &[0; 8]), DropReason::NoRuleIngress);
    }
}

#[test]
fn two_machines_may_ping_each_other_with_one_identifier() {
    for family in both() {
        let mut world = client(Load::default());
        let (question, answer) = ping(family, 1);
        world.sends(&question);
        let kind = if family.here.is_ipv4() { 8 } else { 128 };
        let theirs = talk(family).reversed().icmp(kind, 0, [0, 1, 0, 1], b"");
        world.may_not_receive(&theirs, DropReason::NoRuleIngress);
        world.receives(&answer);
    }
}

#[test]
fn an_entry_says_who_began_it_and_who_has_admitted_it() {
    for family in both() {
        let mut world = client(Load::default());
        world.sends(&asks(family));
        let flow = if family.here.is_ipv4() {
            world.flows4(names::CONNTRACK_NEW4)[0].1
        } else {
            world.flows6(names::CONNTRACK_NEW6)[0].1
        };
        // The guest's address is the smaller one.
        assert_eq!((flow.flags, flow.state), (0, FlowState::Udp as u8));
        let nobody = FlowEnd { ifindex: 0, policy: 0, revision: 0, generation: 0, rule: 0, flags: 0 };
        let end = FlowEnd {
            ifindex: IFINDEX,
            policy: POLICY,
            revision: REVISION,
            rule: 1,
            flags: FlowEnd::SOURCE_ALLOWED,
            ..nobody
        };
        assert_eq!(flow.ends, [end, nobody]);
        assert_eq!(flow.expires - flow.created, 30_000_000_000);
    }
    let mut world = World::open();
    world.receives(&answers(v4()));
    let flow: Flow = world.flows4(names::CONNTRACK_NEW4)[0].1;
    assert_eq!((flow.flags, flow.ends[0].ifindex, flow.ends[1].ifindex), (Flow::BEGUN_BY_SECOND, 0, IFINDEX));
    assert_eq!(flow.ends[1].flags, 0);
    // A rule that every port has.
    let mut world = World::new();
    world.sends(&ping(v6(), 1).0);
    assert_eq!(world.flows6(names::CONNTRACK_NEW6)[0].1.ends[0].rule, RULE_FIXED);
}

#[test]
fn a_flow_has_shown_both_of_its_ends_when_whoever_began_it_goes_on_after_an_answer() {
    for family in both() {
        let mut world = client(Load::default());
        world.sends(&asks(family));
        world.sends(&asks(family));
        assert_eq!(world.counts(family), (0, 1));
        world.receives(&answers(family));
        assert_eq!(world.counts(family), (0, 1));
        world.sends(&asks(family));
        assert_eq!(world.counts(family), (1, 0));
        world.receives(&answers(family));
        world.sends(&asks(family));
        assert_eq!(world.counts(family), (1, 0));
    }
}

#[test]
fn two_ends_on_one_host_share_an_entry_and_each_admits_for_itself() {
    let mut world = World::new();
    let here = world.port;
    // The other port of this host, with rules of its own; test runs happen on one interface only.
    let mut there = here;
    (there.mac, there.policy, there.revision) = (crate::network::THERE, POLICY + 1, REVISION + 50);
    world.allow(Direction::Egress, RuleKey::ANY_PROTOCOL, (0, 0), &[ANYBODY]);
    world.sends(&asks(v4()));
    world.update(|port| *port = there);
    world.may_not_receive(&asks(v4()), DropReason::NoRuleIngress);
    world.allow(Direction::Ingress, RuleKey::ANY_PROTOCOL, (0, 0), &[ANYBODY]);
    // What one end has refused is forgotten, and what begins there now is a flow of its own to both.
    world.receives(&asks(v4()));
    world.datapath.put(
        names::SOURCES,
        overlane_abi::SourceKey { address: v4().there.into(), ..source(v4(), there.mac) },
        overlane_abi::Source { flags: 0 },
    );
    world.sends(&answers(v4()));
    world.update(|port| *port = here);
    world.receives(&answers(v4()));
    let flows = world.flows4(names::CONNTRACK_NEW4);
    let [(_, flow)] = flows.as_slice() else { panic!("{flows:?}") };
    assert_eq!(flow.ends.map(|end| (end.policy, end.revision)), [(POLICY, REVISION), (POLICY + 1, REVISION + 50)]);
}

#[test]
fn a_flood_of_new_flows_pushes_no_established_one_out() {
    for family in both() {
        let mut world = World::open();
        world.connect(family);
        world.sends(&asks(family));
        world.receives(&answers(family));
        world.sends(&asks(family));
        assert_eq!(world.counts(family), (2, 0));
        for port in 1..=u16::try_from(3 * FLOWS_MAX).expect("a few thousand") {
            let syn = talk(family).reversed().segment(port, THERE_PORT, SYN);
            assert!(!world.datapath.drops(overlane_abi::Hook::ToPort, &syn));
        }
        let (established, new) = world.counts(family);
        assert!(established == 2 && new <= FLOWS_MAX as usize, "{established} and {new}");
        world.allow(Direction::Ingress, RuleKey::ANY_PROTOCOL, (0, 0), &[]);
        world.receives(&received(family, ACK));
        world.receives(&answers(family));
    }
}

#[test]
fn a_full_table_forgets_old_flows_and_admits_new_ones() {
    let mut world = World::open();
    let ends = talk(v4());
    for port in 1..=u16::try_from(2 * FLOWS_MAX).expect("a few thousand") {
        for _ in 0..2 {
            assert!(!world.datapath.drops(overlane_abi::Hook::FromPort, &ends.udp_between(port, THERE_PORT, b"")));
            let answer = ends.reversed().udp_between(THERE_PORT, port, b"");
            assert!(!world.datapath.drops(overlane_abi::Hook::ToPort, &answer));
        }
    }
    let (established, _) = world.counts(v4());
    assert!((1..=FLOWS_MAX as usize).contains(&established), "{established} flows");
}

#[test]
fn a_flow_is_forgotten_after_its_timeout() {
    let mut timeouts = FlowState::DEFAULT_TIMEOUTS;
    for state in [FlowState::Udp, FlowState::Echo, FlowState::SynSent] {
        timeouts[state as usize] = 50;
    }
    for family in both() {
        let mut world = client(Load { timeouts, ..Load::default() });
        let syn_ack = received(family, SYN | ACK);
        let (question, answer) = ping(family, 1);
        for (first, back) in [(asks(family), answers(family)), (question, answer), (sent(family, SYN), syn_ack)] {
            // Answers would keep it alive, so one look must do.
            world.sends(&first);
            let expires = || {
                let entries = if family.here.is_ipv4() {
                    world.flows4(names::CONNTRACK_NEW4).iter().map(|(_, flow)| flow.expires).max()
                } else {
                    world.flows6(names::CONNTRACK_NEW6).iter().map(|(_, flow)| flow.expires).max()
                };
                entries.expect("there is a flow")
            };
            let expires = expires();
            wait_until("its time to be over", || Ok(now() > expires + 20_000_000)).expect("time passes");
            assert!(world.datapath.drops(overlane_abi::Hook::ToPort, &back));
        }
    }
}

#[test]
fn packets_keep_a_flow_alive() {
    let mut timeouts = FlowState::DEFAULT_TIMEOUTS;
    timeouts[FlowState::Udp as usize] = 500;
    let mut world = client(Load { timeouts, ..Load::default() });
    world.sends(&asks(v4()));
    let begin = now();
    wait_until("three timeouts", || {
        world.receives(&answers(v4()));
        Ok(now() > begin + 1_500_000_000)
    })
    .expect("time passes");
}

#[test]
fn a_one_way_flow_leaves_the_table_of_new_ones_when_it_is_old_enough() {
    let mut world = client(Load::default());
    wait_until("a flow that has gone on for two seconds", || {
        world.sends(&asks(v4()));
        Ok(world.counts(v4()) == (1, 0))
    })
    .expect("it is no flood");
    // Never TCP: its handshake is missing.
    let created = now();
    wait_until("more than two seconds", || {
        world.sends(&sent(v4(), SYN));
        Ok(now() > created + 2_500_000_000)
    })
    .expect("time passes");
    assert_eq!(world.counts(v4()), (1, 1));
}

#[test]
fn a_packet_from_another_mac_address_of_the_port_is_checked_though_its_flow_is_known() {
    let mut world = World::open();
    world.connect(v4());
    let other = Ends { source_mac: NEIGHBOUR, ..talk(v4()) };
    world.may_not_send(&other.segment(HERE_PORT, THERE_PORT, ACK), DropReason::SpoofedMac);
}

/// The kernel's monotonic clock, in nanoseconds.
fn now() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("there is such a clock");
    u64::try_from(time.tv_sec()).expect("after the start") * 1_000_000_000
        + u64::try_from(time.tv_nsec()).expect("positive")
}
