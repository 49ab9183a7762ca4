//! Putting an outer header in front of a packet for a port on another host.

use aya_ebpf::{
    bindings::{
        BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
        BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_ADJ_ROOM_NO_CSUM_RESET,
    },
    helpers::bpf_get_prandom_u32,
};
use network_types::{eth::EthHdr, ip::Ipv4Hdr, ip::Ipv6Hdr};
use overlane_abi::{Address, DropReason, HEADER_MAX, HEADER_V4, HEADER_V6, Outcome, Vtep};

use crate::{
    checksum, ecn, maps,
    parse::{Ethernet, InnerIp},
    size,
    skb::Skb,
    verdict::Verdict,
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

/// Sends the packet to `address` with network identifier `vni`.
///
/// A function of its own, for the stack that other packets do not need.
#[inline(never)]
pub fn encapsulate(skb: Skb, frame: &Ethernet, vni: u32, address: &Address) -> Result<Verdict, TooBig> {
    let Some(vtep) = maps::vtep(address).filter(|vtep| vtep.ifindex != 0) else {
        return Ok(Verdict::Pass(Outcome::UnresolvedVtep));
    };
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
    let Some(ethernet) = skb.read::<[u8; EthHdr::LEN]>(0) else {
        return Ok(Verdict::Pass(Outcome::Malformed));
    };
    let mut outer = Outer::new(vtep, vni, maps::source_port(skb.flow_hash()));
    let traffic_class = ip.traffic_class;
    Ok(if usize::from(vtep.header_len) == HEADER_V4 {
        outer.finish_v4(vtep, skb.len(), traffic_class);
        push::<{ HEADER_V4 + EthHdr::LEN }>(skb, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, &mut outer, &ethernet, vtep.ifindex)
    } else {
        outer.finish_v6(vtep, skb.len(), traffic_class);
        push::<{ HEADER_V6 + EthHdr::LEN }>(skb, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, &mut outer, &ethernet, vtep.ifindex)
    })
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

/// An outer header in the making, followed by room for the inner Ethernet header.
#[repr(C, align(8))]
struct Outer {
    bytes: [u8; HEADER_MAX],
    room: [u8; 16],
}

impl Outer {
    /// The template with what every family has filled in.
    #[inline(always)]
    fn new(vtep: &Vtep, vni: u32, source_port: u16) -> Self {
        let mut outer = Self { bytes: vtep.header, room: [0; 16] };
        let header_len = if usize::from(vtep.header_len) == HEADER_V4 { HEADER_V4 } else { HEADER_V6 };
        let [_, high, middle, low] = vni.to_be_bytes();
        // The VXLAN header ends with the VNI and a reserved byte, the UDP header before it begins with the ports.
        outer.put(header_len - 4, [high, middle, low, 0]);
        outer.put(header_len - 16, source_port.to_be_bytes());
        outer
    }

    #[inline(always)]
    fn put<const N: usize>(&mut self, offset: usize, value: [u8; N]) {
        self.bytes[offset..offset + N].copy_from_slice(&value);
    }

    #[inline(always)]
    fn word(&self, offset: usize) -> u16 {
        u16::from_be_bytes([self.bytes[offset], self.bytes[offset + 1]])
    }

    /// Lengths, identification, traffic class and header checksum of IPv4 (RFC 791).
    #[inline(always)]
    fn finish_v4(&mut self, vtep: &Vtep, frame_len: usize, inner_class: u8) {
        const IP: usize = EthHdr::LEN;
        const TRAFFIC_CLASS: usize = IP + 1;
        const CHECKSUM: usize = IP + 10;
        let template_class = self.bytes[TRAFFIC_CLASS];
        let traffic_class = outer_class(vtep, template_class, inner_class);
        let total = (frame_len - EthHdr::LEN + HEADER_V4) as u16;
        // SAFETY: a helper call without pointers.
        let identification = unsafe { bpf_get_prandom_u32() } as u16;
        // RFC 1624, equation 3: the template has zero where length and identification go.
        let sum = u32::from(!self.word(CHECKSUM))
            + u32::from(!u16::from(template_class))
            + u32::from(traffic_class)
            + u32::from(total)
            + u32::from(identification);
        self.bytes[TRAFFIC_CLASS] = traffic_class;
        self.put(IP + 2, total.to_be_bytes());
        self.put(IP + 4, identification.to_be_bytes());
        self.put(CHECKSUM, (!checksum::fold(sum)).to_be_bytes());
        self.put(IP + Ipv4Hdr::LEN + 4, (total - Ipv4Hdr::LEN as u16).to_be_bytes());
    }

    /// Lengths and traffic class of IPv6 (RFC 8200).
    #[inline(always)]
    fn finish_v6(&mut self, vtep: &Vtep, frame_len: usize, inner_class: u8) {
        const IP: usize = EthHdr::LEN;
        let template_class = (self.word(IP) >> 4) as u8;
        let traffic_class = outer_class(vtep, template_class, inner_class);
        let payload = (frame_len - EthHdr::LEN + HEADER_V6 - Ipv6Hdr::LEN) as u16;
        self.put(IP, [0x60 | traffic_class >> 4, traffic_class << 4]);
        self.put(IP + 4, payload.to_be_bytes());
        self.put(IP + Ipv6Hdr::LEN + 4, payload.to_be_bytes());
    }
}

/// The outer traffic class: the ECN field of the inner one (RFC 6040 §4.1, normal mode), and its DSCP if so configured.
#[inline(always)]
fn outer_class(vtep: &Vtep, template: u8, inner: u8) -> u8 {
    if vtep.flags & Vtep::INHERIT_DSCP != 0 { inner } else { template & !ecn::MASK | inner & ecn::MASK }
}

/// Makes room and writes the outer header and, behind it, the inner Ethernet header; `N` is the length of both.
#[inline(always)]
fn push<const N: usize>(
    skb: Skb,
    family: u32,
    outer: &mut Outer,
    ethernet: &[u8; EthHdr::LEN],
    ifindex: u32,
) -> Verdict {
    if skb.grow(N - EthHdr::LEN, ENCAP_FLAGS | family).is_err() {
        return Verdict::Pass(Outcome::HelperRefused);
    }
    // SAFETY: `Outer` is 88 bytes without padding, and `N` is at most 84.
    let bytes: &mut [u8; N] = unsafe { &mut *(&raw mut *outer).cast() };
    bytes[N - EthHdr::LEN..].copy_from_slice(ethernet);
    if skb.write(0, bytes).is_err() {
        return Verdict::Drop(DropReason::RewriteFailed);
    }
    Verdict::Redirect(Outcome::Encapsulated, ifindex)
}
