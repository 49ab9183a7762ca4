//! `from_port`, towards other hosts.

use overlane_abi::{Hook, Outcome};
use overlane_core::config::{Dscp, VxlanConfig};
use overlane_tests::packet::{BROADCAST, ETHERNET, Ends, Frame};

use crate::{
    harness::{Datapath, Verdict, check},
    network::{
        NOBODY, families, host, host_with, leave_superpackets, outbound, tunnel, unresolve, v4, v6, vxlan_config,
    },
};

const ENCAPSULATED: Verdict = Verdict::Redirect(Outcome::Encapsulated);

/// The kernel's default range of source ports.
const SOURCE_PORTS: std::ops::Range<u16> = 32_768..61_000;

/// Sends a frame and returns what comes out and the UDP source port in it.
fn encapsulate(datapath: &mut Datapath, frame: &Frame) -> (Frame, u16) {
    let output = datapath.expect(Hook::FromPort, frame, ENCAPSULATED);
    let udp = if output.0[ETHERNET] >> 4 == 4 { ETHERNET + 20 } else { ETHERNET + 40 };
    let port = u16::from_be_bytes([output.0[udp], output.0[udp + 1]]);
    (output, port)
}

#[test]
fn a_packet_for_another_host_gets_an_outer_header_of_either_family() {
    for (outer, inner) in families() {
        let mut datapath = host(outer);
        for frame in [outbound(inner).udp(100), outbound(inner).tcp(1000), outbound(inner).tcp(0)] {
            let (output, source_port) = encapsulate(&mut datapath, &frame);
            assert!(SOURCE_PORTS.contains(&source_port), "{source_port}");
            let mut tunnel = tunnel(outer);
            tunnel.source_port = source_port;
            let mut expected = tunnel.wrap(&frame);
            if outer.local_vtep.is_ipv4() {
                // The identification is random; the checksum covers it.
                expected.0[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&output.0[ETHERNET + 4..ETHERNET + 6]);
                expected = expected.with_ipv4_checksum();
            }
            check(Hook::FromPort, ENCAPSULATED, (&frame, &output), &output, &expected, "the frame is wrong");
        }
    }
}

#[test]
fn packets_of_one_flow_share_a_source_port_and_flows_spread_over_many() {
    let mut datapath = host(v4());
    let flow = outbound(v4());
    let (_, first) = encapsulate(&mut datapath, &flow.udp(10));
    assert_eq!(encapsulate(&mut datapath, &flow.udp(900)).1, first);
    let ports: std::collections::BTreeSet<u16> = (0..32_u8)
        .map(|host| {
            let flow = Ends { source: std::net::Ipv4Addr::new(10, 0, 1, host).into(), ..flow };
            encapsulate(&mut datapath, &flow.udp(10)).1
        })
        .collect();
    assert!(ports.len() > 16, "32 flows use only {} source ports", ports.len());
}

#[test]
fn the_outer_header_copies_the_ecn_field_and_keeps_its_own_dscp() {
    let ecn_and_dscp = 46 << 2 | 0b01;
    for (outer, inner) in families() {
        let mut datapath = host(outer);
        let frame = Ends { traffic_class: ecn_and_dscp, ..outbound(inner) }.udp(10);
        let (output, _) = encapsulate(&mut datapath, &frame);
        assert_eq!(traffic_class(&output), 0b01);
    }
}

#[test]
fn the_outer_header_copies_the_dscp_as_well_when_configured() {
    for (outer, inner) in families() {
        let config = VxlanConfig { dscp: Dscp::Inherit, ..vxlan_config(outer) };
        let mut datapath = host_with(outer, &config);
        let (output, _) = encapsulate(&mut datapath, &Ends { traffic_class: 0xba, ..outbound(inner) }.udp(10));
        assert_eq!(traffic_class(&output), 0xba);
        assert_eq!(output.0.len(), tunnel(outer).header_len() + outbound(inner).udp(10).0.len());
    }
}

#[test]
fn ttl_and_dscp_are_the_configured_ones() {
    for outer in [v4(), v6()] {
        let config = VxlanConfig { ttl: Some(9), dscp: Dscp::Fixed(46), ..vxlan_config(outer) };
        let (output, _) = encapsulate(&mut host_with(outer, &config), &outbound(v4()).udp(10));
        let ttl = if outer.local_vtep.is_ipv4() { 8 } else { 7 };
        assert_eq!((traffic_class(&output), output.0[ETHERNET + ttl]), (46 << 2, 9));
        if outer.local_vtep.is_ipv4() {
            assert_eq!(output, output.clone().with_ipv4_checksum());
        }
    }
}

