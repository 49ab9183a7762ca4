//! `from_uplink` and `from_overlay`: from other hosts.

use overlane_abi::{ABI_VERSION, DropReason, Hook, Meta, Outcome};
use overlane_tests::packet::{BROADCAST, ETHERNET, Ends, Frame, Vxlan};

use crate::{
    harness::{Datapath, Verdict, check},
    network::{
        NOBODY, THERE, VNI, address, families, host, host_at_its_segment, inbound, outbound, shortest, tunnel_back, v4,
        v6,
    },
};

const DECAPSULATED: Verdict = Verdict::Redirect(Outcome::Decapsulated);

fn expect_decapsulated(datapath: &mut Datapath, frame: &Frame, inner: &Frame) {
    let output = datapath.expect(Hook::FromUplink, frame, DECAPSULATED);
    check(Hook::FromUplink, DECAPSULATED, (frame, &output), &output, inner, "the frame is wrong");
}

fn expect_pass(datapath: &mut Datapath, frame: &Frame, outcome: Outcome) {
    datapath.expect_pass(Hook::FromUplink, frame, outcome);
}

#[test]
fn a_packet_for_a_port_of_this_host_loses_its_outer_header_of_either_family() {
    for (outer, inner) in families() {
        let mut datapath = host(outer);
        let (tunnel, _) = inbound(outer, inner);
        let back = outbound(inner).reversed();
        for frame in [back.udp(100), back.tcp(1000), back.tcp(0)] {
            expect_decapsulated(&mut datapath, &tunnel.wrap(&frame), &frame);
            let with_checksum = Vxlan { has_checksum: true, ..tunnel };
            expect_decapsulated(&mut datapath, &with_checksum.wrap(&frame), &frame);
        }
    }
}

#[test]
fn the_ecn_fields_are_combined_as_rfc_6040_says() {
    const NOT_ECT: u8 = 0b00;
    const ECT_1: u8 = 0b01;
    const ECT_0: u8 = 0b10;
    const CE: u8 = 0b11;
    // RFC 6040, figure 4: outer, inner, result.
    let table = [
        (NOT_ECT, NOT_ECT, NOT_ECT),
        (NOT_ECT, ECT_0, ECT_0),
        (NOT_ECT, ECT_1, ECT_1),
        (NOT_ECT, CE, CE),
        (ECT_0, NOT_ECT, NOT_ECT),
        (ECT_0, ECT_0, ECT_0),
        (ECT_0, ECT_1, ECT_1),
        (ECT_0, CE, CE),
        (ECT_1, NOT_ECT, NOT_ECT),
        (ECT_1, ECT_0, ECT_1),
        (ECT_1, ECT_1, ECT_1),
        (ECT_1, CE, CE),
        (CE, ECT_0, CE),
        (CE, ECT_1, CE),
        (CE, CE, CE),
    ];
    const DSCP: u8 = 46 << 2;
    for (outer, inner) in families() {
        let mut datapath = host(outer);
        for (outer_ecn, inner_ecn, result) in table {
            let (mut tunnel, _) = inbound(outer, inner);
            tunnel.outer.traffic_class = outer_ecn;
            let frame = |ecn| Ends { traffic_class: DSCP | ecn, ..outbound(inner).reversed() }.udp(20);
            expect_decapsulated(&mut datapath, &tunnel.wrap(&frame(inner_ecn)), &frame(result));
        }
    }
}

#[test]
fn congestion_that_the_sender_would_not_understand_drops_the_packet() {
    for (outer, inner) in families() {
        let (mut tunnel, frame) = inbound(outer, inner);
        tunnel.outer.traffic_class = 0b11;
        let verdict = Verdict::Drop(DropReason::CongestedNotEct);
        let _ = host(outer).expect(Hook::FromUplink, &tunnel.wrap(&frame), verdict);
    }
}

#[test]
fn vxlan_from_an_address_that_is_no_known_host_is_dropped() {
    for (outer, stranger) in [(v4(), address("10.10.10.99")), (v6(), address("fd10::99"))] {
        let (mut tunnel, frame) = inbound(outer, v4());
        tunnel.outer.source = stranger;
        let verdict = Verdict::Drop(DropReason::UnknownVtep);
        let _ = host(outer).expect(Hook::FromUplink, &tunnel.wrap(&frame), verdict);
    }
}

