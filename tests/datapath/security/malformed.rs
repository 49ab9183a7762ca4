//! Headers that do not hold together, and headers in front of others.

use overlane_abi::{Direction, DropReason, Hook, Outcome, RuleKey};
use overlane_tests::packet::{ETHERNET, Frame};

use crate::{
    harness::Verdict,
    network::{HOOKS, v4, v6},
    security::world::{
        ACK, ANYBODY, HERE_PORT, SYN, TCP, THERE_PORT, UDP, World, answers, asks, both, ping, received, sent, talk,
    },
};

const MALFORMED: DropReason = DropReason::MalformedIp;

#[test]
fn ip_headers_that_do_not_hold_together_are_dropped_both_ways() {
    let mut world = World::open();
    const TOTAL_LENGTH: usize = ETHERNET + 3;
    const PAYLOAD_LENGTH: usize = ETHERNET + 5;
    let frames = |four: Frame, six: Frame| {
        [
            four.clone().with_byte(ETHERNET, 0x65),
            four.clone().with_byte(ETHERNET, 0x44),
            four.clone().with_byte(TOTAL_LENGTH, 19),
            four.clone().with_byte(TOTAL_LENGTH, 200),
            // Options that leave no room for the transport header.
            four.with_byte(ETHERNET, 0x4f),
            six.clone().with_byte(ETHERNET, 0x45),
            six.clone().with_byte(PAYLOAD_LENGTH, 7),
            six.with_byte(PAYLOAD_LENGTH, 200),
        ]
    };
    for frame in frames(asks(v4()), asks(v6())) {
        world.may_not_send(&frame, MALFORMED);
    }
    for frame in frames(answers(v4()), answers(v6())) {
        world.may_not_receive(&frame, MALFORMED);
    }
}

#[test]
fn transport_headers_must_be_whole() {
    for family in both() {
        let mut world = World::open();
        let (question, _) = ping(family, 1);
        for frame in [asks(family), sent(family, SYN), question] {
            let shortest = frame.transport() + if frame == sent(family, SYN) { 20 } else { 8 };
            for length in frame.transport()..shortest {
                // The IP header tells the truth about how little there is.
                world.may_not_send(&shortened(&frame, length), MALFORMED);
            }
        }
        const DATA_OFFSET: usize = 12;
        let segment = sent(family, ACK);
        let at = segment.transport() + DATA_OFFSET;
        for value in [0x40, 0x00, 0x60, 0xf0] {
            world.may_not_send(&segment.clone().with_byte(at, value), MALFORMED);
        }
    }
}

/// The first `length` bytes, and an IP header that says so.
fn shortened(frame: &Frame, length: usize) -> Frame {
    let (at, base) = if frame.0[ETHERNET] >> 4 == 4 { (2, ETHERNET) } else { (4, ETHERNET + 40) };
    let [high, low] = u16::try_from(length - base).expect("a short packet").to_be_bytes();
    frame.clone().truncated(length).with_byte(ETHERNET + at, high).with_byte(ETHERNET + at + 1, low)
}

#[test]
fn padding_is_no_part_of_a_packet() {
    for family in both() {
        let mut world = World::open();
        let mut padded = asks(family);
        padded.0.resize(padded.0.len() + 30, 0);
        world.sends(&padded);
        let mut short = shortened(&asks(family), asks(family).transport() + 4);
        short.0.resize(80, 0);
        world.may_not_send(&short, MALFORMED);
    }
}

#[test]
fn ip_options_do_not_hide_the_transport_header() {
    let with_options = |frame: Frame| {
        let mut frame = frame.with_byte(ETHERNET, 0x46);
        frame.0[ETHERNET + 3] += 4;
        frame.0.splice(ETHERNET + 20..ETHERNET + 20, [1, 1, 1, 1]);
        frame
    };
    let mut world = World::new();
    world.allow(Direction::Egress, RuleKey::WHOLE, (UDP, THERE_PORT), &[ANYBODY]);
    world.allow(Direction::Egress, RuleKey::WHOLE, (TCP, THERE_PORT), &[ANYBODY]);
    world.sends(&with_options(asks(v4())));
    world.sends(&with_options(sent(v4(), SYN)));
    world.receives(&with_options(received(v4(), SYN | ACK)));
    world.may_not_send(&with_options(talk(v4()).udp_between(HERE_PORT, 53, b"")), DropReason::NoRuleEgress);
}

