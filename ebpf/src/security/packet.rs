//! An IP packet as security groups see it.

use core::mem::transmute;

use network_types::{
    eth::{EthHdr, EtherType},
    ip::{Ipv4Hdr, Ipv6Hdr},
};
use overlane_abi::{Address, DropReason, FlowKey4, FlowKey6};

use crate::{
    maps::FlowKey,
    parse::{Ethernet, ICMP, ICMPV6, TCP, UDP},
    security::{extension_headers, kind::Kind},
    skb::Skb,
};

const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

const TCP_LEN: usize = 20;
const TCP_OFFSET_AND_FLAGS: usize = 12;
/// UDP, ICMP and ICMPv6; the others with ports are longer.
const DATAGRAM_LEN: usize = 8;

const MORE_FRAGMENTS: u32 = 0x2000;
pub const FRAGMENT_OFFSET: u32 = 0x1fff;
/// Fragment offsets count these.
const FRAGMENT_UNIT: u32 = 8;

/// What decides about an IP packet.
///
/// Addresses are words in the order of transmission, because that is how they are compared and copied fastest.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct Packet {
    pub source: [u32; 4],
    pub destination: [u32; 4],
    /// Source and destination port. ICMP echo: the identifier on the side that asks, zero on the other, so that two
    /// machines may ask each other. Otherwise zero.
    pub ports: [u16; 2],
    /// What rules call the port: the destination port, or ICMP type and code.
    pub service: u16,
    /// Offset of the transport header in the frame.
    pub transport: u16,
    pub protocol: u8,
    pub kind: Kind,
    pub is_v6: bool,
    pub fragment: Fragment,
}

/// Whether a packet is whole.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Fragment {
    pub part: Part,
    /// The protocol that every fragment of the packet names.
    pub protocol: u8,
    pub pad: [u8; 2],
    /// Identification.
    pub id: u32,
    /// The first fragment: where its data ends. A later one: where it begins. In bytes.
    pub offset: u32,
}

#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Whole,
    First,
    Later,
}

impl Fragment {
    /// A fragment whose `len` bytes of data begin at `offset` of the packet's.
    #[inline(always)]
    pub fn new(protocol: u8, id: u32, offset: u32, len: usize) -> Self {
        let (part, offset) = if offset == 0 { (Part::First, len as u32) } else { (Part::Later, offset) };
        Self { part, protocol, pad: [0; 2], id, offset }
    }
}

impl Packet {
    /// Fills in what an IP packet in a frame is; `false`: the frame carries none.
    #[inline(always)]
    pub fn read(&mut self, skb: Skb, frame: &Ethernet) -> Result<bool, DropReason> {
        self.reset();
        let read = if frame.carries(EtherType::Ipv4) {
            self.read_v4(skb)
        } else if frame.carries(EtherType::Ipv6) {
            self.read_v6(skb)
        } else {
            return Ok(false);
        };
        read.map(|()| true).ok_or(DropReason::MalformedIp)
    }

    /// Field by field: the compiler would call a function to set all of it to zero, byte by byte.
    #[inline(always)]
    pub fn reset(&mut self) {
        (self.ports, self.service, self.kind, self.is_v6) = ([0; 2], 0, Kind::Datagram, false);
        (self.fragment.part, self.fragment.id, self.fragment.offset) = (Part::Whole, 0, 0);
    }

    #[inline(always)]
    fn read_v4(&mut self, skb: Skb) -> Option<()> {
        let ip: [u32; 5] = skb.read_words(EthHdr::LEN)?;
        let [version_and_len, _, len @ ..] = ip[0].to_ne_bytes();
        let header_len = usize::from(version_and_len & 0xf) * 4;
        let end = EthHdr::LEN + usize::from(u16::from_be_bytes(len));
        if version_and_len >> 4 != 4 || header_len < Ipv4Hdr::LEN || end > skb.len() {
            return None;
        }
        let transport = EthHdr::LEN + header_len;
        let [_, protocol, _, _] = ip[2].to_ne_bytes();
        self.source = mapped(ip[3]);
        self.destination = mapped(ip[4]);
        self.protocol = protocol;
        self.transport = transport as u16;
        let id_and_offset = u32::from_be(ip[1]);
        let offset = (id_and_offset & FRAGMENT_OFFSET) * FRAGMENT_UNIT;
        if id_and_offset & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0 {
            self.fragment = Fragment::new(protocol, id_and_offset >> 16, offset, end.checked_sub(transport)?);
        }
        // The usual offset is known to the compiler, which lets it do without a helper.
        if header_len == Ipv4Hdr::LEN {
            self.read_transport(skb, EthHdr::LEN + Ipv4Hdr::LEN, end, true)
        } else {
            self.read_transport(skb, transport, end, false)
        }
    }

