//! ICMP and ICMPv6 errors: they belong to the flow of the packet that they quote.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use overlane_abi::Flow;

use crate::{
    buffer::Buffer,
    maps,
    maps::FlowKey,
    parse::{ICMP, ICMPV6, mapped},
    security::{
        Case,
        conntrack::{Followed, Sides, is_admitted_here},
        kind::Kind,
        packet::{FRAGMENT_OFFSET, Packet},
    },
};

/// Length of an ICMP header; the quote follows.
const ICMP_LEN: usize = 8;

/// Looks for the flow that an error is about.
#[inline(never)]
pub fn follow(case: &Case<impl Buffer>, flow: &mut Flow) -> Followed {
    let Some(scratch) = maps::scratch() else {
        return Followed::OutOfPlace;
    };
    // SAFETY: nobody else holds these parts of it.
    let (quoted, key) = unsafe { (&mut (*scratch).quoted, &mut (*scratch).quoted_key) };
    // An error goes to whoever has sent the packet that it is about.
    if read_quote(case, quoted, key).is_none() || quoted.source != case.packet.destination {
        return Followed::OutOfPlace;
    }
    let Some(table) = maps::find_flow(key, flow) else {
        return Followed::OutOfPlace;
    };
    // The port that receives the error is the one that has sent the quoted packet.
    let sides = Sides::of(flow, quoted, case.direction.opposite());
    if flow.expires <= case.now || !is_admitted_here(case, flow, quoted, &sides) {
        return Followed::OutOfPlace;
    }
    // The port may have signed anew.
    maps::put_flow(table, key, flow);
    Followed::Admitted
}

/// Describes the quoted packet, as far as its flow goes.
#[inline(never)]
fn read_quote(case: &Case<impl Buffer>, quoted: &mut Packet, key: &mut FlowKey) -> Option<()> {
    let at = usize::from(case.packet.transport) + ICMP_LEN;
    quoted.reset();
    if case.packet.is_v6 {
        quote_v6(case.buffer, at, quoted)?;
    } else {
        quote_v4(case.buffer, at, quoted)?;
    }
    quoted.write_flow_key(case.port.network, key);
    Some(())
}

#[inline(always)]
fn quote_v4(buffer: impl Buffer, at: usize, quoted: &mut Packet) -> Option<()> {
    let ip: [u32; 5] = buffer.load(at)?;
    let [version_and_len, ..] = ip[0].to_ne_bytes();
    let header_len = usize::from(version_and_len & 0xf) * 4;
    let is_later_fragment = u32::from_be(ip[1]) & FRAGMENT_OFFSET != 0;
    if version_and_len >> 4 != 4 || header_len < Ipv4Hdr::LEN || is_later_fragment {
        return None;
    }
    let [_, protocol, ..] = ip[2].to_ne_bytes();
    (quoted.source, quoted.destination) = (mapped(ip[3]), mapped(ip[4]));
    quoted.protocol = protocol;
    take_quoted_transport(buffer, at + header_len, quoted)
}

/// Quotes with extension headers are not followed: rules may admit such an error, flows do not.
#[inline(always)]
fn quote_v6(buffer: impl Buffer, at: usize, quoted: &mut Packet) -> Option<()> {
    let [start, len_and_next, a, b, c, d, e, f, g, h]: [u32; 10] = buffer.load(at)?;
    if u32::from_be(start) >> 28 != 6 {
        return None;
    }
    let [_, _, next, _] = len_and_next.to_ne_bytes();
    (quoted.source, quoted.destination) = ([a, b, c, d], [e, f, g, h]);
    quoted.protocol = next;
    quoted.is_v6 = true;
    take_quoted_transport(buffer, at + Ipv6Hdr::LEN, quoted)
}

#[inline(always)]
fn take_quoted_transport(buffer: impl Buffer, at: usize, quoted: &mut Packet) -> Option<()> {
    quoted.take_transport(buffer.load(at)?);
    let is_icmp = matches!(quoted.protocol, ICMP | ICMPV6);
    let is_echo = matches!(quoted.kind, Kind::EchoRequest | Kind::EchoReply);
    (!is_icmp || is_echo).then_some(())
}
