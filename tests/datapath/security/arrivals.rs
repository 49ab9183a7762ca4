//! What every port may send and receive whatever its rules say, and what no port may.

use overlane_abi::{Direction, DropReason, Port, RuleKey, Source, SourceKey, names};
use overlane_tests::packet::{BROADCAST, Ends, Frame};

use crate::{
    harness::IFINDEX,
    network::{HERE, address, v4, v6},
    security::world::{ANYBODY, World, talk},
};

fn between(source: &str, destination: &str) -> Ends {
    let (source, destination) = (address(source), address(destination));
    let family = if source.is_ipv4() { v4() } else { v6() };
    Ends { source, destination, ..talk(family) }
}

/// A packet that arrives.
fn arriving(source: &str, destination: &str) -> Ends {
    let ends = between(source, destination).reversed();
    Ends { source: address(source), destination: address(destination), ..ends }
}

fn icmpv6(ends: &Ends, kind: u8) -> Frame {
    ends.icmp(kind, 0, [0; 4], &[0; 16])
}

const SERVER: u16 = 67;
const CLIENT: u16 = 68;
const CLIENT_V6: u16 = 546;
const SERVER_V6: u16 = 547;

const REDIRECT: u8 = 137;
const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
const LISTENER_QUERY: u8 = 130;
const LISTENER_REPORT: u8 = 131;
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const LISTENER_REPORT_V2: u8 = 143;

#[test]
fn a_machine_without_an_address_asks_for_one_by_dhcp() {
    let mut world = World::new();
    let discover = Ends { destination_mac: BROADCAST, ..between("0.0.0.0", "255.255.255.255") };
    world.sends(&discover.udp_between(CLIENT, SERVER, b"discover"));
    // And does nothing else without one.
    world.may_not_send(&discover.udp_between(CLIENT, 53, b""), DropReason::SpoofedIp);
    world.may_not_send(&between("0.0.0.0", "10.0.0.3").udp_between(CLIENT, SERVER, b""), DropReason::SpoofedIp);
}

#[test]
fn a_lease_is_renewed_by_unicast_and_only_from_the_ports_address() {
    let mut world = World::new();
    world.sends(&talk(v4()).udp_between(CLIENT, SERVER, b"renew"));
    world.may_not_send(&between("10.0.0.2", "10.0.0.3").udp_between(CLIENT, SERVER, b""), DropReason::SpoofedIp);
    world.sends(&talk(v6()).udp_between(CLIENT_V6, SERVER_V6, b"renew"));
}

#[test]
fn dhcp_answers_reach_fixed_ips_and_everybody_at_once() {
    let mut world = World::new();
    for destination in ["10.0.0.1", "255.255.255.255"] {
        world.receives(&arriving("10.0.0.10", destination).udp_between(SERVER, CLIENT, b"offer"));
    }
    for destination in ["fd00::1", "fe80::1234"] {
        world.receives(&arriving("fe80::1", destination).udp_between(SERVER_V6, CLIENT_V6, b"reply"));
    }
    // An address that the port may use, but that is not its own, and one that is not its at all.
    let key = SourceKey { ifindex: IFINDEX, mac: HERE, family: SourceKey::V4, address: address("10.0.0.9").into() };
    world.datapath.put(names::SOURCES, key, Source { flags: 0 });
    for destination in ["10.0.0.9", "10.0.0.8"] {
        let offer = arriving("10.0.0.10", destination).udp_between(SERVER, CLIENT, b"");
        world.may_not_receive(&offer, DropReason::NoRuleIngress);
    }
    let reply = arriving("fe80::1", "fd00::8").udp_between(SERVER_V6, CLIENT_V6, b"");
    world.may_not_receive(&reply, DropReason::NoRuleIngress);
    // Not the port that DHCP answers come from.
    let other = arriving("10.0.0.10", "10.0.0.1").udp_between(SERVER + 100, CLIENT, b"");
    world.may_not_receive(&other, DropReason::NoRuleIngress);
}

