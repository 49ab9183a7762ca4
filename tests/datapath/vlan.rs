//! VLAN tags: `from_uplink` takes them off what is for us, `to_vlan` puts them on.

use overlane_abi::{FdbEntry, FdbKey, Hook, Outcome, Vlan, VlanId, names};
use overlane_tests::packet::{BROADCAST, Ends, Frame, arp};

use crate::{
    harness::{Datapath, IFINDEX, Verdict, check},
    network::{HERE, INDEX, NOBODY, OTHER_IFINDEX, host_at_its_segment, inbound, outbound, v4, v6},
};

const VID: u16 = 100;
/// The index of the network that is the VLAN; the host has another one with the same MAC addresses.
const VLAN_INDEX: u32 = INDEX + 1;
const PROVIDER_TAG: [u8; 2] = [0x88, 0xa8];
const DELIVERED: Verdict = Verdict::Redirect(Outcome::Decapsulated);

/// Where the interface that test runs happen on is the NIC of a VLAN, of a flat network, and of tunnels, all at once.
fn nic_of_a_vlan(device: u32) -> Datapath {
    let mut datapath = host_at_its_segment(v4());
    datapath.put(names::VLANS, VlanId::new(IFINDEX, VID), Vlan { network: VLAN_INDEX, device });
    datapath.put(names::FDB, FdbKey::new(VLAN_INDEX, HERE), FdbEntry::local(OTHER_IFINDEX));
    datapath
}

/// The NIC, where the kernel's 8021q module takes frames to the VLAN's device, and where nobody else does.
fn nics() -> [Datapath; 2] {
    [0, OTHER_IFINDEX].map(nic_of_a_vlan)
}

fn expect(datapath: &mut Datapath, frame: &Frame, verdict: Verdict, expected: &Frame) {
    let output = datapath.expect(Hook::FromUplink, frame, verdict);
    check(Hook::FromUplink, verdict, (frame, &output), &output, expected, "the frame is wrong");
}

fn to(destination_mac: [u8; 6]) -> Frame {
    Ends { destination_mac, ..outbound(v4()).reversed() }.udp(10)
}

#[test]
fn a_tagged_frame_for_a_port_of_this_host_loses_its_tag() {
    for mut datapath in nics() {
        for inner in [v4(), v6()] {
            for frame in [outbound(inner).reversed().udp(100), outbound(inner).reversed().tcp(1000)] {
                expect(&mut datapath, &frame.clone().tagged(VID), DELIVERED, &frame);
            }
        }
    }
}

#[test]
fn the_priority_of_a_tag_becomes_the_packets() {
    for mut datapath in nics() {
        let frame = to(HERE);
        // With the drop eligible bit, which a packet has nothing for.
        expect(&mut datapath, &frame.clone().tagged(0xb000 | VID), DELIVERED, &frame);
        for priority in 0..8 {
            let frame = frame.clone().tagged(priority << 13 | VID);
            assert_eq!(datapath.priority(Hook::FromUplink, &frame), u32::from(priority));
        }
    }
}

#[test]
fn a_tag_with_another_vid_or_only_a_priority_or_of_a_provider_is_left_to_the_kernel() {
    for mut datapath in nics() {
        let priority_only = to(HERE).tagged(0xe000);
        let of_a_provider = to(HERE).with_tag(PROVIDER_TAG, VID);
        let second = to(HERE).tagged(VID).with_tag(PROVIDER_TAG, VID);
        for frame in [to(HERE).tagged(VID + 1), priority_only, of_a_provider, second] {
            datapath.expect_pass(Hook::FromUplink, &frame, Outcome::NotOurs);
        }
    }
}

/// What the kernel lane carries: frames for others, for everybody, ARP, and with a second tag.
fn for_the_kernel_lane() -> [(Frame, Outcome); 5] {
    [
        (arp(&outbound(v4()).reversed(), 1, [0; 6]), Outcome::OtherEthertype),
        (to(BROADCAST), Outcome::Flood),
        (to(NOBODY), Outcome::UnknownDestination),
        (to(HERE).tagged(7), Outcome::OtherEthertype),
        (to(HERE).with_tag(PROVIDER_TAG, 7), Outcome::OtherEthertype),
    ]
}

#[test]
fn what_is_not_for_a_port_of_this_host_is_left_to_the_8021q_module_with_its_tag() {
    let mut datapath = nic_of_a_vlan(0);
    for (frame, outcome) in for_the_kernel_lane() {
        datapath.expect_pass(Hook::FromUplink, &frame.tagged(VID), outcome);
    }
}

#[test]
fn without_8021q_what_is_not_for_a_port_of_this_host_enters_the_vlans_device() {
    let mut datapath = nic_of_a_vlan(OTHER_IFINDEX);
    for (frame, outcome) in for_the_kernel_lane().into_iter().take(3) {
        expect(&mut datapath, &frame.clone().tagged(VID), Verdict::Redirect(outcome), &frame);
    }
    // The second tag becomes the first one, which the kernel keeps beside the packet.
    let frame = to(HERE);
    expect(&mut datapath, &frame.clone().tagged(7).tagged(VID), Verdict::Redirect(Outcome::OtherEthertype), &frame);
}

#[test]
fn a_tagged_packet_is_none_of_the_tunnels_and_the_flat_network_of_the_same_nic() {
    let mut datapath = nic_of_a_vlan(0);
    let (tunnel, frame) = inbound(v4(), v4());
    datapath.expect_pass(Hook::FromUplink, &tunnel.wrap(&frame).tagged(VID), Outcome::UnknownDestination);
    datapath.expect_pass(Hook::FromUplink, &tunnel.wrap(&frame).tagged(VID + 1), Outcome::NotOurs);
}

#[test]
fn what_a_vlan_device_sends_leaves_by_its_nic_for_tagging() {
    let mut datapath = Datapath::load(v4().local_vtep);
    datapath.put(names::VLAN_DEVICES, IFINDEX, VlanId::new(OTHER_IFINDEX, VID));
    for frame in [to(NOBODY), to(BROADCAST), outbound(v6()).tcp(1000)] {
        // The tag is kept beside the packet, where test runs do not show it; on the wire the lab looks at it.
        let verdict = Verdict::Redirect(Outcome::Encapsulated);
        let output = datapath.expect(Hook::ToVlan, &frame, verdict);
        check(Hook::ToVlan, verdict, (&frame, &output), &output, &frame, "the frame was changed");
    }
}

#[test]
fn every_byte_of_a_tagged_frame_can_be_garbage_without_surprise() {
    for mut datapath in nics() {
        let frame = to(HERE).tagged(VID);
        for offset in 0..frame.0.len() {
            datapath.survives(Hook::FromUplink, &frame.clone().with_byte(offset, frame.0[offset] ^ 0xff));
        }
    }
}
