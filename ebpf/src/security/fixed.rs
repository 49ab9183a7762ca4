//! What every port may and may not do, whatever its groups say: DHCP, neighbour discovery, router advertisements.

use overlane_abi::{Address, DropReason, Port, Source, SourceKey};

use crate::{
    buffer::Buffer,
    maps,
    maps::Lookup,
    parse::{ICMPV6, UDP, mapped},
    security::{Admission, Case, kind::Kind, packet::Packet},
};

const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
const DHCPV6_CLIENT: u16 = 546;
const DHCPV6_SERVER: u16 = 547;

const LISTENER_QUERY: u8 = 130;
const LISTENER_REPORT: u8 = 131;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
const LISTENER_REPORT_V2: u8 = 143;

/// First halves of `ff02::/16`, all link-local groups, and of `fe80::/64`, all link-local addresses.
const LINK_LOCAL_GROUPS: u32 = 0xff02;
const LINK_LOCAL: [u32; 2] = [0xfe80_0000_u32.to_be(), 0];

#[inline(always)]
fn is_udp(packet: &Packet, source_port: u16, port: u16) -> bool {
    packet.kind == Kind::Datagram && packet.protocol == UDP && packet.ports == [source_port, port]
}

/// The type of an ICMPv6 message; 0, which is none, for everything else.
#[inline(always)]
fn icmpv6_type(packet: &Packet) -> u8 {
    let is_message = packet.is_v6 && packet.protocol == ICMPV6 && packet.kind != Kind::LaterFragment;
    if is_message { (packet.service >> 8) as u8 } else { 0 }
}

/// A machine that has no address yet: it asks for one by DHCP, or whether somebody else has it, or joins groups.
#[inline(always)]
pub fn is_sent_without_address(packet: &Packet) -> bool {
    if packet.is_v6 {
        packet.source == [0; 4]
            && u32::from_be(packet.destination[0]) >> 16 == LINK_LOCAL_GROUPS
            && matches!(icmpv6_type(packet), LISTENER_REPORT | NEIGHBOR_SOLICITATION | LISTENER_REPORT_V2)
    } else {
        packet.source == mapped(0) && packet.destination == mapped(u32::MAX) && is_udp(packet, DHCP_CLIENT, DHCP_SERVER)
    }
}

/// Only network services answer DHCP requests and advertise routers.
#[inline(always)]
pub fn refuse_servers(packet: &Packet) -> Admission {
    let is_dhcp_server = if packet.is_v6 {
        is_udp(packet, DHCPV6_SERVER, DHCPV6_CLIENT)
    } else {
        is_udp(packet, DHCP_SERVER, DHCP_CLIENT)
    };
    if is_dhcp_server {
        Err(DropReason::RogueDhcpServer)
    } else if icmpv6_type(packet) == ROUTER_ADVERTISEMENT {
        Err(DropReason::RogueRa)
    } else {
        Ok(())
    }
}

/// What a port may send whatever its rules say, and without a flow to remember. Echo requests need one: their answers must come
/// back.
#[inline(always)]
pub fn may_leave(packet: &Packet) -> bool {
    if packet.is_v6 {
        (icmpv6_type(packet) != 0 && packet.kind != Kind::EchoRequest) || is_udp(packet, DHCPV6_CLIENT, DHCPV6_SERVER)
    } else {
        is_udp(packet, DHCP_CLIENT, DHCP_SERVER)
    }
}

/// What may reach a port whatever its rules say.
#[inline(never)]
pub fn may_arrive(case: &Case<impl Buffer>) -> bool {
    let packet = case.packet;
    if packet.is_v6 {
        match icmpv6_type(packet) {
            LISTENER_QUERY | NEIGHBOR_SOLICITATION | NEIGHBOR_ADVERTISEMENT => true,
            ROUTER_ADVERTISEMENT => case.port.flags & Port::ROUTER_ADVERTISEMENTS != 0,
            _ => is_udp(packet, DHCPV6_SERVER, DHCPV6_CLIENT) && (is_link_local(packet) || is_for_fixed_ip(case)),
        }
    } else {
        is_udp(packet, DHCP_SERVER, DHCP_CLIENT) && (packet.destination == mapped(u32::MAX) || is_for_fixed_ip(case))
    }
}

/// Whether the packet goes to a link-local address.
#[inline(always)]
fn is_link_local(packet: &Packet) -> bool {
    let [first, second, ..] = packet.destination;
    [first, second] == LINK_LOCAL
}

/// Whether the packet goes to a fixed IP of the port.
#[inline(always)]
fn is_for_fixed_ip(case: &Case<impl Buffer>) -> bool {
    let family = if case.packet.is_v6 { SourceKey::V6 } else { SourceKey::V4 };
    let address: Address = case.packet.destination();
    let key = SourceKey { ifindex: case.ifindex, mac: case.port.mac, family, address };
    maps::source(&Lookup::of(key)).is_some_and(|source| source.flags & Source::FIXED != 0)
}