#[test]
fn while_not_every_host_fits_into_the_map_vxlan_from_an_unknown_one_is_left_to_the_kernel() {
    let mut datapath = host(v4());
    datapath.set_meta(Meta { abi_version: ABI_VERSION, flags: Meta::VTEPS_INCOMPLETE });
    let (mut tunnel, frame) = inbound(v4(), v4());
    tunnel.outer.source = address("10.10.10.99");
    datapath.expect_pass(Hook::FromUplink, &tunnel.wrap(&frame), Outcome::UnresolvedVtep);
}

#[test]
fn vxlan_that_ends_before_its_inner_ethernet_header_does_is_dropped() {
    for outer in [v4(), v6()] {
        let mut datapath = host(outer);
        let (tunnel, frame) = inbound(outer, v4());
        let verdict = Verdict::Drop(DropReason::TruncatedOverlay);
        for inner_bytes in [0, 6, ETHERNET - 1] {
            let truncated = tunnel.wrap(&frame.clone().truncated(inner_bytes));
            let _ = datapath.expect(Hook::FromUplink, &truncated, verdict);
        }
        // Not even a whole VXLAN header.
        let _ = datapath.expect(Hook::FromUplink, &tunnel.wrap(&frame).truncated(tunnel.header_len() - 4), verdict);
    }
}

#[test]
fn vxlan_for_another_address_is_none_of_our_business() {
    for (outer, other) in [(v4(), address("10.10.10.77")), (v6(), address("fd10::77"))] {
        let (mut tunnel, frame) = inbound(outer, v4());
        tunnel.outer.destination = other;
        expect_pass(&mut host(outer), &tunnel.wrap(&frame), Outcome::NotOurs);
        expect_pass(&mut host(outer), &tunnel.wrap(&frame.truncated(3)), Outcome::NotOurs);
    }
}

#[test]
fn a_network_that_this_host_does_not_have_is_left_to_the_kernel() {
    let (mut tunnel, frame) = inbound(v4(), v4());
    tunnel.vni = VNI + 1;
    // Whoever sends it: another program may have a vxlan device of its own.
    tunnel.outer.source = address("10.10.10.99");
    expect_pass(&mut host(v4()), &tunnel.wrap(&frame), Outcome::UnknownNetwork);
}

#[test]
fn whatever_is_not_plain_vxlan_is_left_to_the_kernel() {
    let mut datapath = host(v4());
    let (tunnel, frame) = inbound(v4(), v4());
    let packet = tunnel.wrap(&frame);
    let other_port = Vxlan { port: 8472, ..tunnel }.wrap(&frame);
    let fragment = packet.clone().with_byte(ETHERNET + 6, 0x20).with_ipv4_checksum();
    let last_fragment = packet.clone().with_byte(ETHERNET + 7, 0x10).with_ipv4_checksum();
    let with_options = packet.clone().with_byte(ETHERNET, 0x46);
    let tcp = packet.clone().with_byte(ETHERNET + 9, 6);
    let without_vni = packet.clone().with_byte(tunnel.header_len() - 8, 0);
    let with_extension = packet.clone().with_byte(tunnel.header_len() - 7, 1);
    let tagged = packet.tagged(100);
    let not_ip = outbound(v4()).udp(10).with_byte(12, 0x88).with_byte(13, 0xcc);
    for frame in [other_port, fragment, last_fragment, with_options, tcp, without_vni, with_extension, tagged, not_ip] {
        expect_pass(&mut datapath, &frame, Outcome::NotOurs);
    }
}

#[test]
fn an_ipv6_packet_with_extension_headers_is_left_to_the_kernel() {
    let (tunnel, frame) = inbound(v6(), v4());
    const HOP_BY_HOP: u8 = 0;
    let packet = tunnel.wrap(&frame).with_byte(ETHERNET + 6, HOP_BY_HOP);
    expect_pass(&mut host(v6()), &packet, Outcome::NotOurs);
}

#[test]
fn flooded_packets_and_unknown_destinations_are_left_to_the_kernel() {
    let mut datapath = host(v4());
    let tunnel = tunnel_back(v4());
    let to = |destination_mac| tunnel.wrap(&Ends { destination_mac, ..outbound(v4()).reversed() }.udp(10));
    expect_pass(&mut datapath, &to(BROADCAST), Outcome::Flood);
    expect_pass(&mut datapath, &to(NOBODY), Outcome::UnknownDestination);
    // A MAC address that is behind another host: never back into the underlay.
    expect_pass(&mut datapath, &to(THERE), Outcome::UnknownDestination);
}

