//! What a CPU has admitted in this tick of the clock.
//!
//! A flow that sends many packets in a tick asks the connection table once in it. Everything else that [`super::conntrack::knows`]
//! looks at is compared again with every packet; what other packets do to the flow is seen in the next tick, or at once if they
//! come on the same CPU.

use network_types::{
    eth::{EthHdr, EtherType},
    ip::{Ipv4Hdr, Ipv6Hdr},
};
use overlane_abi::{Direction, Port};

use crate::{
    buffer::Buffer,
    clock, maps,
    parse::{Ethernet, TCP, UDP},
    security::{
        Case,
        kind::Kind,
        packet::{DATAGRAM_LEN, FRAGMENT_OFFSET, MORE_FRAGMENTS, Packet, TCP_LEN},
    },
};

/// A packet that was one more of a flow, and where it was admitted: as long as a line of a processor's cache, and what IPv4 needs
/// of it comes first.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Recent {
    /// When.
    tick: u64,
    /// The last word of the source address.
    source: u32,
    destination: u32,
    /// Source and destination port, as they are transmitted.
    ports: u32,
    network: u32,
    ifindex: u32,
    revision: u32,
    /// As in `FlowEnd`.
    generation: u32,
    protocol: u8,
    is_v6: bool,
    pad: [u8; 2],
    /// The other words of the source address.
    source_start: [u32; 3],
    destination_start: [u32; 3],
}

/// Version 4, and a header of five words.
const VERSION_AND_LEN_V4: u8 = 0x45;

/// Packets of which each CPU keeps the last one: one flow, one direction. A power of two.
const PLACES: usize = 256;

impl Recent {
    /// Whether all but the last words of the addresses are those of an IPv6 packet.
    #[inline(always)]
    fn addresses_start_as_in(&self, buffer: impl Buffer) -> bool {
        let addresses: Option<[u32; 8]> = buffer.read_words(EthHdr::LEN + 8);
        addresses.is_some_and(|[a, b, c, _, e, f, g, _]| {
            self.source_start == [a, b, c] && self.destination_start == [e, f, g]
        })
    }
}

/// Whether a packet at a port is one more of a flow: like one that was admitted there in this tick, on this CPU.
#[inline(never)]
pub fn is_recent(buffer: impl Buffer, frame: &Ethernet, port: &Port, direction: Direction) -> bool {
    let (Some(scratch), Some(glance)) = (maps::scratch(), Glance::at(buffer, frame)) else {
        return false;
    };
    // SAFETY: it is this CPU's own, and nobody else holds this part of it.
    let recents = unsafe { &(*scratch).recents };
    let recent = &recents.0[place(glance.source, glance.destination, glance.ports, direction)];
    recent.tick == clock::tick()
        && recent.ports == glance.ports
        && recent.source == glance.source
        && recent.destination == glance.destination
        && recent.protocol == glance.protocol
        && recent.is_v6 == glance.is_v6
        && (!glance.is_v6 || recent.addresses_start_as_in(buffer))
        && recent.network == port.network
        && recent.ifindex == buffer.ifindex()
        && recent.revision == port.revision
        && (recent.generation == 0 || recent.generation == maps::generation())
}

/// What a CPU has admitted lately.
#[repr(transparent)]
pub struct Recents([Recent; PLACES]);

impl Recents {
    /// Notes that a packet was admitted, by the connection table, to which nothing was done.
    #[inline(always)]
    pub(super) fn note(&mut self, case: &Case<impl Buffer>, generation: u32) {
        let packet = case.packet;
        let [source_start @ .., source] = packet.source;
        let [destination_start @ .., destination] = packet.destination;
        let ports = packet.transmitted_ports();
        self.0[place(source, destination, ports, case.direction)] = Recent {
            tick: clock::tick(),
            source,
            destination,
            ports,
            network: case.port.network,
            ifindex: case.ifindex,
            revision: case.port.revision,
            generation,
            protocol: packet.protocol,
            is_v6: packet.is_v6,
            pad: [0; 2],
            source_start,
            destination_start,
        };
    }

