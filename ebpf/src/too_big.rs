//! Telling a port that its packet is too big for its network or the path. Left to the bridge, the packet would vanish there
//! without a word: a bridge is no router.

use network_types::{
    eth::{EthHdr, EtherType},
    ip::{Ipv4Hdr, Ipv6Hdr},
};
use overlane_abi::{DropReason, Outcome};

use crate::{
    buffer::Buffer as _,
    checksum,
    parse::{Ethernet, ICMP, ICMPV6},
    skb::Skb,
    verdict::Verdict,
};

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
/// "Destination unreachable", "fragmentation needed and DF set" (RFC 792, RFC 1191 §4).
const UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
/// "Packet too big" (RFC 4443 §3.2). Types below 128 are errors.
const PACKET_TOO_BIG: u8 = 2;
const FIRST_INFORMATIONAL: u8 = 128;

const ICMP_LEN: usize = 8;
/// Of the packet's transport header this much is quoted: a whole TCP header, and with it the ports of any protocol.
const TRANSPORT_QUOTE: usize = 20;
const QUOTE_V4: usize = Ipv4Hdr::LEN + TRANSPORT_QUOTE;
const QUOTE_V6: usize = Ipv6Hdr::LEN + TRANSPORT_QUOTE;
const TTL: u8 = 64;

/// Sends the port an error that names the largest IP packet that fits, in bytes.
///
/// A function of its own, for the stack that other packets do not need.
#[inline(never)]
pub fn answer(skb: Skb, frame: &Ethernet, mtu: u32) -> Verdict {
    let answered = if frame.carries(EtherType::Ipv4) { answer_v4(skb, frame, mtu) } else { answer_v6(skb, frame, mtu) };
    // Errors are not answered with errors, and fragments not more than once (RFC 1122 §3.2.2).
    answered.unwrap_or(Verdict::Pass(Outcome::Oversize))
}

/// What stands in front of the quote.
#[repr(C)]
struct Headers<const IP_LEN: usize> {
    ethernet: EthHdr,
    ip: [u8; IP_LEN],
    icmp: [u8; ICMP_LEN],
}

/// An ICMP error; all of it is checksummed.
#[repr(C, align(4))]
#[derive(Clone, Copy)]
struct Error<const QUOTE_LEN: usize> {
    icmp: [u8; ICMP_LEN],
    quote: [u8; QUOTE_LEN],
}

#[inline(always)]
fn answer_v4(skb: Skb, frame: &Ethernet, mtu: u32) -> Option<Verdict> {
    let quote: [u8; QUOTE_V4] = skb.read(EthHdr::LEN)?;
    let is_later_fragment = quote[6] & 0x1f != 0 || quote[7] != 0;
    let kind = quote[Ipv4Hdr::LEN];
    let is_error = quote[9] == ICMP && kind != ECHO_REQUEST && kind != ECHO_REPLY;
    // Options would move the transport header.
    if quote[0] != 0x45 || is_later_fragment || is_error {
        return None;
    }
    let [mtu_high, mtu_low] = (mtu as u16).to_be_bytes();
    let icmp = [UNREACHABLE, FRAGMENTATION_NEEDED, 0, 0, 0, 0, mtu_high, mtu_low];
    let mut error = Error { icmp, quote };
    let sum = checksum::of(&mut error);
    error.icmp[2..4].copy_from_slice(&sum);

    let mut ip = [0; Ipv4Hdr::LEN];
    let [length_high, length_low] = ((Ipv4Hdr::LEN + ICMP_LEN + QUOTE_V4) as u16).to_be_bytes();
    (ip[0], ip[2], ip[3], ip[8], ip[9]) = (0x45, length_high, length_low, TTL, ICMP);
    // In the name of the destination: no router has an address here.
    ip[12..16].copy_from_slice(&quote[16..20]);
    ip[16..20].copy_from_slice(&quote[12..16]);
    let sum = checksum::of(&mut ip);
    ip[10..12].copy_from_slice(&sum);
    let ethernet = EthHdr::new(frame.source, frame.destination, EtherType::Ipv4);
    Some(send_back(skb, &Headers { ethernet, ip, icmp: error.icmp }, QUOTE_V4))
}

#[inline(always)]
fn answer_v6(skb: Skb, frame: &Ethernet, mtu: u32) -> Option<Verdict> {
    const LENGTH: usize = ICMP_LEN + QUOTE_V6;
    let quote: [u8; QUOTE_V6] = skb.read(EthHdr::LEN)?;
    let original: Ipv6Hdr = skb.read(EthHdr::LEN)?;
    if original.next_hdr == ICMPV6 && quote[Ipv6Hdr::LEN] < FIRST_INFORMATIONAL {
        return None;
    }
    let mtu = mtu.to_be_bytes();
    let mut error = Error { icmp: [PACKET_TOO_BIG, 0, 0, 0, mtu[0], mtu[1], mtu[2], mtu[3]], quote };
    // In the name of the destination, as above.
    let (source, destination) = (original.dst_addr, original.src_addr);
    let sum = checksum::of_icmpv6(source, destination, error);
    error.icmp[2..4].copy_from_slice(&sum);

    let mut ip = [0; Ipv6Hdr::LEN];
    let [length_high, length_low] = (LENGTH as u16).to_be_bytes();
    (ip[0], ip[4], ip[5], ip[6], ip[7]) = (0x60, length_high, length_low, ICMPV6, TTL);
    ip[8..24].copy_from_slice(&source);
    ip[24..40].copy_from_slice(&destination);
    let ethernet = EthHdr::new(frame.source, frame.destination, EtherType::Ipv6);
    Some(send_back(skb, &Headers { ethernet, ip, icmp: error.icmp }, QUOTE_V6))
}

/// Cuts the packet down to what is quoted, puts the answer's headers in front, and sends it out of the interface that it came
/// in on.
#[inline(always)]
fn send_back<T>(skb: Skb, headers: &T, quote_len: usize) -> Verdict {
    let room = size_of::<T>() - EthHdr::LEN;
    if skb.cut(EthHdr::LEN + quote_len).is_err() {
        return Verdict::Pass(Outcome::Oversize);
    }
    if skb.grow_plain(room).is_err() || skb.write(0, headers).is_err() {
        return Verdict::Drop(DropReason::RewriteFailed);
    }
    Verdict::Redirect(Outcome::TooBig, skb.ifindex())
}
