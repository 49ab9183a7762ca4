//! How large a packet is, in the terms of whoever limits it.

use network_types::{eth::EthHdr, udp::UdpHdr};

use crate::{
    buffer::Buffer,
    parse::{Ethernet, InnerIp, TCP, UDP},
    skb::Skb,
};

/// Where a TCP header says how long it is.
const TCP_DATA_OFFSET: usize = 12;

/// A TCP header without options.
const TCP_LEN: usize = 20;

/// Bytes of the IP packet that a frame carries.
#[inline(always)]
pub fn of_packet(buffer: impl Buffer) -> usize {
    buffer.len() - EthHdr::LEN
}

/// Bytes of the IP packet that goes on the wire: of the largest segment, if the packet is a superpacket. `None` for
/// superpackets of other kinds than UDP and TCP, about which only the kernel knows.
#[inline(always)]
pub fn on_the_wire(skb: Skb, ip: &InnerIp) -> Option<usize> {
    match (skb.gso_size(), ip.protocol) {
        (0, _) => Some(of_packet(skb)),
        (gso_size, UDP) => Some(ip.header_len + UdpHdr::LEN + gso_size),
        (gso_size, TCP) => {
            let data_offset = skb.read_byte(EthHdr::LEN + ip.header_len + TCP_DATA_OFFSET)?;
            Some(ip.header_len + usize::from(data_offset >> 4) * 4 + gso_size)
        }
        _ => None,
    }
}

/// Bytes of all frames that go on the wire: a superpacket has its headers in front of each segment.
#[inline(always)]
pub fn of_all_frames(skb: Skb, frame: &Ethernet) -> usize {
    let gso_size = skb.gso_size();
    if gso_size == 0 {
        return skb.len();
    }
    let Some(ip) = InnerIp::at(skb, frame, EthHdr::LEN) else {
        return skb.len();
    };
    // Of other kinds of superpackets only the kernel knows; nearly all are TCP behind extension headers.
    let largest = on_the_wire(skb, &ip).unwrap_or(ip.header_len + TCP_LEN + gso_size);
    let headers = EthHdr::LEN + largest - gso_size;
    let segments = skb.len().saturating_sub(headers).div_ceil(gso_size);
    skb.len() + segments.saturating_sub(1) * headers
}
