//! An IP packet as security groups see it.

use core::mem::transmute;

use network_types::{
    eth::{EthHdr, EtherType},
    ip::{Ipv4Hdr, Ipv6Hdr},
};
use overlane_abi::{Address, DropReason, FlowKey4, FlowKey6};

use crate::{
    buffer::Buffer,
    maps::FlowKey,
    parse::{Ethernet, ICMP, ICMPV6, TCP, UDP, mapped, octets},
    security::{extension_headers, kind::Kind},
};

const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

pub const TCP_LEN: usize = 20;
const TCP_OFFSET_AND_FLAGS: usize = 12;
/// UDP, ICMP and ICMPv6; the others with ports are longer.
pub const DATAGRAM_LEN: usize = 8;

pub const MORE_FRAGMENTS: u32 = 0x2000;
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
    pub fn read(&mut self, buffer: impl Buffer, frame: &Ethernet) -> Result<bool, DropReason> {
        self.reset();
        let read = if frame.carries(EtherType::Ipv4) {
            self.read_v4(buffer)
        } else if frame.carries(EtherType::Ipv6) {
            self.read_v6(buffer)
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
    fn read_v4(&mut self, buffer: impl Buffer) -> Option<()> {
        let ip: [u32; 5] = buffer.read_words(EthHdr::LEN)?;
        let [version_and_len, _, len @ ..] = ip[0].to_ne_bytes();
        let header_len = usize::from(version_and_len & 0xf) * 4;
        let end = end(buffer, EthHdr::LEN, u16::from_be_bytes(len));
        if version_and_len >> 4 != 4 || header_len < Ipv4Hdr::LEN || end > buffer.len() {
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
            self.read_transport(buffer, EthHdr::LEN + Ipv4Hdr::LEN, end, true)
        } else {
            self.read_transport(buffer, transport, end, false)
        }
    }

    #[inline(always)]
    fn read_v6(&mut self, buffer: impl Buffer) -> Option<()> {
        let [start, len_and_next, a, b, c, d, e, f, g, h]: [u32; 10] = buffer.read_words(EthHdr::LEN)?;
        let transport = EthHdr::LEN + Ipv6Hdr::LEN;
        let [len_high, len_low, next, _] = len_and_next.to_ne_bytes();
        let end = end(buffer, transport, u16::from_be_bytes([len_high, len_low]));
        if u32::from_be(start) >> 28 != 6 || end > buffer.len() {
            return None;
        }
        (self.source, self.destination) = ([a, b, c, d], [e, f, g, h]);
        self.protocol = next;
        self.transport = transport as u16;
        self.is_v6 = true;
        if matches!(next, TCP | UDP | ICMPV6) {
            self.read_transport(buffer, transport, end, true)
        } else {
            extension_headers::skip(buffer, self, end)?;
            self.read_transport(buffer, self.transport.into(), end, false)
        }
    }

    #[inline(always)]
    fn read_transport(&mut self, buffer: impl Buffer, at: usize, end: usize, is_usual: bool) -> Option<()> {
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
        self.take_transport(if is_usual { buffer.read_words(at)? } else { buffer.load(at)? });
        if self.protocol == TCP {
            let flags_at = at + TCP_OFFSET_AND_FLAGS;
            let [word]: [u32; 1] = if is_usual { buffer.read_words(flags_at)? } else { buffer.load(flags_at)? };
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
        let both = u32::from_be(ports);
        let (high, low) = ((both >> 16) as u16, both as u16);
        match self.protocol {
            ICMP | ICMPV6 => {
                self.service = high;
                self.kind = Kind::of_icmp(self.is_v6, (high >> 8) as u8, high as u8);
                let id = (u32::from_be(word) >> 16) as u16;
                match self.kind {
                    Kind::EchoRequest => self.ports[0] = id,
                    Kind::EchoReply => self.ports[1] = id,
                    _ => (),
                }
            }
            TCP | UDP | UDP_LITE | SCTP | DCCP => {
                let in_memory = if cfg!(target_endian = "little") { both.rotate_left(16) } else { both };
                // SAFETY: both types have the same size. One store, because it is read as one word.
                self.ports = unsafe { transmute::<u32, [u16; 2]>(in_memory) };
                self.service = low;
            }
            _ => (),
        }
    }

    /// Both ports in one word, as they are transmitted.
    #[inline(always)]
    pub fn transmitted_ports(&self) -> u32 {
        let [[a, b], [c, d]] = self.ports.map(u16::to_be_bytes);
        u32::from_ne_bytes([a, b, c, d])
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
        // SAFETY: both types have the same size.
        let ports = unsafe { transmute::<[u16; 2], u32>(self.ports) };
        let ports = if is_from_first { ports } else { ports.rotate_left(16) };
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

/// Where a packet ends whose header counts `len` bytes from `from` on. A superpacket may be longer than a header can say; then
/// it says nothing.
#[inline(always)]
fn end(buffer: impl Buffer, from: usize, len: u16) -> usize {
    if len == 0 && buffer.gso_size() != 0 { buffer.len() } else { from + usize::from(len) }
}
