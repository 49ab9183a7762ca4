//! What comes right after a packet that was admitted, and is nearly the same.

use overlane_abi::{DropReason, FlowState};
use overlane_tests::packet::{ETHERNET, Frame};

use crate::{
    network::Family,
    security::{
        tcp::{client, state},
        world::{ACK, FIN, HERE_PORT, THERE_PORT, World, answers, asks, both, received, sent, talk},
    },
};

/// A flow of each protocol that has shown both of its ends: what the machine receives next of it.
fn established(family: Family) -> (World, [Frame; 2]) {
    let mut world = client();
    world.sends(&asks(family));
    world.receives(&answers(family));
    world.sends(&asks(family));
    world.connect(family);
    (world, [answers(family), received(family, ACK)])
}

/// The packet is refused though `before` is admitted every time, on the same CPU and in the same tick or the one before.
fn refused_after(world: &mut World, before: &Frame, frame: &Frame, reason: DropReason) {
    for _ in 0..3 {
        world.receives(before);
    }
    world.may_not_receive(frame, reason);
}

/// `frame` with one bit of a byte changed.
fn changed(frame: &Frame, offset: usize) -> Frame {
    frame.clone().with_byte(offset, frame.0[offset] ^ 1)
}

#[test]
fn another_address_or_port_is_another_flow() {
    for family in both() {
        let (mut world, frames) = established(family);
        let addresses = if family.here.is_ipv4() { ETHERNET + 12..ETHERNET + 20 } else { ETHERNET + 8..ETHERNET + 40 };
        for frame in frames {
            let ports = frame.transport()..frame.transport() + 4;
            for offset in addresses.clone().chain(ports) {
                refused_after(&mut world, &frame, &changed(&frame, offset), DropReason::NoRuleIngress);
            }
        }
    }
}

#[test]
fn another_protocol_between_the_same_ports_is_another_flow() {
    const UDP_LITE: u8 = 136;
    for family in both() {
        let (mut world, [answer, _]) = established(family);
        let protocol = if family.here.is_ipv4() { ETHERNET + 9 } else { ETHERNET + 6 };
        let frame = answer.clone().with_byte(protocol, UDP_LITE);
        refused_after(&mut world, &answer, &frame, DropReason::NoRuleIngress);
    }
}

#[test]
fn headers_are_checked_however_well_the_flow_is_known() {
    for family in both() {
        let (mut world, frames) = established(family);
        let length = if family.here.is_ipv4() { ETHERNET + 3 } else { ETHERNET + 5 };
        for frame in &frames {
            for wrong in [7, 200] {
                refused_after(&mut world, frame, &frame.clone().with_byte(length, wrong), DropReason::MalformedIp);
            }
        }
        let [_, segment] = frames;
        let data_offset = segment.transport() + 12;
        for wrong in [0x40, 0xf0] {
            let frame = segment.clone().with_byte(data_offset, wrong);
            refused_after(&mut world, &segment, &frame, DropReason::MalformedIp);
        }
        let flags = data_offset + 1;
        refused_after(&mut world, &segment, &segment.clone().with_byte(flags, 0), DropReason::InvalidState);
    }
}

#[test]
fn what_a_segment_does_to_its_connection_is_not_overlooked() {
    for family in both() {
        let mut world = client();
        world.connect(family);
        let acknowledge = |world: &mut World| world.receives(&received(family, ACK));
        for _ in 0..3 {
            acknowledge(&mut world);
        }
        world.sends(&sent(family, FIN | ACK));
        assert_eq!(state(&world, family), FlowState::FinWait as u8);
        // Like those before, but it acknowledges the end.
        acknowledge(&mut world);
        assert_eq!(state(&world, family), FlowState::CloseWait as u8);
    }
}

#[test]
fn a_packet_of_the_flow_must_come_from_the_ports_own_mac_address() {
    for family in both() {
        let (mut world, _) = established(family);
        let frame = talk(family).udp_between(HERE_PORT, THERE_PORT, b"");
        for _ in 0..3 {
            world.sends(&frame);
        }
        const SOURCE_MAC: usize = 6;
        world.may_not_send(&changed(&frame, SOURCE_MAC + 5), DropReason::SpoofedMac);
    }
}
