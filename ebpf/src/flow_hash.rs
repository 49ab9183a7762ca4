//! Which of the underlay's paths a flow takes: the UDP source port of its outer header follows from a hash.
//!
//! The kernel's own hash costs as much as four map look-ups. Datagrams, which are many and small where there is much to save, have
//! one of ours, the same in the TC and the XDP lane; TCP has the kernel's, because the kernel lane carries some of its segments.

use network_types::{
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
};

use crate::{
    buffer::Buffer,
    parse::{FRAGMENT, Family, InnerIp},
};

/// The hash of a datagram's flow, in a frame; of fragments, that of all datagrams between the same addresses. `None` where the header
/// has options, or ends too early.
#[inline(always)]
pub fn of_datagram(buffer: impl Buffer, ip: &InnerIp) -> Option<u32> {
    match ip.family {
        Family::V4 => {
            let [_, fragment, _, source, destination]: [u32; 5] = buffer.read_words(EthHdr::LEN)?;
            let addresses = u64::from(source) + u64::from(destination);
            if u32::from_be(fragment) & FRAGMENT != 0 {
                return Some(mix(addresses, 0));
            }
            if ip.header_len != Ipv4Hdr::LEN {
                return None;
            }
            let [ports]: [u32; 1] = buffer.read_words(EthHdr::LEN + Ipv4Hdr::LEN)?;
            Some(mix(addresses, ports))
        }
        Family::V6 => {
            let [_, _, addresses @ ..]: [u32; 10] = buffer.read_words(EthHdr::LEN)?;
            let [ports]: [u32; 1] = buffer.read_words(EthHdr::LEN + Ipv6Hdr::LEN)?;
            Some(mix(sum(addresses), ports))
        }
    }
}

/// The sum of both addresses of an IPv6 packet, in words.
#[inline(always)]
pub fn sum([a, b, c, d, e, f, g, h]: [u32; 8]) -> u64 {
    let half = |words: [u32; 4]| words.map(u64::from).iter().sum::<u64>();
    half([a, b, c, d]) + half([e, f, g, h])
}

/// Spreads what tells flows apart over all values: the sum of the addresses' words, and both ports.
#[inline(always)]
pub fn mix(addresses: u64, ports: u32) -> u32 {
    let mixed = (addresses ^ u64::from(ports) << 16).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u32
}