#[test]
fn a_packet_for_a_host_whose_next_hop_is_unknown_is_left_to_the_kernel() {
    let mut datapath = host(v4());
    unresolve(&mut datapath, v4());
    datapath.expect_pass(Hook::FromPort, &outbound(v4()).udp(10), Outcome::UnresolvedVtep);
}

#[test]
fn a_superpacket_for_an_uplink_that_leaves_them_to_the_kernel_is_left_to_it_and_a_single_packet_is_not() {
    for (outer, inner) in families() {
        let mut datapath = host(outer);
        let superpacket = outbound(inner).tcp(2600);
        // A superpacket that is made for a test has no type, and the kernel's helper refuses it: it got as far as that.
        let tried = Verdict::Pass(Outcome::HelperRefused);
        datapath.expect_superpacket(Hook::FromPort, &superpacket, 1300, tried);
        leave_superpackets(&mut datapath, outer);
        let left = Verdict::Pass(Outcome::Gso);
        let output = datapath.expect_superpacket(Hook::FromPort, &superpacket, 1300, left);
        check(Hook::FromPort, left, (&superpacket, &output), &output, &superpacket, "the frame was changed");
        encapsulate(&mut datapath, &outbound(inner).tcp(1300));
    }
}

#[test]
fn broadcast_and_multicast_are_left_to_the_kernel() {
    let mut datapath = host(v4());
    for destination_mac in [BROADCAST, [0x01, 0, 0x5e, 0, 0, 0xfb], [0x33, 0x33, 0, 0, 0, 0xfb]] {
        let frame = Ends { destination_mac, ..outbound(v4()) }.udp(10);
        datapath.expect_pass(Hook::FromPort, &frame, Outcome::Flood);
    }
}

#[test]
fn a_packet_for_an_unknown_mac_address_is_left_to_the_kernel() {
    let frame = Ends { destination_mac: NOBODY, ..outbound(v4()) }.udp(10);
    host(v4()).expect_pass(Hook::FromPort, &frame, Outcome::UnknownDestination);
}

#[test]
fn vlan_tags_and_other_ethertypes_are_left_to_the_kernel() {
    let mut datapath = host(v4());
    let frame = outbound(v4()).udp(10);
    datapath.expect_pass(Hook::FromPort, &frame.clone().tagged(5), Outcome::OtherEthertype);
    // LLDP.
    let lldp = frame.with_byte(12, 0x88).with_byte(13, 0xcc);
    datapath.expect_pass(Hook::FromPort, &lldp, Outcome::OtherEthertype);
}

#[test]
fn an_ip_header_that_does_not_hold_together_is_left_to_the_kernel() {
    let mut datapath = host(v4());
    for first_byte in [0x65, 0x44, 0x00] {
        let frame = outbound(v4()).udp(40).with_byte(ETHERNET, first_byte);
        datapath.expect_pass(Hook::FromPort, &frame, Outcome::OtherEthertype);
    }
    let frame = outbound(v6()).udp(0).with_byte(ETHERNET, 0x45);
    datapath.expect_pass(Hook::FromPort, &frame, Outcome::OtherEthertype);
}

#[test]
fn fragments_options_and_nested_tunnels_are_encapsulated_like_any_other_packet() {
    let mut datapath = host(v4());
    let frame = outbound(v4()).udp(40);
    encapsulate(&mut datapath, &frame.clone().with_byte(ETHERNET + 6, 0x20).with_ipv4_checksum());
    // The last eight bytes of "header" are options now.
    encapsulate(&mut datapath, &frame.clone().with_byte(ETHERNET, 0x47).with_ipv4_checksum());
    let nested = {
        let mut tunnel = tunnel(v4());
        (tunnel.outer, tunnel.source_port) = (outbound(v4()), 1234);
        tunnel.wrap(&frame)
    };
    encapsulate(&mut datapath, &nested);
}

fn traffic_class(frame: &Frame) -> u8 {
    let [first, second] = [frame.0[ETHERNET], frame.0[ETHERNET + 1]];
    if first >> 4 == 4 { second } else { first << 4 | second >> 4 }
}
