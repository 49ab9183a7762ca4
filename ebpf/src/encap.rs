//! Putting an outer header in front of a packet for a port on another host.

use aya_ebpf::{
    bindings::{
        BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
        BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_ADJ_ROOM_NO_CSUM_RESET,
    },
    helpers::bpf_get_prandom_u32,
};
use network_types::{
    eth::EthHdr,
    ip::{Ipv4Hdr, Ipv6Hdr},
    udp::UdpHdr,
};
use overlane_abi::{DropReason, HEADER_V4, HEADER_V6, Outcome, Vtep};

use crate::{
    buffer::Buffer as _,
    checksum, ecn, flow_hash, maps,
    parse::{Ethernet, InnerIp, UDP},
    size,
    skb::Skb,
    verdict::Verdict,
    xdp::XdpBuff,
};

/// Keep superpackets whole, say what the new headers are so that the NIC or the kernel can segment behind them, and
/// leave the checksum state of the inner packet alone.
pub const ENCAP_FLAGS: u32 =
    BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2_ETH | BPF_F_ADJ_ROOM_NO_CSUM_RESET;

/// The length fields of IP and UDP have 16 bits.
const IP_LEN_MAX: usize = 0xffff;

/// The packet is too big for the path. Its sender should be told.
pub struct TooBig {
    /// Bytes of the largest IP packet that the path takes.
    pub mtu: u32,
}

/// Sends the packet to an endpoint with network identifier `vni`.
///
/// A function of its own, for the stack that other packets do not need.
#[inline(never)]
pub fn encapsulate(skb: Skb, frame: &Ethernet, vni: u32, vtep: &Vtep) -> Result<Verdict, TooBig> {
    if vtep.ifindex == 0 {
        return Ok(Verdict::Pass(Outcome::UnresolvedVtep));
    }
    // The kernel helper handles IP only.
    let Some(ip) = InnerIp::at(skb, frame, EthHdr::LEN) else {
        return Ok(Verdict::Pass(Outcome::OtherEthertype));
    };
    match fit(skb, &ip, vtep) {
        Fit::Whole if vtep.flags & Vtep::SUPERPACKETS_BY_KERNEL != 0 && skb.gso_size() != 0 => {
            return Ok(Verdict::Pass(Outcome::Gso));
        }
        Fit::Whole => (),
        Fit::InSegments => return Ok(Verdict::Pass(Outcome::Oversize)),
        Fit::Never => return Err(TooBig { mtu: vtep.mtu.saturating_sub(vtep.header_len.into()) }),
    }
    let header =
        Header { vtep, vni, flow_hash: flow_hash(skb, &ip, vtep), frame_len: skb.len(), inner_class: ip.traffic_class };
    Ok(if usize::from(vtep.header_len) == HEADER_V4 {
        push::<{ HEADER_V4 + EthHdr::LEN }>(skb, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, &header, frame)
    } else {
        push::<{ HEADER_V6 + EthHdr::LEN }>(skb, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, &header, frame)
    })
}

/// Puts the outer header in front of a packet that fits the path; `None` when there is no room for it.
#[inline(always)]
pub fn encapsulate_xdp(buff: XdpBuff, ip: &InnerIp, vni: u32, vtep: &Vtep, flow_hash: u32) -> Option<Verdict> {
    let header = Header { vtep, vni, flow_hash, frame_len: buff.len(), inner_class: ip.traffic_class };
    buff.move_start(-i32::from(vtep.header_len)).ok()?;
    let is_v4 = usize::from(vtep.header_len) == HEADER_V4;
    let to = if is_v4 { buff.room(HEADER_V4) } else { buff.room(HEADER_V6) };
    let Some(to) = to else {
        return Some(Verdict::Drop(DropReason::RewriteFailed));
    };
    // SAFETY: there is as much room as was asked for.
    unsafe {
        if is_v4 {
            header.write_v4(to);
        } else {
            header.write_v6(to);
        }
    }
    Some(Verdict::Redirect(Outcome::Encapsulated, vtep.ifindex))
}

/// The hash that tells the packet's flow from others.
#[inline(always)]
fn flow_hash(skb: Skb, ip: &InnerIp, vtep: &Vtep) -> u32 {
    let is_all_ours = ip.protocol == UDP && vtep.flags & Vtep::SUPERPACKETS_BY_KERNEL == 0;
    let ours = if is_all_ours { flow_hash::of_datagram(skb, ip) } else { None };
    ours.unwrap_or_else(|| skb.flow_hash())
}

/// How a packet fits the path once it has its outer header.
enum Fit {
    /// As it is.
    Whole,
    /// Its segments do, but the superpacket is too long for one outer header: the kernel must cut it first.
    InSegments,
    /// Not at all.
    Never,
}

#[inline(always)]
fn fit(skb: Skb, ip: &InnerIp, vtep: &Vtep) -> Fit {
    // The outer header replaces the Ethernet header that is not part of the outer IP packet by the inner one that is,
    // so an inner IP packet grows by exactly the header's length.
    let header_len = usize::from(vtep.header_len);
    match size::on_the_wire(skb, ip) {
        Some(largest) if largest + header_len > vtep.mtu as usize => Fit::Never,
        Some(_) if size::of_packet(skb) + header_len <= IP_LEN_MAX => Fit::Whole,
        _ => Fit::InSegments,
    }
}

/// An outer header to be written.
struct Header<'a> {
    vtep: &'a Vtep,
    vni: u32,
    flow_hash: u32,
    /// Bytes of the inner frame.
    frame_len: usize,
    /// DSCP and ECN of the inner packet.
    inner_class: u8,
}

