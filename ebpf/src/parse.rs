//! What the programs need to know of a packet's headers.

use network_types::{
    eth::{EthHdr, EtherType},
    ip::{Ipv4Hdr, Ipv6Hdr},
    udp::UdpHdr,
    vxlan::{VXLAN_I_FLAG_MASK, VxlanHdr},
};
use overlane_abi::{Address, HEADER_V4, HEADER_V6};

use crate::skb::Skb;

/// Headers are looked for in this many bytes: outer Ethernet, IPv6, UDP and VXLAN, inner Ethernet and IPv6.
const HEADERS_MAX: usize = HEADER_V6 + EthHdr::LEN + Ipv6Hdr::LEN;

/// IP protocol numbers (IANA).
pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;

/// Where the priority of a VLAN tag begins, and which bits are its VID (IEEE 802.1Q §9.6).
pub const PCP_SHIFT: u32 = 13;
const VID_MASK: u16 = 0x0fff;

/// An IPv4 header without options has this first byte.
const IPV4_WITHOUT_OPTIONS: u8 = 0x45;
/// The more-fragments flag and the fragment offset, in the order of transmission.
const FRAGMENT_MASK: [u8; 2] = [0x3f, 0xff];

/// An Ethernet header.
#[derive(Clone, Copy)]
pub struct Ethernet {
    pub destination: [u8; 6],
    pub source: [u8; 6],
    /// As it stands in the packet: compare with [`EtherType`].
    pub ether_type_be: u16,
}

impl Ethernet {
    /// The header at `offset`.
    #[inline(always)]
    pub fn at(skb: Skb, offset: usize) -> Option<Self> {
        let header: EthHdr = skb.read(offset)?;
        Some(Self { destination: header.dst_addr, source: header.src_addr, ether_type_be: header.ether_type })
    }

    /// The header that the packet begins with; makes the headers behind it readable too.
    #[inline(always)]
    pub fn outermost(skb: Skb) -> Option<Self> {
        skb.pull(HEADERS_MAX);
        Self::at(skb, 0)
    }

    #[inline(always)]
    pub fn is_group(&self) -> bool {
        self.destination[0] & 1 != 0
    }

    /// Whether the frame is for one of the addresses that a bridge keeps to itself (IEEE 802.1Q, table 8-1).
    #[inline(always)]
    pub fn is_for_bridges(&self) -> bool {
        let [a, b, c, d, e, last] = self.destination;
        [a, b, c, d, e] == [0x01, 0x80, 0xc2, 0, 0] && last & 0xf0 == 0
    }

    /// Whether the packet has a VLAN tag, in it or, as the kernel prefers, beside it.
    #[inline(always)]
    pub fn is_tagged(&self, skb: Skb) -> bool {
        skb.has_vlan_tag() || is_vlan(self.ether_type_be)
    }

    #[inline(always)]
    pub fn carries(&self, ether_type: EtherType) -> bool {
        self.ether_type_be == ether_type as u16
    }
}

/// The outermost VLAN tag of a frame.
#[derive(Clone, Copy)]
pub struct VlanTag {
    /// As it stands in the packet: compare with [`EtherType`].
    type_be: u16,
    /// Priority (PCP), drop eligibility (DEI) and VID.
    tci: u16,
    /// The type of what is tagged, as it stands in the packet.
    content_type_be: u16,
}

impl VlanTag {
    /// The tag of a frame, whether the kernel keeps it beside the packet or not.
    #[inline(always)]
    pub fn outermost(skb: Skb, frame: &Ethernet) -> Option<Self> {
        if let Some((type_be, tci)) = skb.vlan_tag() {
            return Some(Self { type_be, tci, content_type_be: frame.ether_type_be });
        }
        if !is_vlan(frame.ether_type_be) {
            return None;
        }
        let [tci_high, tci_low, type_high, type_low] = skb.read::<[u8; 4]>(EthHdr::LEN)?;
        Some(Self {
            type_be: frame.ether_type_be,
            tci: u16::from_be_bytes([tci_high, tci_low]),
            content_type_be: u16::from_ne_bytes([type_high, type_low]),
        })
    }

    /// The VLAN identifier of an 802.1Q tag, as opposed to the tags of a provider's network (802.1ad).
    #[inline(always)]
    pub fn vid(&self) -> Option<u16> {
        (self.type_be == EtherType::Ieee8021q as u16).then_some(self.tci & VID_MASK)
    }

    /// The priority (PCP), 0 to 7.
    #[inline(always)]
    pub fn priority(&self) -> u32 {
        u32::from(self.tci >> PCP_SHIFT)
    }