    #[inline(always)]
    fn read_v6(&mut self, skb: Skb) -> Option<()> {
        let [start, len_and_next, a, b, c, d, e, f, g, h]: [u32; 10] = skb.read_words(EthHdr::LEN)?;
        let transport = EthHdr::LEN + Ipv6Hdr::LEN;
        let [len_high, len_low, next, _] = len_and_next.to_ne_bytes();
        let end = transport + usize::from(u16::from_be_bytes([len_high, len_low]));
        if u32::from_be(start) >> 28 != 6 || end > skb.len() {
            return None;
        }
        (self.source, self.destination) = ([a, b, c, d], [e, f, g, h]);
        self.protocol = next;
        self.transport = transport as u16;
        self.is_v6 = true;
        if matches!(next, TCP | UDP | ICMPV6) {
            self.read_transport(skb, transport, end, true)
        } else {
            extension_headers::skip(skb, self, end)?;
            self.read_transport(skb, self.transport.into(), end, false)
        }
    }

    #[inline(always)]
    fn read_transport(&mut self, skb: Skb, at: usize, end: usize, is_usual: bool) -> Option<()> {
        if self.fragment.part == Part::Later {
            self.kind = Kind::LaterFragment;
            return Some(());
        }
        let shortest = match self.protocol {
            TCP => TCP_LEN,
            UDP | UDP_LITE | SCTP | DCCP | ICMP | ICMPV6 => DATAGRAM_LEN,
            _ => return Some(()),
        };
        if at + shortest > end {
            return None;
        }
        self.take_transport(if is_usual { skb.read_words(at)? } else { skb.load(at)? });
        if self.protocol == TCP {
            let flags_at = at + TCP_OFFSET_AND_FLAGS;
            let [word]: [u32; 1] = if is_usual { skb.read_words(flags_at)? } else { skb.load(flags_at)? };
            let [data_offset, flags, _, _] = word.to_ne_bytes();
            let header_len = usize::from(data_offset >> 4) * 4;
            if header_len < TCP_LEN || at + header_len > end {
                return None;
            }
            self.kind = Kind::of_tcp(flags);
        }
        Some(())
    }

    /// Takes over what the first bytes of the transport header say; of TCP, not what the segment does.
    #[inline(always)]
    pub fn take_transport(&mut self, [ports, word]: [u32; 2]) {
        let ports = u32::from_be(ports);
        let (high, low) = ((ports >> 16) as u16, ports as u16);
        match self.protocol {
            ICMP | ICMPV6 => {
                self.service = high;
                self.kind = Kind::of_icmp(self.is_v6, (high >> 8) as u8);
                let id = (u32::from_be(word) >> 16) as u16;
                match self.kind {
                    Kind::EchoRequest => self.ports[0] = id,
                    Kind::EchoReply => self.ports[1] = id,
                    _ => (),
                }
            }
            TCP | UDP | UDP_LITE | SCTP | DCCP => {
                self.ports = [high, low];
                self.service = low;
            }
            _ => (),
        }
    }

    /// Whether the end that is first in the key of the packet's flow has sent it.
    #[inline(always)]
    pub fn is_from_first(&self) -> bool {
        if !self.is_v6 {
            let (source, destination) = (u32::from_be(self.source[3]), u32::from_be(self.destination[3]));
            return (source, self.ports[0]) <= (destination, self.ports[1]);
        }
        let mut index = 0;
        while index < 4 {
            let (source, destination) = (u32::from_be(self.source[index]), u32::from_be(self.destination[index]));
            if source != destination {
                return source < destination;
            }
            index += 1;
        }
        self.ports[0] <= self.ports[1]
    }

    /// Writes the key of the packet's flow on the network with index `zone`.
    ///
    /// Word by word, as the kernel reads it to hash it: a word that was written in parts is not there yet when it is read.
    #[inline(always)]
    pub fn write_flow_key(&self, zone: u32, key: &mut FlowKey) {
        let is_from_first = self.is_from_first();
        let (first, second) =
            if is_from_first { (&self.source, &self.destination) } else { (&self.destination, &self.source) };
        let [source_port, port] = self.ports.map(u16::to_ne_bytes);
        let (low, high) = if is_from_first { (source_port, port) } else { (port, source_port) };
        let ports = u32::from_ne_bytes([low[0], low[1], high[0], high[1]]);
        let protocol = u32::from_ne_bytes([self.protocol, 0, 0, 0]);
        key.is_v6 = self.is_v6.into();
        if self.is_v6 {
            let ([a, b, c, d], [e, f, g, h]) = (*first, *second);
            // SAFETY: both types have the same size, and any bytes are valid.
            key.v6 = unsafe { transmute::<[u32; 11], FlowKey6>([zone, a, b, c, d, e, f, g, h, ports, protocol]) };
        } else {
            // SAFETY: as above.
            key.v4 = unsafe { transmute::<[u32; 5], FlowKey4>([zone, first[3], second[3], ports, protocol]) };
        }
    }

    #[inline(always)]
    pub fn source(&self) -> Address {
        Address { octets: octets(self.source) }
    }

    #[inline(always)]
    pub fn destination(&self) -> Address {
        Address { octets: octets(self.destination) }
    }
}

/// The words of the IPv4-mapped form of an address that is a word.
#[inline(always)]
pub fn mapped(address: u32) -> [u32; 4] {
    [0, 0, 0xffff_u32.to_be(), address]
}

#[inline(always)]
pub fn octets(words: [u32; 4]) -> [u8; 16] {
    // SAFETY: both types have the same size, and any bytes are valid.
    unsafe { transmute::<[u32; 4], [u8; 16]>(words) }
}
