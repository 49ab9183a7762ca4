//! The XDP lane: what it carries, and what it leaves, as it came, to the TC lane. (What `to_port_xdp` admits is tested with real taps:
//! the kernel runs such programs only where they are in use.)

use overlane_abi::{DropReason, Hook, Network, NetworkKey, Outcome, Port, names};
use overlane_tests::packet::{BROADCAST, ETHERNET, Ends, Frame, Vxlan};

use crate::{
    harness::{Datapath, IFINDEX, Verdict, check},
    network::{
        Family, HERE, INDEX, MTU, NEIGHBOUR, NOBODY, OTHER_IFINDEX, UPLINK, VNI, address, families, host, inbound,
        limit, outbound, tunnel, unresolve, v4, v6,
    },
};

const DECAPSULATED: Verdict = Verdict::Redirect(Outcome::Decapsulated);
const ENCAPSULATED: Verdict = Verdict::Redirect(Outcome::Encapsulated);
const DELIVERED: Verdict = Verdict::Redirect(Outcome::Delivered);

/// A host where XDP may send by the uplink and by both ports.
fn xdp_host(outer: Family) -> Datapath {
    let mut datapath = host(outer);
    [UPLINK, IFINDEX, OTHER_IFINDEX].into_iter().for_each(|ifindex| datapath.send_by_xdp(ifindex));
    datapath
}

/// Offset of the checksum of UDP, and of TCP, behind an IP header without options.
fn checksum_at(frame: &Frame, transport_offset: usize) -> usize {
    frame.transport() + transport_offset
}

/// As a machine leaves it to its hardware: only the sum of the pseudo-header is there (RFC 768).
fn unfinished(frame: &Frame, protocol: u8, offset: usize) -> Frame {
    let transport = frame.transport();
    let is_v4 = frame.0[ETHERNET] >> 4 == 4;
    let addresses = if is_v4 { ETHERNET + 12..ETHERNET + 20 } else { ETHERNET + 8..ETHERNET + 40 };
    let words = frame.0[addresses].chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum = words.sum::<u32>() + u32::from(protocol) + (frame.0.len() - transport) as u32;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [high, low] = (sum as u16).to_be_bytes();
    let at = checksum_at(frame, offset);
    frame.clone().with_byte(at, high).with_byte(at + 1, low)
}

#[test]
fn a_datagram_for_a_port_of_this_host_loses_its_outer_header_of_either_family() {
    for (outer, inner) in families() {
        let mut datapath = xdp_host(outer);
        let (tunnel, _) = inbound(outer, inner);
        for frame in [outbound(inner).reversed().udp(100), outbound(inner).reversed().udp(0)] {
            for tunnel in [tunnel, Vxlan { has_checksum: true, ..tunnel }] {
                let packet = tunnel.wrap(&frame);
                let output = datapath.expect(Hook::FromUplinkXdp, &packet, DECAPSULATED);
                check(Hook::FromUplinkXdp, DECAPSULATED, (&packet, &output), &output, &frame, "the frame is wrong");
            }
        }
    }
}

#[test]
fn congestion_on_the_way_is_told_to_the_port() {
    for (outer, inner) in families() {
        let (mut tunnel, _) = inbound(outer, inner);
        tunnel.outer.traffic_class = 0b11;
        let frame = |traffic_class| Ends { traffic_class, ..outbound(inner).reversed() }.udp(20);
        let output = xdp_host(outer).expect(Hook::FromUplinkXdp, &tunnel.wrap(&frame(0xba)), DECAPSULATED);
        assert_eq!(output, frame(0xbb));
        // Whom it means nothing to is not sent it; that drop is the TC lane's to count.
        xdp_host(outer).expect_left(Hook::FromUplinkXdp, &tunnel.wrap(&frame(0xb8)));
    }
}

