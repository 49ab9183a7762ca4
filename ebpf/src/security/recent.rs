//! What a CPU has admitted in this tick of the clock.
//!
//! A flow that sends many packets in a tick asks the connection table once in it. Everything else that [`super::conntrack::knows`]
//! looks at is compared again with every packet; what other packets do to the flow is seen in the next tick, or at once if they
//! come on the same CPU.

use overlane_abi::{Direction, Port};

use crate::{
    maps,
    security::{
        kind::Kind,
        packet::{Packet, Part},
    },
};

/// A packet that was one more of a flow, and where it was admitted: as long as a line of a processor's cache, and what IPv4 needs
/// of it comes first.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Recent {
    /// When: ticks as [`crate::clock::Clock`] counts them.
    tick: u64,
    /// The last word of the source address.
    source: u32,
    destination: u32,
    ports: [u16; 2],
    network: u32,
    ifindex: u32,
    revision: u32,
    /// As in `FlowEnd`.
    generation: u32,
    // What kind of packet it is: one of the flow that does not change it may not stand for one that does. Not next to each other:
    // the compiler would read the packet's, which were written one by one, as one word, for which the processor has to wait.
    protocol: u8,
    is_v6: bool,
    kind: Kind,
    pad: u8,
    /// The other words of the source address.
    source_start: [u32; 3],
    destination_start: [u32; 3],
}

/// Packets of which each CPU keeps the last one: one flow, one direction. A power of two.
pub const PLACES: usize = 256;

/// A packet at a port, as it is compared.
#[derive(Clone, Copy)]
pub struct Visit<'a> {
    pub packet: &'a Packet,
    pub port: &'a Port,
    pub ifindex: u32,
    pub direction: Direction,
    pub tick: u64,
    /// What this CPU keeps.
    pub recent: *mut [Recent; PLACES],
}

impl Visit<'_> {
    /// Whether the same was admitted in this tick.
    #[inline(always)]
    pub fn is_recent(&self) -> bool {
        let packet = self.packet;
        if packet.fragment.part != Part::Whole {
            return false;
        }
        // SAFETY: it is this CPU's own, and TC programs do not interrupt each other.
        let recent = unsafe { &*self.place(self.direction) };
        recent.tick == self.tick
            && recent.ports == packet.ports
            && recent.source == packet.source[3]
            && recent.destination == packet.destination[3]
            && recent.protocol == packet.protocol
            && recent.is_v6 == packet.is_v6
            && recent.kind == packet.kind
            && (!packet.is_v6
                || (starts_with(&packet.source, &recent.source_start)
                    && starts_with(&packet.destination, &recent.destination_start)))
            && recent.network == self.port.network
            && recent.ifindex == self.ifindex
            && recent.revision == self.port.revision
            && (recent.generation == 0 || recent.generation == maps::generation())
    }

    /// Notes that it was admitted, by the connection table, to which nothing was done.
    #[inline(always)]
    pub fn note(&self, generation: u32) {
        let packet = self.packet;
        let [source_start @ .., source] = packet.source;
        let [destination_start @ .., destination] = packet.destination;
        // SAFETY: as above.
        let recent = unsafe { &mut *self.place(self.direction) };
        recent.tick = self.tick;
        (recent.source, recent.destination, recent.ports) = (source, destination, packet.ports);
        (recent.network, recent.ifindex, recent.revision) = (self.port.network, self.ifindex, self.port.revision);
        (recent.generation, recent.protocol) = (generation, packet.protocol);
        (recent.is_v6, recent.kind) = (packet.is_v6, packet.kind);
        (recent.source_start, recent.destination_start) = (source_start, destination_start);
    }

    /// Forgets what was noted of the flow: something may be done to it.
    #[inline(always)]
    pub fn forget(&self) {
        for direction in [Direction::Egress, Direction::Ingress] {
            // SAFETY: as above.
            unsafe { (*self.place(direction)).tick = 0 };
        }
    }

    /// Where the last packet of the flow in one direction is kept; both directions have places next to each other.
    #[inline(always)]
    fn place(&self, direction: Direction) -> *mut Recent {
        let packet = self.packet;
        let ports = u32::from(packet.ports[0] ^ packet.ports[1]);
        let mixed = (packet.source[3] ^ packet.destination[3] ^ ports).wrapping_mul(0x9e37_79b1);
        let index = (mixed >> (32 - PLACES.ilog2())) & !1 | direction as u32 & 1;
        // SAFETY: a number of as many bits as there are places.
        unsafe { self.recent.cast::<Recent>().add(index as usize) }
    }
}

/// Whether an address begins with these words; the last one is compared anyway.
#[inline(always)]
fn starts_with(address: &[u32; 4], start: &[u32; 3]) -> bool {
    address[0] == start[0] && address[1] == start[1] && address[2] == start[2]
}
