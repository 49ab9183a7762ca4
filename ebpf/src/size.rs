//! How large a packet is, in the terms of whoever limits it.

use network_types::{eth::EthHdr, udp::UdpHdr};

use crate::{
    parse::{InnerIp, TCP, UDP},
    skb::Skb,
};

/// Where a TCP header says how long it is.
const TCP_DATA_OFFSET: usize = 12;

/// Bytes of the IP packet that a frame carries.
#[inline(always)]
pub fn of_packet(skb: Skb) -> usize {
    skb.len() - EthHdr::LEN
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
