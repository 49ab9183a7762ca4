//! Quality of service of what a port sends: its limit, and its DSCP.
//!
//! Here rather than in the kernel's traffic control, which does not see what a program redirects before it.

use network_types::eth::{EthHdr, EtherType};
use overlane_abi::{DropReason, Qos};

use crate::{
    buffer::Buffer as _,
    checksum, clock, ecn, maps,
    parse::Ethernet,
    security::Admission,
    size,
    skb::{HelperRefused, Skb},
};

/// Bits in a kilobit times nanoseconds in a second, over bits in a byte: a byte at one kilobit per second takes this long.
const NANOSECONDS_PER_BYTE: u64 = 8 * clock::SECOND / 1000;

/// The bytes of an IPv4 header up to its checksum.
const IPV4_TO_CHECKSUM: usize = 12;

/// Drops what is beyond the port's limit, and marks the rest.
///
/// A function of its own, for the stack that other packets do not need.
#[inline(never)]
pub fn apply(skb: Skb, frame: &Ethernet) -> Admission {
    let Some(qos) = maps::qos(skb.ifindex()) else {
        return Ok(());
    };
    if qos.flags & Qos::LIMITED != 0 && !is_within_limit(skb, frame, qos) {
        return Err(DropReason::RateLimited);
    }
    if qos.flags & Qos::MARKED != 0 {
        // A packet that the kernel has no memory to change goes as it is.
        let _ = mark(skb, frame, qos.dscp as u8);
    }
    Ok(())
}

#[inline(always)]
fn is_within_limit(skb: Skb, frame: &Ethernet, qos: &Qos) -> bool {
    let rate = u64::from(qos.rate_kbps);
    let bytes = size::of_all_frames(skb, frame) as u64;
    let cost = (bytes * NANOSECONDS_PER_BYTE).checked_div(rate).unwrap_or_default();
    let depth = (u64::from(qos.burst_kbit) * clock::SECOND).checked_div(rate).unwrap_or_default();
    maps::draw(skb.ifindex(), clock::now(), cost, depth)
}

/// Sets the DSCP, and leaves the ECN field, which the ends of the connection talk by.
#[inline(always)]
fn mark(skb: Skb, frame: &Ethernet, dscp: u8) -> Result<(), HelperRefused> {
    if frame.carries(EtherType::Ipv4) {
        let Some(header) = skb.read::<[u8; IPV4_TO_CHECKSUM]>(EthHdr::LEN) else { return Ok(()) };
        if header[0] >> 4 != 4 {
            return Ok(());
        }
        mark_v4(skb, header, dscp)
    } else if frame.carries(EtherType::Ipv6) {
        let Some([first, second]) = skb.read::<[u8; 2]>(EthHdr::LEN) else { return Ok(()) };
        if first >> 4 != 6 {
            return Ok(());
        }
        let class = dscp << 2 | second >> 4 & ecn::MASK;
        // Version, traffic class, and the beginning of the flow label.
        skb.write_summed(EthHdr::LEN, &[0x60 | class >> 4, class << 4 | second & 0xf])
    } else {
        Ok(())
    }
}

#[inline(always)]
fn mark_v4(skb: Skb, mut header: [u8; IPV4_TO_CHECKSUM], dscp: u8) -> Result<(), HelperRefused> {
    let before = header[1];
    let class = dscp << 2 | before & ecn::MASK;
    // RFC 1624, equation 3.
    let checksum = u16::from_be_bytes([header[10], header[11]]);
    let sum = u32::from(!checksum) + u32::from(!u16::from(before)) + u32::from(class);
    header[1] = class;
    [header[10], header[11]] = (!checksum::fold(sum)).to_be_bytes();
    skb.write(EthHdr::LEN, &header)
}
