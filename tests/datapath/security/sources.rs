//! Which addresses a port may send from.

use std::net::IpAddr;

use overlane_abi::{DropReason, Hook, Outcome, Port, Source, SourceKey, names};
use overlane_tests::packet::{BROADCAST, Ends, Frame, arp};

use crate::{
    harness::{Datapath, IFINDEX, Load, Verdict},
    network::{HERE, NEIGHBOUR, address, v4, v6},
    security::world::{World, asks, both, source, talk},
};

const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// From the guest's MAC address and any other address, or from another MAC address.
fn from(source: &str) -> Ends {
    let source = address(source);
    let family = if source.is_ipv4() { v4() } else { v6() };
    Ends { source, ..talk(family) }
}

fn allow(world: &mut World, mac: [u8; 6], source: &str) {
    let address: IpAddr = address(source);
    let family = if address.is_ipv4() { SourceKey::V4 } else { SourceKey::V6 };
    let key = SourceKey { ifindex: IFINDEX, mac, family, address: address.into() };
    world.datapath.put(names::SOURCES, key, Source { flags: 0 });
}

fn allow_prefix(world: &mut World, mac: [u8; 6], source: &str, length: u32) {
    let address: IpAddr = address(source);
    let family = if address.is_ipv4() { SourceKey::V4 } else { SourceKey::V6 };
    let key = SourceKey { ifindex: IFINDEX, mac, family, address: address.into() };
    world.datapath.put_prefix(names::SOURCE_PREFIXES, SourceKey::prefix_len(family, length), key, Source { flags: 0 });
}

fn allow_mac(world: &mut World, mac: [u8; 6]) {
    let address = overlane_abi::Address::UNSPECIFIED;
    let key = SourceKey { ifindex: IFINDEX, mac, family: SourceKey::MAC, address };
    world.datapath.put(names::SOURCES, key, Source { flags: 0 });
}

fn lldp(ends: &Ends) -> Frame {
    ends.udp(10).with_byte(12, 0x88).with_byte(13, 0xcc)
}

#[test]
fn a_port_sends_from_its_own_addresses_only() {
    let mut world = World::open();
    for family in both() {
        world.sends(&talk(family).udp(10));
    }
    for stranger in ["10.0.0.2", "10.0.0.0", "0.0.0.0", "255.255.255.255", "fd00::2", "::", "fe80::1"] {
        world.may_not_send(&from(stranger).udp(10), DropReason::SpoofedIp);
        world.may_not_send(&from(stranger).segment(1, 2, 2), DropReason::SpoofedIp);
    }
}

#[test]
fn every_frame_must_come_from_an_allowed_mac_address() {
    let mut world = World::open();
    for family in both() {
        let ends = Ends { source_mac: NEIGHBOUR, ..talk(family) };
        world.may_not_send(&ends.udp(10), DropReason::SpoofedMac);
        world.may_not_send(&lldp(&ends), DropReason::SpoofedMac);
    }
    world.may_not_send(&arp(&Ends { source_mac: NEIGHBOUR, ..talk(v4()) }, REQUEST, HERE), DropReason::SpoofedMac);
    world.sends(&lldp(&talk(v4())));
}

#[test]
fn an_allowed_address_pair_is_a_pair() {
    let mut world = World::open();
    allow(&mut world, HERE, "10.0.0.100");
    allow(&mut world, NEIGHBOUR, "10.0.0.101");
    allow_mac(&mut world, NEIGHBOUR);
    world.sends(&from("10.0.0.100").udp(10));
    world.may_not_send(&from("10.0.0.101").udp(10), DropReason::SpoofedIp);
    let other_mac = |source| Ends { source_mac: NEIGHBOUR, ..from(source) };
    world.sends(&other_mac("10.0.0.101").udp(10));
    // Also when its flow is known already.
    world.sends(&other_mac("10.0.0.101").udp(10));
    world.may_not_send(&other_mac("10.0.0.100").udp(10), DropReason::SpoofedIp);
    world.may_not_send(&other_mac("10.0.0.1").udp(10), DropReason::SpoofedIp);
    world.sends(&lldp(&other_mac("10.0.0.1")));
}

#[test]
fn an_allowed_address_may_be_a_prefix_of_either_family() {
    let mut world = World::open();
    allow_prefix(&mut world, HERE, "192.168.0.0", 16);
    allow_prefix(&mut world, HERE, "fd77::", 64);
    for source in ["192.168.0.0", "192.168.255.255", "fd77::", "fd77::ffff:ffff:ffff:ffff"] {
        world.sends(&from(source).udp(10));
    }
    for source in ["192.169.0.0", "192.167.255.255", "fd77:0:0:1::", "::ffff:192.168.0.1"] {
        world.may_not_send(&from(source).udp(10), DropReason::SpoofedIp);
    }
}

#[test]
fn any_address_of_one_family_is_not_any_of_the_other() {
    let mut world = World::open();
    allow_prefix(&mut world, HERE, "::", 0);
    world.sends(&from("2001:db8::1").udp(10));
    world.may_not_send(&from("10.9.9.9").udp(10), DropReason::SpoofedIp);
    let mut world = World::open();
    allow_prefix(&mut world, HERE, "0.0.0.0", 0);
    world.sends(&from("10.9.9.9").udp(10));
    world.may_not_send(&from("2001:db8::1").udp(10), DropReason::SpoofedIp);
}

#[test]
fn a_flow_that_others_have_begun_does_not_make_an_address_the_ports_own() {
    let mut world = World::open();
    let stranger = from("10.0.0.77");
    world.receives(&stranger.reversed().udp_between(1000, 2000, b""));
    for _ in 0..2 {
        world.may_not_send(&stranger.udp_between(2000, 1000, b""), DropReason::SpoofedIp);
    }
}

