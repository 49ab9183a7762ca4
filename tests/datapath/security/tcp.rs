//! TCP: its states, and segments that do not fit.

use overlane_abi::{Direction, DropReason, FlowState, Port, RuleKey, names};

use crate::{
    network::{Family, v4},
    security::world::{ACK, ANYBODY, FIN, HERE_PORT, RST, SYN, TCP, THERE_PORT, World, both, received, sent, talk},
};

use FlowState::{Close, CloseWait, Established, FinWait, LastAck, SynReceived, SynSent, SynSent2, TimeWait};

/// A port that may connect to everybody, and nobody to it.
pub(super) fn client() -> World {
    let mut world = World::new();
    world.allow(Direction::Egress, RuleKey::ANY_PROTOCOL, (0, 0), &[ANYBODY]);
    world
}

/// The state of the only connection.
pub(super) fn state(world: &World, family: Family) -> u8 {
    let flows: Vec<u8> = if family.here.is_ipv4() {
        [names::CONNTRACK4, names::CONNTRACK_NEW4]
            .iter()
            .flat_map(|table| world.flows4(table))
            .map(|(_, flow)| flow.state)
            .collect()
    } else {
        [names::CONNTRACK6, names::CONNTRACK_NEW6]
            .iter()
            .flat_map(|table| world.flows6(table))
            .map(|(_, flow)| flow.state)
            .collect()
    };
    assert_eq!(flows.len(), 1, "{flows:?}");
    flows[0]
}

#[derive(Clone, Copy)]
enum Segment {
    Sent(u8),
    Received(u8),
}

use Segment::{Received, Sent};

fn follow(world: &mut World, family: Family, segments: &[(Segment, FlowState)]) {
    for (index, (segment, expected)) in segments.iter().enumerate() {
        match segment {
            Sent(flags) => world.sends(&sent(family, *flags)),
            Received(flags) => world.receives(&received(family, *flags)),
        }
        assert_eq!(state(world, family), *expected as u8, "after segment {index}");
    }
}

#[test]
fn a_connection_goes_through_its_states() {
    for family in both() {
        follow(
            &mut client(),
            family,
            &[
                (Sent(SYN), SynSent),
                (Sent(SYN), SynSent),
                (Received(SYN | ACK), SynReceived),
                (Received(SYN | ACK), SynReceived),
                (Sent(ACK), Established),
                (Received(ACK), Established),
                (Sent(ACK | 8), Established),
                (Sent(FIN | ACK), FinWait),
                (Received(ACK), CloseWait),
                (Received(ACK | 8), CloseWait),
                (Received(FIN | ACK), LastAck),
                (Sent(ACK), TimeWait),
                (Sent(ACK), TimeWait),
            ],
        );
    }
}

#[test]
fn the_other_side_may_close_first_and_both_at_once() {
    let handshake = [(Sent(SYN), SynSent), (Received(SYN | ACK), SynReceived), (Sent(ACK), Established)];
    let mut world = client();
    follow(&mut world, v4(), &handshake);
    follow(&mut world, v4(), &[(Received(FIN | ACK), FinWait), (Sent(FIN | ACK), LastAck), (Received(ACK), TimeWait)]);
    let mut world = client();
    follow(&mut world, v4(), &handshake);
    follow(&mut world, v4(), &[(Received(RST | ACK), Close), (Received(RST), Close), (Sent(ACK), Close)]);
}

#[test]
fn both_sides_may_open_at_once() {
    let segments =
        [(Sent(SYN), SynSent), (Received(SYN), SynSent2), (Sent(SYN | ACK), SynReceived), (Sent(ACK), Established)];
    follow(&mut client(), v4(), &segments);
}

#[test]
fn a_refused_connection_is_closed() {
    follow(&mut client(), v4(), &[(Sent(SYN), SynSent), (Received(RST | ACK), Close)]);
}

#[test]
fn ports_may_be_used_again_once_their_connection_is_over() {
    for end in [RST, FIN] {
        let mut world = client();
        world.connect(v4());
        if end == RST {
            world.receives(&received(v4(), RST));
        } else {
            for frame in [sent(v4(), FIN | ACK), sent(v4(), ACK)] {
                world.sends(&frame);
            }
            world.receives(&received(v4(), FIN | ACK));
            world.sends(&sent(v4(), ACK));
        }
        assert_eq!(world.counts(v4()), (1, 0));
        world.sends(&sent(v4(), SYN));
        assert_eq!((state(&world, v4()), world.counts(v4())), (SynSent as u8, (1, 0)));
        world.receives(&received(v4(), SYN | ACK));
        // The other side may not open it anew.
        world.sends(&sent(v4(), RST));
        world.may_not_receive(&received(v4(), SYN), DropReason::NoRuleIngress);
    }
}