#[test]
fn no_port_is_a_dhcp_server_whatever_its_rules_say() {
    let mut world = World::open();
    world.may_not_send(&talk(v4()).udp_between(SERVER, CLIENT, b"offer"), DropReason::RogueDhcpServer);
    world.may_not_send(&talk(v6()).udp_between(SERVER_V6, CLIENT_V6, b"reply"), DropReason::RogueDhcpServer);
    // Nor as an answer to a flow that others have begun.
    world.receives(&talk(v4()).reversed().udp_between(CLIENT, SERVER, b"discover"));
    world.may_not_send(&talk(v4()).udp_between(SERVER, CLIENT, b"offer"), DropReason::RogueDhcpServer);
}

#[test]
fn no_port_advertises_routers() {
    let mut world = World::open();
    world.may_not_send(&icmpv6(&talk(v6()), ROUTER_ADVERTISEMENT), DropReason::RogueRa);
    // Also not behind other headers (RFC 7113).
    let hidden = icmpv6(&talk(v6()), ROUTER_ADVERTISEMENT).with_extension(60, &[0; 7]);
    world.may_not_send(&hidden, DropReason::RogueRa);
}

#[test]
fn router_advertisements_reach_ports_that_have_an_ipv6_address() {
    let mut world = World::new();
    let advertisement = icmpv6(&arriving("fe80::1", "ff02::1"), ROUTER_ADVERTISEMENT);
    world.may_not_receive(&advertisement, DropReason::NoRuleIngress);
    world.update(|port| port.flags |= Port::ROUTER_ADVERTISEMENTS);
    world.receives(&advertisement);
}

#[test]
fn multicast_listeners_and_neighbours_are_heard_by_every_port() {
    let mut world = World::new();
    for kind in [LISTENER_QUERY, SOLICITATION, ADVERTISEMENT] {
        world.receives(&icmpv6(&arriving("fe80::1", "ff02::1"), kind));
    }
    for kind in [ECHO_REQUEST, LISTENER_REPORT, ROUTER_SOLICITATION, REDIRECT] {
        world.may_not_receive(&icmpv6(&arriving("fe80::1", "ff02::1"), kind), DropReason::NoRuleIngress);
    }
}

#[test]
fn a_machine_without_an_address_joins_groups() {
    let mut world = World::new();
    for kind in [LISTENER_REPORT, LISTENER_REPORT_V2] {
        world.sends(&icmpv6(&between("::", "ff02::16"), kind));
        world.may_not_send(&icmpv6(&between("::", "fd00::3"), kind), DropReason::SpoofedIp);
    }
    for kind in [ECHO_REQUEST, ROUTER_SOLICITATION] {
        world.may_not_send(&icmpv6(&between("::", "ff02::2"), kind), DropReason::SpoofedIp);
    }
}

#[test]
fn a_port_sends_icmpv6_whatever_its_rules_say_and_hears_the_answers() {
    let mut world = World::new();
    for kind in [LISTENER_REPORT, REDIRECT, 1, 4, 200] {
        world.sends(&icmpv6(&talk(v6()), kind));
    }
    let rest = [0, 7, 0, 1];
    world.may_not_receive(&talk(v6()).reversed().icmp(ECHO_REPLY, 0, rest, b""), DropReason::InvalidState);
    world.sends(&talk(v6()).icmp(ECHO_REQUEST, 0, rest, b""));
    world.receives(&talk(v6()).reversed().icmp(ECHO_REPLY, 0, rest, b""));
    // Not so over IPv4.
    world.may_not_send(&talk(v4()).icmp(8, 0, rest, b""), DropReason::NoRuleEgress);
}

#[test]
fn what_is_always_admitted_leaves_no_flows() {
    let mut world = World::new();
    world.allow(Direction::Egress, RuleKey::ANY_PROTOCOL, (0, 0), &[ANYBODY]);
    world.sends(&talk(v4()).udp_between(CLIENT, SERVER, b"renew"));
    world.sends(&icmpv6(&talk(v6()), LISTENER_REPORT));
    assert_eq!((world.counts(v4()), world.counts(v6())), ((0, 0), (0, 0)));
}
