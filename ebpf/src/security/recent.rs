//! What a CPU has admitted in this tick of the clock.
//!
//! A flow that sends many packets in a tick asks the connection table once in it. Everything else that [`super::conntrack::knows`]
//! looks at is compared again with every packet; what other packets do to the flow is seen in the next tick, or at once if they
//! come on the same CPU.

use overlane_abi::{Direction, Port};

use crate::{
    maps,
    security::packet::{Packet, Part},
};

/// A packet that was one more of a flow, and where it was admitted.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Recent {
    /// When: ticks as [`crate::clock::Clock`] counts them.
    tick: u64,
    source: [u32; 4],
    destination: [u32; 4],
    ports: [u16; 2],
    network: u32,
    ifindex: u32,
    revision: u32,
    /// As in `FlowEnd`.
    generation: u32,
    /// What kind of packet it is: one of the flow that does not change it may not stand for one that does.
    what: u32,
}

/// Packets of which each CPU keeps the last one: one flow, one direction. A power of two.
pub const PLACES: usize = 512;

/// A packet at a port, as it is compared.
#[derive(Clone, Copy)]
pub struct Visit<'a> {
    pub packet: &'a Packet,
    pub port: &'a Port,
    pub ifindex: u32,
    pub direction: Direction,
    pub tick: u64,
}

impl Visit<'_> {
    /// Whether the same was admitted in this tick.
    #[inline(always)]
    pub fn is_recent(&self) -> bool {
        let packet = self.packet;
        if packet.fragment.part != Part::Whole {
            return false;
        }
        let Some(recent) = maps::recent(place(packet, self.direction)) else {
            return false;
        };
        // SAFETY: it is this CPU's own, and TC programs do not interrupt each other.
        let recent = unsafe { &*recent };
        recent.tick == self.tick
            && recent.ports == packet.ports
            && recent.source[3] == packet.source[3]
            && recent.destination[3] == packet.destination[3]
            && recent.what == what(packet)
            && (!packet.is_v6
                || (is_same(&recent.source, &packet.source) && is_same(&recent.destination, &packet.destination)))
            && recent.network == self.port.network
            && recent.ifindex == self.ifindex
            && recent.revision == self.port.revision
            && (recent.generation == 0 || recent.generation == maps::generation())
    }

    /// Notes that it was admitted, by the connection table, to which nothing was done.
    #[inline(always)]
    pub fn note(&self, generation: u32) {
        let packet = self.packet;
        let Some(recent) = maps::recent(place(packet, self.direction)) else {
            return;
        };
        // SAFETY: as above.
        let recent = unsafe { &mut *recent };
        recent.tick = self.tick;
        (recent.source, recent.destination, recent.ports) = (packet.source, packet.destination, packet.ports);
        (recent.network, recent.ifindex, recent.revision) = (self.port.network, self.ifindex, self.port.revision);
        (recent.generation, recent.what) = (generation, what(packet));
    }

    /// Forgets what was noted of the flow: something may be done to it.
    #[inline(always)]
    pub fn forget(&self) {
        for direction in [Direction::Egress, Direction::Ingress] {
            if let Some(recent) = maps::recent(place(self.packet, direction)) {
                // SAFETY: as above.
                unsafe { (*recent).tick = 0 };
            }
        }
    }
}

/// The first three of four words; the last one is compared anyway.
#[inline(always)]
fn is_same(a: &[u32; 4], b: &[u32; 4]) -> bool {
    a[0] == b[0] && a[1] == b[1] && a[2] == b[2]
}

/// Protocol, family, and what the packet does to its flow.
#[inline(always)]
fn what(packet: &Packet) -> u32 {
    u32::from_ne_bytes([packet.protocol, packet.kind as u8, packet.is_v6.into(), 0])
}

/// Where the last packet of a flow in one direction is kept; both directions have places next to each other.
#[inline(always)]
fn place(packet: &Packet, direction: Direction) -> u32 {
    let ports = u32::from(packet.ports[0] ^ packet.ports[1]);
    let mixed = (packet.source[3] ^ packet.destination[3] ^ ports).wrapping_mul(0x9e37_79b1);
    (mixed >> (32 - PLACES.ilog2())) & !1 | direction as u32 & 1
}