#[test]
fn a_half_open_connection_does_not_count_as_established() {
    for family in both() {
        let mut world = World::open();
        world.receives(&received(family, SYN));
        world.sends(&sent(family, SYN | ACK));
        assert_eq!(world.counts(family), (0, 1));
        world.receives(&received(family, ACK));
        assert_eq!(world.counts(family), (1, 0));
    }
}

#[test]
fn segments_of_no_connection_are_invalid() {
    for family in both() {
        let mut world = World::new();
        world.allow(Direction::Egress, RuleKey::WHOLE, (TCP, 1), &[ANYBODY]);
        for flags in [SYN | ACK, RST, RST | ACK, FIN | ACK] {
            world.may_not_receive(&received(family, flags), DropReason::InvalidState);
            world.may_not_send(&sent(family, flags), DropReason::InvalidState);
        }
        world.may_not_receive(&received(family, ACK), DropReason::NoRuleIngress);
    }
}

#[test]
fn segments_that_do_not_fit_their_connection_are_invalid() {
    for family in both() {
        let mut world = client();
        world.sends(&sent(family, SYN));
        // Nothing was answered yet.
        world.may_not_receive(&received(family, FIN | ACK), DropReason::InvalidState);
        world.receives(&received(family, SYN | ACK));
        world.sends(&sent(family, ACK));
        world.may_not_receive(&received(family, SYN), DropReason::InvalidState);
        assert_eq!(state(&world, family), Established as u8);
        world.receives(&received(family, ACK));
    }
}

#[test]
fn rules_admit_what_fits_no_connection_and_nothing_is_kept_of_it() {
    for family in both() {
        let mut world = World::open();
        for flags in [SYN | ACK, RST, FIN | ACK] {
            world.receives(&received(family, flags));
            world.sends(&sent(family, flags));
        }
        assert_eq!(world.counts(family), (0, 0));
    }
}

#[test]
fn flags_that_nobody_sends_are_invalid_whatever_the_rules_say() {
    const PUSH: u8 = 8;
    const URGENT: u8 = 32;
    for family in both() {
        let mut world = World::open();
        for flags in [0, FIN, PUSH, URGENT, FIN | PUSH | URGENT, SYN | FIN, SYN | RST, SYN | FIN | ACK, FIN | RST, 0xff]
        {
            world.may_not_receive(&received(family, flags), DropReason::InvalidState);
            world.may_not_send(&sent(family, flags), DropReason::InvalidState);
        }
    }
}

#[test]
fn a_connection_is_picked_up_in_mid_stream_if_the_rules_admit_it() {
    for family in both() {
        let mut world = client();
        world.sends(&sent(family, ACK));
        assert_eq!((state(&world, family), world.counts(family)), (Established as u8, (0, 1)));
        world.receives(&received(family, ACK));
        world.sends(&sent(family, ACK));
        assert_eq!(world.counts(family), (1, 0));
    }
}

#[test]
fn after_a_takeover_answers_may_come_first() {
    for family in both() {
        let mut world = client();
        world.may_not_receive(&received(family, ACK), DropReason::NoRuleIngress);
        world.update(|port| port.flags |= Port::TAKE_UP);
        for flags in [SYN, SYN | ACK, RST] {
            assert!(world.datapath.drops(overlane_abi::Hook::ToPort, &received(family, flags)));
        }
        world.receives(&received(family, ACK));
        world.update(|port| port.flags &= !Port::TAKE_UP);
        world.sends(&sent(family, ACK));
        world.receives(&received(family, ACK));
        assert_eq!(world.counts(family), (1, 0));
        // No rule would have admitted this one from either side.
        world.update(|port| port.flags |= Port::TAKE_UP);
        world.allow(Direction::Egress, RuleKey::ANY_PROTOCOL, (0, 0), &[]);
        let other = talk(family).reversed().segment(THERE_PORT + 1, HERE_PORT, ACK);
        world.may_not_receive(&other, DropReason::NoRuleIngress);
    }
}

#[test]
fn after_a_takeover_what_does_not_fit_a_known_connection_is_still_no_answer() {
    for family in both() {
        let mut world = client();
        world.update(|port| port.flags |= Port::TAKE_UP);
        world.sends(&sent(family, SYN));
        world.may_not_receive(&received(family, FIN | ACK), DropReason::InvalidState);
        world.receives(&received(family, SYN | ACK));
    }
}
