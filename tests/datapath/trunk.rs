//! Trunks: `from_port` takes tagged frames from a tap to the devices of subports, `to_port` brings what is for a subport to the tap.

use overlane_abi::{DropReason, FdbEntry, FdbKey, Hook, Outcome, Port, Vlan, VlanId, names};
use overlane_tests::packet::{BROADCAST, Ends, Frame, arp};

use crate::{
    harness::{Datapath, IFINDEX, Verdict, check},
    network::{HERE, INDEX, NEIGHBOUR, OTHER_IFINDEX, host, outbound, v4, v6},
};

const VID: u16 = 101;
const SUBPORT_INDEX: u32 = INDEX + 1;
const PROVIDER_TAG: [u8; 2] = [0x88, 0xa8];
const ENTERS: Verdict = Verdict::Redirect(Outcome::Decapsulated);

fn port(flags: u16, network: u32) -> Port {
    Port { network, vni: 0, mac: HERE, flags, policy: 0, revision: 0, mtu: 1500 }
}

/// Where the interface that test runs happen on is the tap of a trunk whose port has these flags, too.
fn trunk(device: u32, flags: u16) -> Datapath {
    let mut datapath = host(v4());
    datapath.put(names::PORTS, IFINDEX, port(Port::TRUNK | flags, INDEX));
    datapath.put(names::VLANS, VlanId::new(IFINDEX, VID), Vlan { network: 0, device });
    datapath
}

/// Where it is the device of a subport, with and without the kernel's 8021q module.
fn subport(has_8021q: bool, flags: u16) -> Datapath {
    let mut datapath = host(v4());
    datapath.put(names::PORTS, IFINDEX, port(Port::SUBPORT | flags, SUBPORT_INDEX));
    if !has_8021q {
        datapath.put(names::VLAN_DEVICES, IFINDEX, VlanId::new(OTHER_IFINDEX, VID));
    }
    datapath
}

fn of_every_kind() -> [Frame; 5] {
    let ends = outbound(v4());
    let to_all = Ends { destination_mac: BROADCAST, ..ends };
    [ends.udp(100), outbound(v6()).tcp(1000), to_all.udp(10), arp(&to_all, 1, [0; 6]), ends.udp(100).tagged(7)]
}

fn expect(datapath: &mut Datapath, hook: Hook, frame: &Frame, verdict: Verdict, expected: &Frame) {
    let output = datapath.expect(hook, frame, verdict);
    check(hook, verdict, (frame, &output), &output, expected, "the frame is wrong");
}

#[test]
fn a_frame_with_the_tag_of_a_subport_enters_its_device_without_the_tag_whatever_the_trunks_port_may_do() {
    for flags in [0, Port::SECURED, Port::SECURED | Port::FILTERED] {
        let mut datapath = trunk(OTHER_IFINDEX, flags);
        for frame in of_every_kind().into_iter().take(4) {
            expect(&mut datapath, Hook::FromPort, &frame.clone().tagged(VID), ENTERS, &frame);
            expect(&mut datapath, Hook::FromPort, &frame.clone().tagged(0xe000 | VID), ENTERS, &frame);
        }
        // The second tag becomes the first one, which the kernel keeps beside the packet.
        let frame = outbound(v4()).udp(100);
        expect(&mut datapath, Hook::FromPort, &frame.clone().tagged(7).tagged(VID), ENTERS, &frame);
    }
}

#[test]
fn a_frame_with_the_tag_of_a_subport_is_left_to_the_8021q_module_where_there_is_one() {
    for flags in [0, Port::SECURED, Port::SECURED | Port::FILTERED] {
        let mut datapath = trunk(0, flags);
        for frame in of_every_kind() {
            datapath.expect_pass(Hook::FromPort, &frame.tagged(VID), Outcome::OtherEthertype);
        }
    }
}

#[test]
fn a_trunk_works_before_its_own_port_is_known() {
    let mut datapath = trunk(OTHER_IFINDEX, 0);
    datapath.remove::<u32, Port>(names::PORTS, IFINDEX);
    let frame = outbound(v4()).udp(100);
    expect(&mut datapath, Hook::FromPort, &frame.clone().tagged(VID), ENTERS, &frame);
    datapath.expect_pass(Hook::FromPort, &frame, Outcome::UnknownPort);
}

