//! `from_port`, with packets that the path or the network does not take: the port is told, and with what it would fit.

use overlane_abi::{Hook, Outcome};
use overlane_tests::packet::{ETHERNET, Ends, Frame, too_big};

use crate::{
    harness::{Datapath, Verdict, check},
    network::{
        Family, HERE, MTU, NEIGHBOUR, NOBODY, THERE, families, host, limit, outbound, tunnel, unresolve, v4, v6,
    },
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

/// Less than the path would take.
const NETWORK_MTU: u32 = 1300;

/// A host with an endpoint that is not resolved, so that no lane is left out: where a packet goes, and what becomes of one
/// that fits.
fn lanes() -> (Datapath, [([u8; 6], Verdict); 4]) {
    let mut datapath = host(v4());
    limit(&mut datapath, NETWORK_MTU);
    unresolve(&mut datapath, v4());
    let ways = [
        (NEIGHBOUR, Verdict::Redirect(Outcome::Delivered)),
        (NOBODY, Verdict::Pass(Outcome::UnknownDestination)),
        (THERE, Verdict::Pass(Outcome::UnresolvedVtep)),
        (HERE, Verdict::Pass(Outcome::NotOurs)),
    ];
    (datapath, ways)
}

#[test]
fn what_is_too_big_for_the_network_is_answered_whichever_lane_it_would_take() {
    let (mut datapath, ways) = lanes();
    for (destination_mac, verdict) in ways {
        for ends in [v4(), v6()].map(|inner| Ends { destination_mac, ..outbound(inner) }) {
            let output = datapath.expect(Hook::FromPort, &udp_of(&ends, NETWORK_MTU as usize), verdict);
            assert_eq!(output, udp_of(&ends, NETWORK_MTU as usize));
            let frame = udp_of(&ends, NETWORK_MTU as usize + 1);
            let output = datapath.expect(Hook::FromPort, &frame, ANSWERED);
            let expected = too_big(&ends.reversed(), NETWORK_MTU as u16, &frame);
            check(Hook::FromPort, ANSWERED, (&frame, &output), &output, &expected, "the answer is wrong");
        }
    }
}

#[test]
fn of_a_superpacket_the_segments_count() {
    let (mut datapath, ways) = lanes();
    for (destination_mac, verdict) in ways {
        for (inner, headers) in [(v4(), 40), (v6(), 60)] {
            let frame = Ends { destination_mac, ..outbound(inner) }.tcp(3_000);
            let fits = NETWORK_MTU - headers;
            let _ = datapath.expect_superpacket(Hook::FromPort, &frame, fits, verdict);
            let _ = datapath.expect_superpacket(Hook::FromPort, &frame, fits + 1, ANSWERED);
        }
    }
}

#[test]
fn the_narrower_of_network_and_path_is_what_the_port_is_told() {
    for (mtu, expected) in [(MTU, room(v4())), (NETWORK_MTU, NETWORK_MTU as usize)] {
        let mut datapath = host(v4());
        limit(&mut datapath, mtu);
        let frame = udp_of(&outbound(v4()), MTU as usize);
        let output = datapath.expect(Hook::FromPort, &frame, ANSWERED);
        assert_eq!(output, too_big(&outbound(v4()).reversed(), expected as u16, &frame));
    }
}

#[test]
fn broadcast_and_what_is_not_ip_is_never_answered() {
    let (mut datapath, _) = lanes();
    let too_long = udp_of(&outbound(v4()), NETWORK_MTU as usize + 1);
    datapath.expect_pass(Hook::FromPort, &too_long.clone().with_byte(0, 0xff), Outcome::Flood);
    // LLDP, from the port here to nobody.
    let lldp = Ends { destination_mac: NOBODY, ..outbound(v4()) }.udp(1400).with_byte(12, 0x88).with_byte(13, 0xcc);
    datapath.expect_pass(Hook::FromPort, &lldp, Outcome::UnknownDestination);
    datapath.expect_pass(Hook::FromPort, &too_long.tagged(5), Outcome::OtherEthertype);
}
