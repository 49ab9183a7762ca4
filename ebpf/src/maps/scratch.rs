//! Room to work in. A program has 512 bytes of stack, for all functions that are on their way together.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use overlane_abi::Flow;

use super::FlowKey;
use crate::{
    clock::Clock,
    lately::Lately,
    security::{Packet, Recents},
};

/// What is known of the packet in hand. It is this CPU's own: at all hooks, XDP's among them, programs run with bottom halves switched off, so
/// that none interrupts another.
#[repr(C)]
pub struct Scratch {
    pub clock: Clock,
    pub packet: Packet,
    pub key: FlowKey,
    /// The packet that an ICMP error quotes.
    pub quoted: Packet,
    pub quoted_key: FlowKey,
    /// A flow that begins.
    pub flow: Flow,
    /// What was admitted in this tick.
    pub recents: Recents,
    pub lately: Lately,
}

#[btf_map(name = "scratch")]
static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();

/// This CPU's room. But for the clock and what is recent, its content is whatever the packet before has left there.
#[inline(always)]
pub fn scratch() -> Option<*mut Scratch> {
    SCRATCH.get_ptr_mut(0)
}

/// The parts of it that a packet is judged by, and no others: who asks for a judgement may hold a route or an arrival.
#[inline(always)]
pub fn room_to_judge() -> Option<(&'static mut Packet, &'static mut FlowKey, &'static mut Clock, &'static mut Recents)>
{
    let scratch = scratch()?;
    // SAFETY: it is this CPU's own, and a packet is judged once at a port, by one function, which alone has these parts.
    unsafe { Some((&mut (*scratch).packet, &mut (*scratch).key, &mut (*scratch).clock, &mut (*scratch).recents)) }
}