#[test]
fn what_the_kernel_should_see_whole_or_judge_is_left_to_it() {
    for (outer, inner) in families() {
        let mut datapath = xdp_host(outer);
        let (tunnel, frame) = inbound(outer, inner);
        let back = outbound(inner).reversed();
        let mut strangers = tunnel;
        strangers.outer.source = if outer.local_vtep.is_ipv4() { address("10.10.10.99") } else { address("fd10::99") };
        let others = [
            tunnel.wrap(&back.tcp(100)),
            tunnel.wrap(&Ends { destination_mac: BROADCAST, ..back }.udp(10)),
            tunnel.wrap(&Ends { destination_mac: NOBODY, ..back }.udp(10)),
            tunnel.wrap(&unfinished(&frame, 17, 6)),
            tunnel.wrap(&frame.fragment(1, 0, 8)),
            tunnel.wrap(&back.ip(132, &[0; 40])),
            Vxlan { vni: VNI + 1, ..tunnel }.wrap(&frame),
            strangers.wrap(&frame),
            frame.clone(),
            tunnel.wrap(&frame).tagged(100),
        ];
        for packet in others {
            datapath.expect_left(Hook::FromUplinkXdp, &packet);
        }
        datapath.expect(Hook::FromUplinkXdp, &tunnel.wrap(&frame), DECAPSULATED);
    }
}

#[test]
fn what_comes_for_a_tap_that_xdp_may_not_send_by_is_left_to_the_tc_lane() {
    let (tunnel, frame) = inbound(v4(), v4());
    host(v4()).expect_left(Hook::FromUplinkXdp, &tunnel.wrap(&frame));
}

#[test]
fn a_network_that_learns_is_left_to_the_tc_lane() {
    let mut datapath = xdp_host(v4());
    let learning = Network { index: INDEX, vni: VNI, flags: Network::LEARNS };
    datapath.put(names::NETWORKS, NetworkKey::vni(VNI), learning);
    let (tunnel, frame) = inbound(v4(), v4());
    datapath.expect_left(Hook::FromUplinkXdp, &tunnel.wrap(&frame));
}

#[test]
fn a_packet_for_another_host_gets_an_outer_header_of_either_family_as_in_the_tc_lane() {
    for (outer, inner) in families() {
        let mut datapath = xdp_host(outer);
        for frame in [outbound(inner).udp(100), outbound(inner).tcp(1000), outbound(inner).icmp(8, 0, [0; 4], &[1; 20])]
        {
            let output = datapath.expect(Hook::FromPortXdp, &frame, ENCAPSULATED);
            let udp = ETHERNET + if outer.local_vtep.is_ipv4() { 20 } else { 40 };
            let source_port = u16::from_be_bytes([output.0[udp], output.0[udp + 1]]);
            assert!((32_768..61_000).contains(&source_port), "{source_port}");
            let mut expected = Vxlan { source_port, ..tunnel(outer) }.wrap(&frame);
            if outer.local_vtep.is_ipv4() {
                // The identification is random; the checksum covers it.
                expected.0[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&output.0[ETHERNET + 4..ETHERNET + 6]);
                expected = expected.with_ipv4_checksum();
            }
            check(Hook::FromPortXdp, ENCAPSULATED, (&frame, &output), &output, &expected, "the frame is wrong");
        }
    }
}

#[test]
fn flows_spread_over_source_ports_and_each_keeps_its_own() {
    for inner in [v4(), v6()] {
        let mut datapath = xdp_host(v4());
        let mut source_port = |port, length| {
            let frame = outbound(inner).udp_between(port, 53, &vec![0; length]);
            let output = datapath.expect(Hook::FromPortXdp, &frame, ENCAPSULATED);
            u16::from_be_bytes([output.0[ETHERNET + 20], output.0[ETHERNET + 21]])
        };
        assert_eq!(source_port(1000, 10), source_port(1000, 900));
        let ports: std::collections::BTreeSet<u16> = (1000..1032).map(|port| source_port(port, 10)).collect();
        assert!(ports.len() > 24, "32 flows use only {} source ports", ports.len());
    }
}