impl Header<'_> {
    /// Over IPv4: lengths, identification, traffic class and header checksum (RFC 791).
    ///
    /// # Safety
    /// `to` has room for [`HEADER_V4`] bytes, and is at a multiple of eight unless it is in a packet.
    // SAFETY: both callers have made the room.
    #[inline(always)]
    unsafe fn write_v4(&self, to: *mut u8) {
        const IP: usize = EthHdr::LEN;
        const UDP: usize = IP + Ipv4Hdr::LEN;
        let template_class = self.vtep.header[IP + 1];
        let traffic_class = outer_class(self.vtep, template_class, self.inner_class);
        let total = (self.frame_len - EthHdr::LEN + HEADER_V4) as u16;
        // SAFETY: a helper call without pointers.
        let identification = unsafe { bpf_get_prandom_u32() } as u16;
        let template_checksum = u16::from_be_bytes([self.vtep.header[IP + 10], self.vtep.header[IP + 11]]);
        // RFC 1624, equation 3: the template has zero where length and identification go.
        let sum = u32::from(!template_checksum)
            + u32::from(!u16::from(template_class))
            + u32::from(traffic_class)
            + u32::from(total)
            + u32::from(identification);
        // SAFETY: all of it is within the header.
        unsafe {
            self.copy_template::<{ HEADER_V4 }>(to);
            to.add(IP + 1).write(traffic_class);
            put(to, IP + 2, total);
            put(to, IP + 4, identification);
            put(to, IP + 10, !checksum::fold(sum));
            put(to, UDP, maps::source_port(self.flow_hash));
            put(to, UDP + 4, total - Ipv4Hdr::LEN as u16);
            self.put_vni(to, UDP + UdpHdr::LEN + 4);
        }
    }

    /// Over IPv6: lengths and traffic class (RFC 8200).
    ///
    /// # Safety
    /// As for `write_v4`, with [`HEADER_V6`].
    // SAFETY: as for `write_v4`.
    #[inline(always)]
    unsafe fn write_v6(&self, to: *mut u8) {
        const IP: usize = EthHdr::LEN;
        const UDP: usize = IP + Ipv6Hdr::LEN;
        let template_class = self.vtep.header[IP] << 4 | self.vtep.header[IP + 1] >> 4;
        let traffic_class = u16::from(outer_class(self.vtep, template_class, self.inner_class));
        let payload = (self.frame_len - EthHdr::LEN + HEADER_V6 - Ipv6Hdr::LEN) as u16;
        // SAFETY: all of it is within the header.
        unsafe {
            self.copy_template::<{ HEADER_V6 }>(to);
            put(to, IP, 0x6000 | traffic_class << 4);
            put(to, IP + 4, payload);
            put(to, UDP, maps::source_port(self.flow_hash));
            put(to, UDP + 4, payload);
            self.put_vni(to, UDP + UdpHdr::LEN + 4);
        }
    }

    /// Copies `N` bytes of the template: in words, and what is left in halves.
    ///
    /// # Safety
    /// As for `write_v4`, with `N` bytes.
    // SAFETY: as for `write_v4`.
    #[inline(always)]
    unsafe fn copy_template<const N: usize>(&self, to: *mut u8) {
        let from = self.vtep.header.as_ptr();
        let mut at = 0;
        while at + 8 <= N {
            // SAFETY: the caller has the room. The template is at a multiple of eight; about `to` see `Buffer::read_words`.
            unsafe { to.add(at).cast::<u64>().write(from.add(at).cast::<u64>().read()) };
            at += 8;
        }
        while at < N {
            // SAFETY: as above.
            unsafe { to.add(at).cast::<u16>().write(from.add(at).cast::<u16>().read()) };
            at += 2;
        }
    }

    /// The VNI and a reserved byte, with which the VXLAN header ends.
    ///
    /// # Safety
    /// `to` has room for four bytes from `offset` on.
    // SAFETY: as for `write_v4`.
    #[inline(always)]
    unsafe fn put_vni(&self, to: *mut u8, offset: usize) {
        // SAFETY: the caller has the room.
        unsafe {
            put(to, offset, (self.vni >> 8) as u16);
            put(to, offset + 2, (self.vni << 8) as u16);
        }
    }
}

/// Writes a number in the order of transmission.
///
/// # Safety
/// `to` has room for two bytes from `offset` on, which is even.
// SAFETY: as for `Header::write_v4`.
#[inline(always)]
unsafe fn put(to: *mut u8, offset: usize, value: u16) {
    // SAFETY: the caller has the room; offsets are even.
    unsafe { to.add(offset).cast::<u16>().write(value.to_be()) };
}

/// The outer traffic class: the ECN field of the inner one (RFC 6040 §4.1, normal mode), and its DSCP if so configured.
#[inline(always)]
fn outer_class(vtep: &Vtep, template: u8, inner: u8) -> u8 {
    if vtep.flags & Vtep::INHERIT_DSCP != 0 { inner } else { template & !ecn::MASK | inner & ecn::MASK }
}

/// Makes room and writes the outer header and, behind it, the inner Ethernet header; `N` is the length of both.
#[inline(always)]
fn push<const N: usize>(skb: Skb, family: u32, header: &Header, ethernet: &Ethernet) -> Verdict {
    if skb.grow(N - EthHdr::LEN, ENCAP_FLAGS | family).is_err() {
        return Verdict::Pass(Outcome::HelperRefused);
    }
    let Some(to) = skb.room(N) else {
        return Verdict::Drop(DropReason::RewriteFailed);
    };
    // SAFETY: there is as much room as was asked for.
    unsafe {
        if N - EthHdr::LEN == HEADER_V4 {
            header.write_v4(to);
        } else {
            header.write_v6(to);
        }
        ethernet.write(to.add(N - EthHdr::LEN));
    }
    Verdict::Redirect(Outcome::Encapsulated, header.vtep.ifindex)
}
