//! ICMP and ICMPv6 errors: they belong to the flow of the packet that they quote.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::{
    maps,
    maps::Table,
    parse::{ICMP, ICMPV6},
    security::{
        Case,
        conntrack::{Sides, is_admitted_here},
        kind::Kind,
        packet::{FRAGMENT_OFFSET, Packet, mapped},
    },
    skb::Skb,
};

/// Length of an ICMP header; the quote follows.
const ICMP_LEN: usize = 8;

/// Whether an error is about a flow that this port has admitted.
#[inline(never)]
pub fn is_known(case: &Case) -> bool {
    let at = usize::from(case.packet.transport) + ICMP_LEN;
    let Some(scratch) = maps::scratch() else {
        return false;
    };
    // SAFETY: nobody else holds these parts of it.
    let (quoted, key) = unsafe { (&mut (*scratch).quoted, &mut (*scratch).quoted_key) };
    *quoted = Packet::EMPTY;
    let is_whole = if case.packet.is_v6 { quote_v6(case.skb, at, quoted) } else { quote_v4(case.skb, at, quoted) };
    // An error goes to whoever has sent the packet that it is about.
    if is_whole.is_none() || quoted.source != case.packet.destination {
        return false;
    }
    quoted.write_flow_key(case.port.network, key);
    let Some(flow) = maps::flow(Table::Main, key).or_else(|| maps::flow(Table::New, key)) else {
        return false;
    };
    // SAFETY: see `maps::flow`.
    let flow = unsafe { &mut *flow };
    // The port that receives the error is the one that has sent the quoted packet.
    let sides = Sides::of(flow, quoted, case.direction.opposite());
    flow.expires > case.now && is_admitted_here(case, flow, quoted, &sides)
}

#[inline(never)]
fn quote_v4(skb: Skb, at: usize, quoted: &mut Packet) -> Option<()> {
    let ip: [u32; 5] = skb.load(at)?;
    let [version_and_len, ..] = ip[0].to_ne_bytes();
    let header_len = usize::from(version_and_len & 0xf) * 4;
    let is_later_fragment = u32::from_be(ip[1]) & FRAGMENT_OFFSET != 0;
    if version_and_len >> 4 != 4 || header_len < Ipv4Hdr::LEN || is_later_fragment {
        return None;
    }
    let [_, protocol, ..] = ip[2].to_ne_bytes();
    (quoted.source, quoted.destination) = (mapped(ip[3]), mapped(ip[4]));
    quoted.protocol = protocol;
    take_quoted_transport(skb, at + header_len, quoted)
}

/// Quotes with extension headers are not followed: rules may admit such an error, flows do not.
#[inline(never)]
fn quote_v6(skb: Skb, at: usize, quoted: &mut Packet) -> Option<()> {
    let [start, len_and_next, addresses @ ..]: [u32; 10] = skb.load(at)?;
    if u32::from_be(start) >> 28 != 6 {
        return None;
    }
    let [_, _, next, _] = len_and_next.to_ne_bytes();
    let [source @ .., _, _, _, _] = addresses;
    let [_, _, _, _, destination @ ..] = addresses;
    (quoted.source, quoted.destination) = (source, destination);
    quoted.protocol = next;
    quoted.is_v6 = true;
    take_quoted_transport(skb, at + Ipv6Hdr::LEN, quoted)
}

#[inline(always)]
fn take_quoted_transport(skb: Skb, at: usize, quoted: &mut Packet) -> Option<()> {
    quoted.take_transport(skb.load(at)?);
    let is_icmp = matches!(quoted.protocol, ICMP | ICMPV6);
    let is_echo = matches!(quoted.kind, Kind::EchoRequest | Kind::EchoReply);
    (!is_icmp || is_echo).then_some(())
}