#[test]
fn extension_headers_do_not_hide_the_transport_header() {
    const KINDS: [u8; 6] = [0, 43, 60, 135, 139, 140];
    let mut world = World::new();
    world.allow(Direction::Egress, RuleKey::WHOLE, (TCP, THERE_PORT), &[ANYBODY]);
    let other = talk(v6()).segment(HERE_PORT, 22, SYN);
    for kind in KINDS {
        world.sends(&sent(v6(), SYN).with_extension(kind, &[0; 7]));
        world.may_not_send(&other.clone().with_extension(kind, &[0; 7]), DropReason::NoRuleEgress);
    }
    let chain =
        |frame: &Frame, count: usize| (0..count).fold(frame.clone(), |frame, _| frame.with_extension(60, &[0; 7]));
    world.sends(&chain(&sent(v6(), SYN), 7));
    world.may_not_send(&chain(&other, 7), DropReason::NoRuleEgress);
    // More than anybody needs.
    world.may_not_send(&chain(&sent(v6(), SYN), 9), MALFORMED);
}

#[test]
fn extension_headers_that_lead_nowhere_are_dropped() {
    let mut world = World::open();
    for beyond in [3, 100, 255] {
        let frame = sent(v6(), SYN).with_extension(60, &[beyond, 0, 0, 0, 0, 0, 0]);
        world.may_not_send(&frame, MALFORMED);
    }
    // A fragment within a fragment.
    let nested = asks(v6()).fragment(1, 0, 8).with_extension(44, &[0, 0, 1, 0, 0, 0, 2]);
    world.may_not_send(&nested, MALFORMED);
}

#[test]
fn what_authenticates_or_encrypts_is_a_protocol_of_its_own() {
    for protocol in [50, 51, 59] {
        let mut world = World::new();
        let packet = talk(v6()).ip(protocol, &[6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        world.allow(Direction::Egress, RuleKey::ANY_SERVICE, (TCP, 0), &[ANYBODY]);
        world.may_not_send(&packet, DropReason::NoRuleEgress);
        world.allow(Direction::Egress, RuleKey::ANY_SERVICE, (protocol, 0), &[ANYBODY]);
        world.sends(&packet);
    }
}

#[test]
fn no_frame_is_too_short_or_too_garbled_for_a_guarded_port() {
    for family in both() {
        let mut world = World::open();
        let (question, _) = ping(family, 1);
        for frame in [asks(family), received(family, SYN), question, asks(family).fragment(1, 0, 16)] {
            for hook in HOOKS {
                for length in crate::network::shortest(family)..frame.0.len() {
                    world.datapath.survives(hook, &frame.clone().truncated(length));
                }
                for offset in 0..frame.0.len() {
                    world.datapath.survives(hook, &frame.clone().with_byte(offset, frame.0[offset] ^ 0xff));
                }
            }
        }
    }
}

#[test]
fn a_superpacket_is_judged_by_its_headers() {
    let mut world = World::open();
    let frame = talk(v4()).tcp(2800);
    let _ = world.datapath.expect_superpacket(
        Hook::FromPort,
        &frame,
        1400,
        crate::harness::Verdict::Pass(Outcome::ForwardingOff),
    );
    world.allow(Direction::Egress, RuleKey::ANY_PROTOCOL, (0, 0), &[]);
    world.update(|port| port.revision += 1);
    let verdict = Verdict::Drop(DropReason::NoRuleEgress);
    let _ = world.datapath.expect(Hook::FromPort, &frame, verdict);
}