    /// Forgets what was noted of a packet's flow: something may be done to it.
    #[inline(always)]
    pub fn forget(&mut self, packet: &Packet) {
        for direction in [Direction::Egress, Direction::Ingress] {
            let place = place(packet.source[3], packet.destination[3], packet.transmitted_ports(), direction);
            self.0[place].tick = 0;
        }
    }
}

/// Where the last packet of a flow in one direction is kept, by the last words of its addresses; both directions have places next
/// to each other.
#[inline(always)]
fn place(source: u32, destination: u32, ports: u32, direction: Direction) -> usize {
    let mixed = (source ^ destination ^ (ports ^ ports >> 16) & 0xffff).wrapping_mul(0x9e37_79b1);
    ((mixed >> (32 - PLACES.ilog2())) & !1 | direction as u32 & 1) as usize
}

/// A packet that does nothing to its flow: UDP, and TCP that only acknowledges, in whole IP packets without options or extension
/// headers.
///
/// Of all that [`Packet::read`] finds out it has only what tells such packets from others, and in registers: that nearly every
/// packet gets no further is what makes security groups cheap.
struct Glance {
    /// As in [`Recent`].
    source: u32,
    destination: u32,
    ports: u32,
    protocol: u8,
    is_v6: bool,
}

impl Glance {
    /// `None` also where the packet is malformed, or a superpacket whose length no header can say.
    #[inline(always)]
    fn at(buffer: impl Buffer, frame: &Ethernet) -> Option<Self> {
        if frame.carries(EtherType::Ipv4) {
            let [start, part, kind, source, destination]: [u32; 5] = buffer.read_words(EthHdr::LEN)?;
            let [version_and_len, _, len @ ..] = start.to_ne_bytes();
            if version_and_len != VERSION_AND_LEN_V4 || u32::from_be(part) & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0 {
                return None;
            }
            let [_, protocol, _, _] = kind.to_ne_bytes();
            let end = EthHdr::LEN + usize::from(u16::from_be_bytes(len));
            let ports = ports(buffer, protocol, EthHdr::LEN + Ipv4Hdr::LEN, end)?;
            Some(Self { source, destination, ports, protocol, is_v6: false })
        } else if frame.carries(EtherType::Ipv6) {
            let [start, len_and_next, _, _, _, source, _, _, _, destination]: [u32; 10] =
                buffer.read_words(EthHdr::LEN)?;
            if u32::from_be(start) >> 28 != 6 {
                return None;
            }
            let [len_high, len_low, protocol, _] = len_and_next.to_ne_bytes();
            let transport = EthHdr::LEN + Ipv6Hdr::LEN;
            let end = transport + usize::from(u16::from_be_bytes([len_high, len_low]));
            let ports = ports(buffer, protocol, transport, end)?;
            Some(Self { source, destination, ports, protocol, is_v6: true })
        } else {
            None
        }
    }
}

/// The ports of a packet that ends at `end`, if it does nothing to its flow.
#[inline(always)]
fn ports(buffer: impl Buffer, protocol: u8, at: usize, end: usize) -> Option<u32> {
    if end > buffer.len() {
        return None;
    }
    match protocol {
        UDP => {
            let [ports, _]: [u32; DATAGRAM_LEN / 4] = buffer.read_words(at)?;
            (at + DATAGRAM_LEN <= end).then_some(ports)
        }
        TCP => {
            let [ports, _, _, offset_and_flags, _]: [u32; TCP_LEN / 4] = buffer.read_words(at)?;
            let [data_offset, flags, _, _] = offset_and_flags.to_ne_bytes();
            let header_len = usize::from(data_offset >> 4) * 4;
            let is_whole = header_len >= TCP_LEN && at + header_len <= end;
            (is_whole && Kind::of_tcp(flags) == Kind::Ack).then_some(ports)
        }
        _ => None,
    }
}
