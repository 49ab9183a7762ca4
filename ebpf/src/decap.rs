//! Stripping the outer headers of a packet that is for a port of this host.

use aya_ebpf::bindings::{BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6, BPF_F_ADJ_ROOM_NO_CSUM_RESET};
use network_types::eth::EthHdr;
use overlane_abi::{DropReason, Outcome};

use crate::{
    buffer::Buffer as _,
    checksum, ecn,
    parse::{Ethernet, Family, InnerIp, Overlay},
    skb::{HelperRefused, Skb},
    verdict::Verdict,
    xdp::XdpBuff,
};

/// Offset of the IPv4 header checksum in a frame.
const IPV4_CHECKSUM: usize = EthHdr::LEN + 10;

/// Strips the outer headers and sends what is left to the port.
#[inline(always)]
pub fn deliver(skb: Skb, overlay: &Overlay, inner: &Ethernet, ifindex: u32) -> Verdict {
    // The kernel helper handles IP only.
    let Some(ip) = InnerIp::at(skb, inner, overlay.header_len + EthHdr::LEN) else {
        return Verdict::Pass(Outcome::OtherEthertype);
    };
    let Some(ecn) = ecn::combine(overlay.traffic_class, ip.traffic_class) else {
        return Verdict::Drop(DropReason::CongestedNotEct);
    };
    // The checksum state stays: what the NIC has validated of the inner packet is still valid.
    let flags = BPF_F_ADJ_ROOM_NO_CSUM_RESET
        | match (overlay.family, ip.family) {
            (Family::V4, Family::V6) => BPF_F_ADJ_ROOM_DECAP_L3_IPV6,
            (Family::V6, Family::V4) => BPF_F_ADJ_ROOM_DECAP_L3_IPV4,
            _ => 0,
        };
    if skb.shrink(overlay.header_len, flags).is_err() {
        return Verdict::Pass(Outcome::HelperRefused);
    }
    if overlay.has_udp_checksum {
        skb.forget_outer_checksum();
    }
    let Some(to) = skb.room(EthHdr::LEN) else {
        return Verdict::Drop(DropReason::RewriteFailed);
    };
    // SAFETY: there is as much room as was asked for.
    unsafe { inner.write(to) };
    if set_ecn(skb, &ip, ecn).is_err() {
        return Verdict::Drop(DropReason::RewriteFailed);
    }
    Verdict::Redirect(Outcome::Decapsulated, ifindex)
}

/// Writes the ECN field of the IP header at `offset` of a packet that no checksum of the kernel's covers.
#[inline(always)]
pub fn set_ecn_xdp(buff: XdpBuff, ip: &InnerIp, offset: usize, ecn: u8) -> Result<(), HelperRefused> {
    let old = ip.traffic_class;
    let new = old & !ecn::MASK | ecn;
    if new == old {
        return Ok(());
    }
    let first: u16 = buff.read_words(offset).ok_or(HelperRefused)?;
    let [high, low] = first.to_ne_bytes();
    match ip.family {
        Family::V4 => {
            let old_checksum: u16 = buff.read_words(offset + 10).ok_or(HelperRefused)?;
            buff.write_words(offset + 10, checksum_after(u16::from_be(old_checksum), old, new).to_be())?;
            buff.write_words(offset, u16::from_ne_bytes([high, new]))
        }
        Family::V6 => buff.write_words(offset, u16::from_ne_bytes([high & 0xf0 | new >> 4, low & 0x0f | new << 4])),
    }
}

/// The checksum of an IPv4 header whose traffic class has changed (RFC 1624, equation 3); the class is the low byte of its 16-bit
/// word.
#[inline(always)]
fn checksum_after(checksum: u16, old: u8, new: u8) -> u16 {
    !checksum::fold(u32::from(!checksum) + u32::from(!u16::from(old)) + u32::from(new))
}

/// Writes the ECN field of the IP header behind the Ethernet header.
#[inline(always)]
fn set_ecn(skb: Skb, ip: &InnerIp, ecn: u8) -> Result<(), HelperRefused> {
    let old = ip.traffic_class;
    let new = old & !ecn::MASK | ecn;
    if new == old {
        return Ok(());
    }
    match ip.family {
        Family::V4 => {
            let old_checksum = skb.read::<[u8; 2]>(IPV4_CHECKSUM).ok_or(HelperRefused)?;
            let new_checksum = checksum_after(u16::from_be_bytes(old_checksum), old, new);
            skb.write(IPV4_CHECKSUM, &new_checksum.to_be_bytes())?;
            skb.write(EthHdr::LEN + 1, &new)
        }
        Family::V6 => {
            let word = skb.read::<[u8; 2]>(EthHdr::LEN).ok_or(HelperRefused)?;
            skb.write(EthHdr::LEN, &[word[0] & 0xf0 | new >> 4, word[1] & 0x0f | new << 4])
        }
    }
}
