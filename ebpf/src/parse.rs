//! What the programs need to know of a packet's headers.

use network_types::{
    eth::{EthHdr, EtherType},
    ip::{Ipv4Hdr, Ipv6Hdr},
    udp::UdpHdr,
    vxlan::VXLAN_I_FLAG_MASK,
};
use overlane_abi::{Address, HEADER_V4, HEADER_V6};

use crate::{buffer::Buffer, skb::Skb};

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
/// The more-fragments flag and the fragment offset, in the second word of an IPv4 header.
pub const FRAGMENT: u32 = 0x3fff;
/// The first word of a VXLAN header with a VNI and nothing else (RFC 7348 §5).
const VXLAN_FLAGS: u32 = (VXLAN_I_FLAG_MASK as u32) << 24;

/// An Ethernet header.
#[repr(C, align(4))]
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
    pub fn at(buffer: impl Buffer, offset: usize) -> Option<Self> {
        let [first, second, third]: [u32; 3] = buffer.read_words(offset)?;
        let ether_type_be: u16 = buffer.read_words(offset + 12)?;
        let [low, high] = ether_type_be.to_ne_bytes();
        let last = u32::from_ne_bytes([low, high, 0, 0]);
        // SAFETY: both types have the same size and alignment, and any bytes are valid; the last two are padding.
        Some(unsafe { core::mem::transmute::<[u32; 4], Self>([first, second, third, last]) })
    }

    /// The header that the packet begins with; makes the headers behind it readable too.
    #[inline(always)]
    pub fn outermost(buffer: impl Buffer) -> Option<Self> {
        buffer.pull(HEADERS_MAX);
        Self::at(buffer, 0)
    }

    /// Writes the header.
    ///
    /// # Safety
    /// `to` has room for its 14 bytes.
    // SAFETY: whoever calls it has made the room.
    #[inline(always)]
    pub unsafe fn write(&self, to: *mut u8) {
        // SAFETY: the structure begins with the header, at a multiple of four; about `to` see `Buffer::read_words`.
        unsafe {
            to.cast::<[u32; 3]>().write((&raw const *self).cast::<[u32; 3]>().read());
            to.add(12).cast::<u16>().write(self.ether_type_be);
        }
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
    pub fn is_tagged(&self, buffer: impl Buffer) -> bool {
        buffer.has_vlan_tag() || is_vlan(self.ether_type_be)
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
    pub fn at(buffer: impl Buffer, frame: &Ethernet, offset: usize) -> Option<Self> {
        if frame.carries(EtherType::Ipv4) {
            let [start, _, lifetime, ..]: [u32; 5] = buffer.read_words(offset)?;
            let [version_and_len, traffic_class, ..] = start.to_ne_bytes();
            let [_, protocol, ..] = lifetime.to_ne_bytes();
            let header_len = usize::from(version_and_len & 0xf) * 4;
            let is_valid = version_and_len >> 4 == 4 && header_len >= Ipv4Hdr::LEN;
            is_valid.then_some(Self { family: Family::V4, traffic_class, header_len, protocol })
        } else if frame.carries(EtherType::Ipv6) {
            let [start, len_and_next, ..]: [u32; 10] = buffer.read_words(offset)?;
            let [_, _, protocol, _] = len_and_next.to_ne_bytes();
            let start = u32::from_be(start);
            let traffic_class = (start >> 20) as u8;
            (start >> 28 == 6).then_some(Self { family: Family::V6, traffic_class, header_len: Ipv6Hdr::LEN, protocol })
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
    pub fn parse(buffer: impl Buffer, frame: &Ethernet, port: u16) -> Option<Result<Self, Truncated>> {
        let (family, source, destination, traffic_class, ip_len) = if frame.carries(EtherType::Ipv4) {
            let [start, fragment, lifetime, source, destination]: [u32; 5] = buffer.read_words(EthHdr::LEN)?;
            let [version_and_len, traffic_class, ..] = start.to_ne_bytes();
            let [_, protocol, ..] = lifetime.to_ne_bytes();
            let is_fragment = u32::from_be(fragment) & FRAGMENT != 0;
            if version_and_len != IPV4_WITHOUT_OPTIONS || protocol != UDP || is_fragment {
                return None;
            }
            (Family::V4, mapped(source), mapped(destination), traffic_class, Ipv4Hdr::LEN)
        } else if frame.carries(EtherType::Ipv6) {
            let [start, len_and_next, a, b, c, d, e, f, g, h]: [u32; 10] = buffer.read_words(EthHdr::LEN)?;
            let [_, _, protocol, _] = len_and_next.to_ne_bytes();
            if protocol != UDP {
                return None;
            }
            (Family::V6, [a, b, c, d], [e, f, g, h], (u32::from_be(start) >> 20) as u8, Ipv6Hdr::LEN)
        } else {
            return None;
        };
        let [ports, len_and_checksum]: [u32; 2] = buffer.read_words(EthHdr::LEN + ip_len)?;
        if u32::from_be(ports) as u16 != port {
            return None;
        }
        let (source, destination) = (Address { octets: octets(source) }, Address { octets: octets(destination) });
        let has_udp_checksum = u32::from_be(len_and_checksum) as u16 != 0;
        let header_len = if family == Family::V4 { HEADER_V4 } else { HEADER_V6 };
        if buffer.len() < header_len + EthHdr::LEN {
            return Some(Err(Truncated { destination }));
        }
        let [flags, vni]: [u32; 2] = buffer.read_words(EthHdr::LEN + ip_len + UdpHdr::LEN)?;
        if u32::from_be(flags) != VXLAN_FLAGS {
            return None;
        }
        let vni = u32::from_be(vni) >> 8;
        Some(Ok(Self { family, source, destination, traffic_class, has_udp_checksum, vni, header_len }))
    }
}

/// The words of the IPv4-mapped form of an address that is a word.
#[inline(always)]
pub fn mapped(address: u32) -> [u32; 4] {
    [0, 0, 0xffff_u32.to_be(), address]
}

/// The bytes of an address in words, in the order of transmission.
#[inline(always)]
pub fn octets(words: [u32; 4]) -> [u8; 16] {
    // SAFETY: both types have the same size, and any bytes are valid.
    unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(words) }
}

/// A packet to the VXLAN port that ends before its inner Ethernet header does.
pub struct Truncated {
    /// Its outer destination address.
    pub destination: Address,
}