    /// Whether what is tagged is an IP packet, rather than ARP, say, or another tag.
    #[inline(always)]
    pub fn carries_ip(&self) -> bool {
        self.content_type_be == EtherType::Ipv4 as u16 || self.content_type_be == EtherType::Ipv6 as u16
    }
}

#[inline(always)]
fn is_vlan(type_be: u16) -> bool {
    type_be == EtherType::Ieee8021q as u16 || type_be == EtherType::Ieee8021ad as u16
}

/// The IP version of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// What tunnelling needs to know of an inner IP header.
#[derive(Clone, Copy)]
pub struct InnerIp {
    pub family: Family,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Bytes of the IP header, options included.
    pub header_len: usize,
    /// What follows the header.
    pub protocol: u8,
}

impl InnerIp {
    /// The IP header at `offset`, behind an Ethernet header that says it `frame`s IP.
    #[inline(always)]
    pub fn at(skb: Skb, frame: &Ethernet, offset: usize) -> Option<Self> {
        if frame.carries(EtherType::Ipv4) {
            let header: Ipv4Hdr = skb.read(offset)?;
            let header_len = usize::from(header.ihl());
            (header.version() == 4 && header_len >= Ipv4Hdr::LEN).then_some(Self {
                family: Family::V4,
                traffic_class: header.tos,
                header_len,
                protocol: header.proto,
            })
        } else if frame.carries(EtherType::Ipv6) {
            let header: Ipv6Hdr = skb.read(offset)?;
            (header.version() == 6).then_some(Self {
                family: Family::V6,
                traffic_class: header.vcf[0] << 4 | header.vcf[1] >> 4,
                header_len: Ipv6Hdr::LEN,
                protocol: header.next_hdr,
            })
        } else {
            None
        }
    }
}

/// The outer headers of a VXLAN packet.
#[derive(Clone, Copy)]
pub struct Overlay {
    /// IP version of the outer header.
    pub family: Family,
    pub source: Address,
    pub destination: Address,
    /// Outer DSCP and ECN.
    pub traffic_class: u8,
    pub has_udp_checksum: bool,
    pub vni: u32,
    /// Bytes up to the inner Ethernet header.
    pub header_len: usize,
}

impl Overlay {
    /// The outer headers, if they are those of a plain VXLAN packet to UDP port `port`.
    ///
    /// IP options, IPv6 extension headers, fragments and VXLAN extensions are left to the kernel, which knows them.
    #[inline(always)]
    pub fn parse(skb: Skb, frame: &Ethernet, port: u16) -> Option<Result<Self, Truncated>> {
        let (family, source, destination, traffic_class, ip_len) = if frame.carries(EtherType::Ipv4) {
            let ip: Ipv4Hdr = skb.read(EthHdr::LEN)?;
            let is_fragment = ip.frags[0] & FRAGMENT_MASK[0] != 0 || ip.frags[1] & FRAGMENT_MASK[1] != 0;
            if ip.vihl != IPV4_WITHOUT_OPTIONS || ip.proto != UDP || is_fragment {
                return None;
            }
            (Family::V4, Address::from_v4(ip.src_addr), Address::from_v4(ip.dst_addr), ip.tos, Ipv4Hdr::LEN)
        } else if frame.carries(EtherType::Ipv6) {
            let ip: Ipv6Hdr = skb.read(EthHdr::LEN)?;
            if ip.next_hdr != UDP {
                return None;
            }
            let traffic_class = ip.vcf[0] << 4 | ip.vcf[1] >> 4;
            (Family::V6, Address::from_v6(ip.src_addr), Address::from_v6(ip.dst_addr), traffic_class, Ipv6Hdr::LEN)
        } else {
            return None;
        };
        let udp: UdpHdr = skb.read(EthHdr::LEN + ip_len)?;
        if u16::from_be_bytes(udp.dst) != port {
            return None;
        }
        let has_udp_checksum = udp.check != [0; 2];
        let header_len = if family == Family::V4 { HEADER_V4 } else { HEADER_V6 };
        if skb.len() < header_len + EthHdr::LEN {
            return Some(Err(Truncated { destination }));
        }
        let vxlan: VxlanHdr = skb.read(EthHdr::LEN + ip_len + UdpHdr::LEN)?;
        if vxlan.flags != VXLAN_I_FLAG_MASK || vxlan._reserved1 != [0; 3] {
            return None;
        }
        Some(Ok(Self { family, source, destination, traffic_class, has_udp_checksum, vni: vxlan.vni(), header_len }))
    }
}

/// A packet to the VXLAN port that ends before its inner Ethernet header does.
pub struct Truncated {
    /// Its outer destination address.
    pub destination: Address,
}
