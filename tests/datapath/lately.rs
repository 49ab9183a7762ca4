//! What comes right after a packet whose way was looked up, and goes another one.

use overlane_abi::{Address, DropReason, FdbEntry, FdbKey, Hook, Network, NetworkKey, Outcome, Port, Vtep, names};
use overlane_tests::packet::{Ends, Vxlan};

use crate::{
    harness::{Datapath, IFINDEX, Verdict},
    network::{HERE, INDEX, MTU, OTHER_IFINDEX, THERE, VNI, address, families, host, inbound, outbound, v4},
};

const DECAPSULATED: Verdict = Verdict::Redirect(Outcome::Decapsulated);
const ENCAPSULATED: Verdict = Verdict::Redirect(Outcome::Encapsulated);

/// As [`HERE`], but for the first byte: both are kept in one place.
const NEARLY_HERE: [u8; 6] = [0xf8, 0x16, 0x3e, 0, 0, 1];
const NEARLY_THERE: [u8; 6] = [0xf8, 0x16, 0x3e, 0, 0, 3];

#[test]
fn a_packet_that_arrives_for_another_machine_or_network_or_from_elsewhere_is_not_taken_for_the_last_one() {
    for (outer, inner) in families() {
        let mut datapath = host(outer);
        let (tunnel, frame) = inbound(outer, inner);
        let mut after = |tunnel: Vxlan, ends: Ends, expected| {
            for _ in 0..3 {
                let _ = datapath.expect(Hook::FromUplink, &inbound(outer, inner).0.wrap(&frame), DECAPSULATED);
            }
            let _ = datapath.expect(Hook::FromUplink, &tunnel.wrap(&ends.udp(20)), expected);
        };
        let ends = outbound(inner).reversed();
        after(tunnel, Ends { destination_mac: NEARLY_HERE, ..ends }, Verdict::Pass(Outcome::UnknownDestination));
        after(Vxlan { vni: VNI + 1, ..tunnel }, ends, Verdict::Pass(Outcome::UnknownNetwork));
        let elsewhere = address(if outer.local_vtep.is_ipv4() { "10.10.10.13" } else { "fd10::13" });
        let stranger = Vxlan { outer: Ends { source: elsewhere, ..tunnel.outer }, ..tunnel };
        after(stranger, ends, Verdict::Drop(DropReason::UnknownVtep));
    }
}

#[test]
fn a_packet_that_leaves_for_another_machine_or_network_does_not_follow_the_last_one() {
    for (outer, inner) in families() {
        let mut datapath = host(outer);
        let frame = outbound(inner).udp(20);
        let before = |datapath: &mut Datapath| {
            for _ in 0..3 {
                let _ = datapath.expect(Hook::FromPort, &frame, ENCAPSULATED);
            }
        };
        before(&mut datapath);
        let other = Ends { destination_mac: NEARLY_THERE, ..outbound(inner) }.udp(20);
        datapath.expect_pass(Hook::FromPort, &other, Outcome::UnknownDestination);
        before(&mut datapath);
        let port = Port { network: INDEX + 1, vni: VNI + 1, mac: HERE, flags: 0, policy: 0, revision: 0, mtu: MTU };
        datapath.put(names::PORTS, IFINDEX, port);
        datapath.expect_pass(Hook::FromPort, &frame, Outcome::UnknownDestination);
    }
}

#[test]
fn what_the_tables_say_now_holds_from_the_next_tick_on() {
    let (outer, inner) = (v4(), v4());
    let mut datapath = host(outer);
    let frame = outbound(inner).udp(20);
    let _ = datapath.expect(Hook::FromPort, &frame, ENCAPSULATED);
    datapath.put(names::FDB, FdbKey::new(INDEX, THERE), FdbEntry::local(OTHER_IFINDEX));
    let _ = datapath.expect(Hook::FromPort, &frame, Verdict::Redirect(Outcome::Delivered));
    datapath.put(names::FDB, FdbKey::new(INDEX, THERE), FdbEntry::remote(outer.remote_vtep.into()));
    let _ = datapath.expect(Hook::FromPort, &frame, ENCAPSULATED);
    datapath.remove::<_, Vtep>(names::VTEPS, Address::from(outer.remote_vtep));
    datapath.expect_pass(Hook::FromPort, &frame, Outcome::UnresolvedVtep);
    datapath.remove::<_, FdbEntry>(names::FDB, FdbKey::new(INDEX, THERE));
    datapath.expect_pass(Hook::FromPort, &frame, Outcome::UnknownDestination);

    let mut datapath = host(outer);
    let (tunnel, frame) = inbound(outer, inner);
    let packet = tunnel.wrap(&frame);
    let _ = datapath.expect(Hook::FromUplink, &packet, DECAPSULATED);
    datapath.remove::<_, Vtep>(names::VTEPS, Address::from(outer.remote_vtep));
    let _ = datapath.expect(Hook::FromUplink, &packet, Verdict::Drop(DropReason::UnknownVtep));
    datapath.remove::<_, Network>(names::NETWORKS, NetworkKey::vni(VNI));
    datapath.expect_pass(Hook::FromUplink, &packet, Outcome::UnknownNetwork);
}
