//! `from_port`, with packets that the path does not take: the port is told, and with what it would fit.

use overlane_abi::{Hook, Outcome};
use overlane_tests::packet::{ETHERNET, Ends, Frame, too_big};

use crate::{
    harness::{Verdict, check},
    network::{Family, MTU, families, host, outbound, tunnel, v4, v6},
};

const ANSWERED: Verdict = Verdict::Redirect(Outcome::TooBig);

/// The largest inner IP packet.
fn room(outer: Family) -> usize {
    MTU as usize - tunnel(outer).header_len()
}

fn udp_of(ends: &Ends, ip_len: usize) -> Frame {
    ends.udp(ip_len + ETHERNET - ends.udp(0).0.len())
}

#[test]
fn a_packet_that_just_fits_the_path_is_encapsulated() {
    for (outer, inner) in families() {
        let frame = udp_of(&outbound(inner), room(outer));
        let _ = host(outer).expect(Hook::FromPort, &frame, Verdict::Redirect(Outcome::Encapsulated));
    }
}

#[test]
fn a_packet_that_is_one_byte_too_long_is_answered_with_the_mtu() {
    for (outer, inner) in families() {
        let mut datapath = host(outer);
        let back = outbound(inner).reversed();
        let tcp = outbound(inner).tcp(room(outer) + 1 + ETHERNET - outbound(inner).tcp(0).0.len());
        for frame in [udp_of(&outbound(inner), room(outer) + 1), tcp] {
            let output = datapath.expect(Hook::FromPort, &frame, ANSWERED);
            let expected = too_big(&back, room(outer) as u16, &frame);
            check(Hook::FromPort, ANSWERED, (&frame, &output), &output, &expected, "the answer is wrong");
        }
    }
}

#[test]
fn errors_and_later_fragments_are_not_answered() {
    let too_long = room(v4()) + 1;
    let frame = udp_of(&outbound(v4()), too_long);
    const FRAGMENT: usize = ETHERNET + 7;
    const PROTOCOL: usize = ETHERNET + 9;
    const ICMP_TYPE: usize = ETHERNET + 20;
    let later_fragment = frame.clone().with_byte(FRAGMENT, 3);
    let icmp_error = frame.clone().with_byte(PROTOCOL, 1).with_byte(ICMP_TYPE, 3);
    let with_options = frame.with_byte(ETHERNET, 0x46);
    for frame in [later_fragment, icmp_error, with_options] {
        host(v4()).expect_pass(Hook::FromPort, &frame, Outcome::Oversize);
    }
    let frame = udp_of(&outbound(v6()), too_long);
    const NEXT_HEADER: usize = ETHERNET + 6;
    const ICMPV6_TYPE: usize = ETHERNET + 40;
    let icmp_error = frame.with_byte(NEXT_HEADER, 58).with_byte(ICMPV6_TYPE, 1);
    host(v4()).expect_pass(Hook::FromPort, &icmp_error, Outcome::Oversize);
}

#[test]
fn a_ping_that_is_too_long_is_answered() {
    let frame = udp_of(&outbound(v4()), room(v4()) + 1).with_byte(ETHERNET + 9, 1).with_byte(ETHERNET + 20, 8);
    let _ = host(v4()).expect(Hook::FromPort, &frame, ANSWERED);
}
