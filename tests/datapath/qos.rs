//! `from_port`, at a port with a QoS policy: what is beyond its limit is dropped, and the rest is marked.

use std::time::{Duration, Instant};

use overlane_abi::{DropReason, Hook, Outcome, Port, Qos, names};
use overlane_core::config::{Dscp, VxlanConfig};
use overlane_tests::{
    packet::{ETHERNET, Ends, Frame},
    wait::wait_until,
};

use crate::{
    harness::{Datapath, IFINDEX, Load, Verdict},
    network::{HERE, INDEX, NEIGHBOUR, VNI, families, host, host_with, outbound, tunnel, v4, v6, vxlan_config},
};

const DELIVERED: Verdict = Verdict::Redirect(Outcome::Delivered);
const DROPPED: Verdict = Verdict::Drop(DropReason::RateLimited);

/// So slow that a bucket does not fill while a test runs: a byte takes 8 ms.
const SLOW: u32 = 1;
/// A bucket of 1250 bytes.
const BURST: u32 = 10;

const MARK: u8 = 26;
const ECN: u8 = 0b01;

fn set(datapath: &mut Datapath, qos: Qos) {
    let port = Port { network: INDEX, vni: VNI, mac: HERE, flags: Port::QOS, policy: 0, revision: 0, mtu: 0 };
    datapath.put(names::PORTS, IFINDEX, port);
    datapath.put(names::QOS, IFINDEX, qos);
}

fn limited(rate_kbps: u32, burst_kbit: u32) -> Datapath {
    let mut datapath = host(v4());
    set(&mut datapath, Qos { flags: Qos::LIMITED, rate_kbps, burst_kbit, dscp: 0 });
    datapath
}

const MARKED: Qos = Qos { flags: Qos::MARKED, rate_kbps: 0, burst_kbit: 0, dscp: MARK as u32 };

/// To another port of the same host, which it reaches as it was sent.
fn to_neighbour() -> Ends {
    Ends { destination_mac: NEIGHBOUR, ..outbound(v4()) }
}

/// A frame of that many bytes.
fn frame(length: usize) -> Frame {
    to_neighbour().udp(length - to_neighbour().udp(0).0.len())
}

#[test]
fn what_does_not_fit_into_the_bucket_any_more_is_dropped_and_what_still_does_is_not() {
    let mut datapath = limited(SLOW, BURST);
    datapath.expect(Hook::FromPort, &frame(1000), DELIVERED);
    datapath.expect(Hook::FromPort, &frame(1000), DROPPED);
    datapath.expect(Hook::FromPort, &frame(200), DELIVERED);
    datapath.expect(Hook::FromPort, &frame(200), DROPPED);
}

#[test]
fn what_the_bridge_carries_is_limited_and_marked_as_well() {
    let mut datapath = Datapath::load_with(v4().local_vtep, Load { forwarding: false, ..Load::default() });
    let flags = Qos::LIMITED | Qos::MARKED;
    set(&mut datapath, Qos { flags, rate_kbps: SLOW, burst_kbit: BURST, dscp: MARK.into() });
    let output = datapath.expect(Hook::FromPort, &frame(1000), Verdict::Pass(Outcome::ForwardingOff));
    assert_eq!(output.0[ETHERNET + 1], MARK << 2);
    datapath.expect(Hook::FromPort, &frame(1000), DROPPED);
}

#[test]
fn a_packet_that_is_larger_than_the_bucket_passes_when_that_is_full() {
    let mut datapath = limited(SLOW, 1);
    datapath.expect(Hook::FromPort, &frame(1000), DELIVERED);
    datapath.expect(Hook::FromPort, &frame(60), DROPPED);
}

#[test]
fn a_bucket_fills_no_sooner_than_its_rate_says() {
    // 1000 bytes, in a tenth of a second.
    let mut datapath = limited(80, 8);
    let begun = Instant::now();
    datapath.expect(Hook::FromPort, &frame(1000), DELIVERED);
    wait_until("the bucket is full", || Ok(!datapath.drops(Hook::FromPort, &frame(1000)))).expect("it fills");
    assert!(begun.elapsed() >= Duration::from_millis(100), "after {:?}", begun.elapsed());
}

#[test]
fn a_port_that_always_sends_gets_its_rate() {
    const BYTES_PER_SECOND: f64 = 20_000.0;
    // A bucket of a second, so that nothing is lost while others have the processor.
    let mut datapath = limited(160, 160);
    let frame = frame(1000);
    while !datapath.drops(Hook::FromPort, &frame) {}
    let (begun, mut bytes) = (Instant::now(), 0.0);
    while begun.elapsed() < Duration::from_secs(1) {
        bytes += if datapath.drops(Hook::FromPort, &frame) { 0.0 } else { 1000.0 };
    }
    let expected = BYTES_PER_SECOND * begun.elapsed().as_secs_f64();
    // A frame more or less is not the bucket's fault.
    assert!((bytes - expected).abs() <= expected * 0.1 + 1000.0, "{bytes} bytes in {:?}", begun.elapsed());
}

#[test]
fn a_superpacket_is_counted_with_the_headers_of_its_segments() {
    // 1054 bytes; in ten segments nine more headers of 54 bytes go on the wire.
    let superpacket = to_neighbour().tcp(1000);
    for (segment_size, verdict) in [(100, DROPPED), (1000, DELIVERED)] {
        let mut datapath = limited(SLOW, 13);
        datapath.expect_superpacket(Hook::FromPort, &superpacket, segment_size, DELIVERED);
        datapath.expect(Hook::FromPort, &frame(200), verdict);
    }
}

#[test]
fn a_marked_port_sends_with_its_dscp_and_right_checksums_and_ecn_is_left_alone() {
    for inner in [v4(), v6()] {
        let mut datapath = host(v4());
        set(&mut datapath, MARKED);
        for dscp in [0, 10, MARK, 63] {
            let sent = Ends { destination_mac: NEIGHBOUR, traffic_class: dscp << 2 | ECN, ..outbound(inner) };
            let output = datapath.expect(Hook::FromPort, &sent.udp(100), DELIVERED);
            assert_eq!(output, Ends { traffic_class: MARK << 2 | ECN, ..sent }.udp(100));
        }
    }
}

#[test]
fn the_outer_header_copies_the_mark_when_configured() {
    for (outer, inner) in families() {
        let mut datapath = host_with(outer, &VxlanConfig { dscp: Dscp::Inherit, ..vxlan_config(outer) });
        set(&mut datapath, MARKED);
        let output =
            datapath.expect(Hook::FromPort, &outbound(inner).udp(10), Verdict::Redirect(Outcome::Encapsulated));
        let [first, second] = [output.0[ETHERNET], output.0[ETHERNET + 1]];
        assert_eq!(if first >> 4 == 4 { second } else { first << 4 | second >> 4 }, MARK << 2);
        let marked = Ends { traffic_class: MARK << 2, ..outbound(inner) }.udp(10);
        assert_eq!(output.0[tunnel(outer).header_len()..], marked.0);
    }
}

#[test]
fn what_is_not_ip_or_does_not_hold_together_is_not_marked() {
    let mut datapath = host(v4());
    set(&mut datapath, MARKED);
    let lldp = to_neighbour().udp(40).with_byte(12, 0x88).with_byte(13, 0xcc);
    let other_version = to_neighbour().udp(40).with_byte(ETHERNET, 0x65);
    for frame in [lldp, other_version] {
        assert_eq!(datapath.expect(Hook::FromPort, &frame, DELIVERED), frame);
    }
}