#[test]
fn tags_of_no_subport_are_what_they_are_on_any_port() {
    let frame = outbound(v4()).udp(100);
    let foreign =
        || [frame.clone().tagged(VID + 1), frame.clone().tagged(0xe000), frame.clone().with_tag(PROVIDER_TAG, VID)];
    for frame in foreign() {
        let mut open = trunk(OTHER_IFINDEX, 0);
        open.expect_pass(Hook::FromPort, &frame, Outcome::OtherEthertype);
        open.expect_pass(Hook::ToPort, &frame, Outcome::Admitted);
        let mut secured = trunk(OTHER_IFINDEX, Port::SECURED | Port::FILTERED);
        for hook in [Hook::FromPort, Hook::ToPort] {
            secured.expect(hook, &frame, Verdict::Drop(DropReason::VlanTagged));
        }
    }
}

#[test]
fn the_trunks_own_frames_are_forwarded_as_those_of_any_port() {
    let mut datapath = trunk(OTHER_IFINDEX, 0);
    let frame = Ends { destination_mac: NEIGHBOUR, ..outbound(v4()) }.tcp(100);
    expect(&mut datapath, Hook::FromPort, &frame, Verdict::Redirect(Outcome::Delivered), &frame);
    datapath.expect_pass(Hook::ToPort, &outbound(v4()).reversed().udp(10), Outcome::Admitted);
}

#[test]
fn nobody_but_a_subports_device_sends_frames_with_its_tag_to_the_machine() {
    for flags in [0, Port::SECURED | Port::FILTERED] {
        for device in [0, OTHER_IFINDEX] {
            let mut datapath = trunk(device, flags);
            for frame in of_every_kind() {
                datapath.expect(Hook::ToPort, &frame.tagged(VID), Verdict::Drop(DropReason::VlanTagged));
            }
        }
    }
}

#[test]
fn what_a_subport_receives_leaves_for_the_tap_of_its_trunk_for_tagging() {
    let mut datapath = subport(false, 0);
    for frame in of_every_kind() {
        // The tag is kept beside the packet, where test runs do not show it; on the wire the lab looks at it.
        let verdict = Verdict::Redirect(Outcome::Admitted);
        let expected = if frame.tags().is_empty() { frame.clone() } else { continue };
        expect(&mut datapath, Hook::ToPort, &frame, verdict, &expected);
    }
}

#[test]
fn what_a_subport_receives_is_left_to_the_8021q_module_where_there_is_one() {
    let mut datapath = subport(true, 0);
    for frame in of_every_kind() {
        datapath.expect_pass(Hook::ToPort, &frame, Outcome::Admitted);
    }
}

#[test]
fn a_subport_that_admits_nothing_receives_nothing() {
    for has_8021q in [true, false] {
        let mut datapath = subport(has_8021q, Port::SECURED | Port::FILTERED);
        let frame = outbound(v4()).reversed().udp(10);
        datapath.expect(Hook::ToPort, &frame, Verdict::Drop(DropReason::NoRuleIngress));
    }
}

#[test]
fn what_a_subport_sends_is_switched_in_its_own_network() {
    let mut datapath = subport(false, 0);
    datapath.put(names::FDB, FdbKey::new(SUBPORT_INDEX, NEIGHBOUR), FdbEntry::local(OTHER_IFINDEX));
    let frame = Ends { destination_mac: NEIGHBOUR, ..outbound(v4()) }.udp(10);
    expect(&mut datapath, Hook::FromPort, &frame, Verdict::Redirect(Outcome::Delivered), &frame);
}

#[test]
fn every_byte_of_a_frame_of_a_trunk_can_be_garbage_without_surprise() {
    let frame = outbound(v4()).udp(60).tagged(VID);
    for mut datapath in [trunk(OTHER_IFINDEX, Port::SECURED), subport(false, Port::SECURED | Port::FILTERED)] {
        for hook in [Hook::FromPort, Hook::ToPort] {
            for offset in 0..frame.0.len() {
                datapath.survives(hook, &frame.clone().with_byte(offset, frame.0[offset] ^ 0xff));
            }
        }
    }
}