#[test]
fn a_packet_for_a_port_of_the_same_host_is_handed_to_it() {
    let frame = Ends { destination_mac: NEIGHBOUR, ..outbound(v4()) }.udp(10);
    let output = xdp_host(v4()).expect(Hook::FromPortXdp, &frame, DELIVERED);
    assert_eq!(output, frame);
    host(v4()).expect_left(Hook::FromPortXdp, &frame);
    let to_itself = Ends { destination_mac: HERE, ..outbound(v4()) }.udp(10);
    xdp_host(v4()).expect_left(Hook::FromPortXdp, &to_itself);
}

#[test]
fn unfinished_checksums_are_recognised_and_no_checksum_is_finished() {
    for inner in [v4(), v6()] {
        let mut datapath = xdp_host(v4());
        for frame in [outbound(inner).udp(100), outbound(inner).udp(33), outbound(inner).udp(0)] {
            datapath.expect_left(Hook::FromPortXdp, &unfinished(&frame, 17, 6));
        }
        for frame in [outbound(inner).tcp(1000), outbound(inner).tcp(0)] {
            datapath.expect_left(Hook::FromPortXdp, &unfinished(&frame, 6, 16));
        }
    }
    let frame = outbound(v4()).udp(10);
    let at = checksum_at(&frame, 6);
    xdp_host(v4()).expect(Hook::FromPortXdp, &frame.with_byte(at, 0).with_byte(at + 1, 0), ENCAPSULATED);
}

#[test]
fn what_needs_an_answer_or_a_policy_or_does_not_fit_is_left_to_the_tc_lane() {
    let mut datapath = xdp_host(v4());
    limit(&mut datapath, MTU - 50);
    let fits = |length| outbound(v4()).udp(length);
    datapath.expect(Hook::FromPortXdp, &fits((MTU - 50 - 28) as usize), ENCAPSULATED);
    let ends = outbound(v4());
    let others = [
        fits((MTU - 50 - 27) as usize),
        Ends { destination_mac: BROADCAST, ..ends }.udp(10),
        Ends { destination_mac: NOBODY, ..ends }.udp(10),
        ends.udp(10).tagged(5),
        ends.udp(64).fragment(1, 0, 8),
        ends.ip(132, &[0; 40]),
    ];
    for frame in &others {
        datapath.expect_left(Hook::FromPortXdp, frame);
    }
    let port = Port { network: INDEX, vni: VNI, mac: HERE, flags: 0, policy: 0, revision: 0, mtu: 0 };
    for flag in [Port::QOS, Port::TRUNK, Port::SUBPORT] {
        datapath.put(names::PORTS, IFINDEX, Port { flags: flag, ..port });
        datapath.expect_left(Hook::FromPortXdp, &ends.udp(10));
    }
    datapath.put(names::PORTS, IFINDEX, port);
    unresolve(&mut datapath, v4());
    datapath.expect_left(Hook::FromPortXdp, &ends.udp(10));
}

#[test]
fn a_port_with_port_security_sends_by_xdp_only_what_it_may() {
    let mut datapath = xdp_host(v4());
    let flags = Port::SECURED;
    datapath.put(
        names::PORTS,
        IFINDEX,
        Port { network: INDEX, vni: VNI, mac: HERE, flags, policy: 0, revision: 0, mtu: 0 },
    );
    let spoofed = Ends { source_mac: NOBODY, ..outbound(v4()) }.udp(10);
    datapath.expect(Hook::FromPortXdp, &spoofed, Verdict::Drop(DropReason::SpoofedMac));
    datapath.expect(Hook::FromPortXdp, &outbound(v4()).udp(10), Verdict::Drop(DropReason::SpoofedIp));
    // What it would not carry it does not judge.
    datapath.expect_left(Hook::FromPortXdp, &Ends { destination_mac: BROADCAST, ..outbound(v4()) }.udp(10));
}