#[test]
fn a_port_without_groups_is_only_kept_from_spoofing() {
    let mut world = World::new();
    world.update(|port| port.flags = Port::SECURED);
    for family in both() {
        world.sends(&asks(family));
        world.receives(&talk(family).reversed().segment(1, 2, 2));
    }
    world.may_not_send(&from("10.0.0.2").udp(10), DropReason::SpoofedIp);
    assert_eq!((world.counts(v4()), world.counts(v6())), ((0, 0), (0, 0)));
}

#[test]
fn a_port_without_port_security_is_open() {
    let mut world = World::new();
    world.update(|port| port.flags = 0);
    world.sends(&Ends { source_mac: NEIGHBOUR, ..from("10.0.0.2") }.udp(10));
    world.receives(&from("10.0.0.2").reversed().udp(10).tagged(9));
}

#[test]
fn arp_says_only_what_is_true() {
    let mut world = World::new();
    let ask = |source: &str| Ends { destination_mac: BROADCAST, ..from(source) };
    for operation in [REQUEST, REPLY] {
        world.sends(&arp(&ask("10.0.0.1"), operation, [0; 6]));
        world.may_not_send(&arp(&ask("10.0.0.3"), operation, [0; 6]), DropReason::SpoofedArp);
        // The address is the port's own, and the MAC address inside is not.
        const SENDER_MAC: usize = 22;
        let lie = arp(&ask("10.0.0.1"), operation, [0; 6]).with_byte(SENDER_MAC + 5, 9);
        world.may_not_send(&lie, DropReason::SpoofedArp);
    }
    allow_prefix(&mut world, HERE, "10.7.0.0", 16);
    world.sends(&arp(&ask("10.7.1.2"), REPLY, [0; 6]));
    // The pair may be announced from the port's own MAC address.
    allow(&mut world, NEIGHBOUR, "10.0.0.101");
    allow_mac(&mut world, NEIGHBOUR);
    let mut virtual_router = arp(&Ends { source_mac: NEIGHBOUR, ..ask("10.0.0.101") }, REPLY, [0; 6]);
    virtual_router.0[6..12].copy_from_slice(&HERE);
    world.sends(&virtual_router);
}

#[test]
fn a_machine_may_probe_for_its_own_address_by_arp_only() {
    let mut world = World::new();
    let probe = |target: &str| {
        let ends = Ends { destination_mac: BROADCAST, destination: address(target), ..from("0.0.0.0") };
        arp(&ends, REQUEST, [0; 6])
    };
    world.sends(&probe("10.0.0.1"));
    world.may_not_send(&probe("10.0.0.3"), DropReason::SpoofedArp);
}

#[test]
fn arp_that_is_not_for_ipv4_or_too_short_is_dropped() {
    let mut world = World::new();
    let request = arp(&Ends { destination_mac: BROADCAST, ..talk(v4()) }, REQUEST, [0; 6]);
    for (offset, value) in [(15, 6), (16, 0x86), (18, 8), (19, 16)] {
        world.may_not_send(&request.clone().with_byte(offset, value), DropReason::SpoofedArp);
    }
    world.may_not_send(&request.truncated(41), DropReason::SpoofedArp);
}

#[test]
fn vlan_tags_neither_leave_nor_reach_a_port_with_port_security() {
    let mut world = World::open();
    for family in both() {
        world.may_not_send(&asks(family).tagged(5), DropReason::VlanTagged);
        world.may_not_receive(&talk(family).reversed().udp(10).tagged(5), DropReason::VlanTagged);
    }
}

#[test]
fn frames_between_bridges_do_not_leave_a_port() {
    let mut world = World::open();
    for last in [0x00, 0x01, 0x0e] {
        let ends = Ends { destination_mac: [0x01, 0x80, 0xc2, 0, 0, last], ..talk(v4()) };
        world.may_not_send(&lldp(&ends), DropReason::LinkControl);
    }
}

#[test]
fn other_protocols_than_ip_and_arp_pass() {
    let mut world = World::new();
    world.sends(&lldp(&talk(v4())));
    world.receives(&lldp(&talk(v4()).reversed()));
    world.receives(&arp(&talk(v4()).reversed(), REPLY, HERE));
}

#[test]
fn taps_that_nobody_has_announced_are_closed_if_the_host_says_so() {
    let mut closed = Datapath::load_with(v4().local_vtep, Load { closed: true, ..Load::default() });
    for hook in [Hook::FromPort, Hook::ToPort] {
        for family in both() {
            let _ = closed.expect(hook, &asks(family), Verdict::Drop(DropReason::ClosedPort));
        }
    }
}

#[test]
fn an_admitted_packet_is_forwarded_as_ever() {
    let mut datapath = crate::network::host(v4());
    let key = source(v4(), HERE);
    datapath.put(names::SOURCES, key, Source { flags: 0 });
    let flags = Port::SECURED | Port::RESPONDER;
    let network = (crate::network::INDEX, crate::network::VNI);
    let port = Port { network: network.0, vni: network.1, mac: HERE, flags, mtu: 0, policy: 0, revision: 0 };
    datapath.put(names::PORTS, IFINDEX, port);
    let _ = datapath.expect(Hook::FromPort, &asks(v4()), Verdict::Redirect(Outcome::Encapsulated));
    let question = arp(&Ends { destination_mac: BROADCAST, ..talk(v4()) }, REQUEST, [0; 6]);
    let _ = datapath.expect(Hook::FromPort, &question, Verdict::Redirect(Outcome::Answered));
    let spoofed = from("10.0.0.2").udp(10);
    let _ = datapath.expect(Hook::FromPort, &spoofed, Verdict::Drop(DropReason::SpoofedIp));
}