#[test]
fn inner_frames_that_are_not_ip_are_left_to_the_kernel() {
    let (tunnel, frame) = inbound(v4(), v4());
    let arp = frame.clone().with_byte(13, 0x06);
    expect_pass(&mut host(v4()), &tunnel.wrap(&arp), Outcome::OtherEthertype);
    expect_pass(&mut host(v4()), &tunnel.wrap(&frame.clone().tagged(7)), Outcome::OtherEthertype);
    // An inner header that is cut off.
    expect_pass(&mut host(v4()), &tunnel.wrap(&frame.truncated(ETHERNET + 19)), Outcome::OtherEthertype);
}

#[test]
fn a_superpacket_is_left_to_the_kernel_which_keeps_it_whole() {
    let (tunnel, _) = inbound(v4(), v4());
    let frame = tunnel.wrap(&outbound(v4()).reversed().tcp(2800));
    let output = host(v4()).expect_superpacket(Hook::FromUplink, &frame, 1400, Verdict::Pass(Outcome::Gso));
    assert_eq!(output, frame);
}

#[test]
fn every_byte_of_an_outer_header_can_be_garbage_without_surprise() {
    for (outer, inner) in families() {
        let mut datapath = host(outer);
        let (tunnel, frame) = inbound(outer, inner);
        let packet = tunnel.wrap(&frame);
        for offset in 0..tunnel.header_len() + ETHERNET + 1 {
            datapath.survives(Hook::FromUplink, &packet.clone().with_byte(offset, packet.0[offset] ^ 0xff));
        }
        for length in shortest(outer)..packet.0.len() {
            datapath.survives(Hook::FromUplink, &packet.clone().truncated(length));
        }
    }
}

#[test]
fn what_the_kernel_has_decapsulated_goes_straight_to_the_port() {
    for inner in [v4(), v6()] {
        let mut datapath = host_at_its_segment(v4());
        let frame = outbound(inner).reversed().tcp(100);
        let output = datapath.expect(Hook::FromOverlay, &frame, Verdict::Redirect(Outcome::Delivered));
        assert_eq!(output, frame);
    }
}

#[test]
fn what_the_kernel_has_decapsulated_for_others_goes_to_the_bridge() {
    let mut datapath = host_at_its_segment(v4());
    let to = |destination_mac| Ends { destination_mac, ..outbound(v4()).reversed() }.udp(10);
    datapath.expect_pass(Hook::FromOverlay, &to(BROADCAST), Outcome::Flood);
    datapath.expect_pass(Hook::FromOverlay, &to(NOBODY), Outcome::UnknownDestination);
    datapath.expect_pass(Hook::FromOverlay, &to(THERE), Outcome::UnknownDestination);
}

#[test]
fn frames_of_a_flat_network_go_from_its_nic_straight_to_the_port() {
    for inner in [v4(), v6()] {
        let mut datapath = host_at_its_segment(v4());
        let frame = outbound(inner).reversed().udp(100);
        let output = datapath.expect(Hook::FromUplink, &frame, Verdict::Redirect(Outcome::Delivered));
        assert_eq!(output, frame);
    }
}

#[test]
fn what_else_arrives_on_the_nic_of_a_flat_network_goes_to_its_bridge() {
    let mut datapath = host_at_its_segment(v4());
    let to = |destination_mac| Ends { destination_mac, ..outbound(v4()).reversed() }.udp(10);
    expect_pass(&mut datapath, &to(BROADCAST), Outcome::Flood);
    expect_pass(&mut datapath, &to(NOBODY), Outcome::UnknownDestination);
    expect_pass(&mut datapath, &to(THERE).tagged(5), Outcome::NotOurs);
}

#[test]
fn a_nic_can_carry_a_flat_network_and_tunnels() {
    let mut datapath = host_at_its_segment(v4());
    let (tunnel, frame) = inbound(v4(), v6());
    expect_decapsulated(&mut datapath, &tunnel.wrap(&frame), &frame);
    let mut for_another_host = tunnel;
    for_another_host.outer.destination = address("10.10.10.77");
    expect_pass(&mut datapath, &for_another_host.wrap(&frame), Outcome::UnknownDestination);
}
