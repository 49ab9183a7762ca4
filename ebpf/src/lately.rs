//! What a CPU has looked up in this tick of the kernel's clock.
//!
//! Most packets go where one shortly before them has gone. So the tables are asked once in a tick, which is 1 to 10 ms; that they
//! have changed is noticed at the next one. Who may send and receive what is not kept here.

use overlane_abi::{Address, Vtep};

use crate::{
    clock, maps,
    parse::{Ethernet, Overlay},
};

/// MAC addresses of which each CPU keeps where they lead. A power of two.
const PLACES: usize = 64;

/// Where a MAC address on a network leads: to a tap of this host, or to a tunnel endpoint.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Route {
    /// When it was looked up.
    tick: u64,
    network: u32,
    /// The tap; 0 for an endpoint.
    pub ifindex: u32,
    mac: Mac,
    /// The endpoint; its interface is 0 if it is not known, or not how it is reached.
    pub vtep: Vtep,
}

/// The tap that a MAC address on a VXLAN network leads to, for packets from an endpoint that may send there.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Arrival {
    /// When it was looked up.
    tick: u64,
    vni: u32,
    ifindex: u32,
    mac: Mac,
    source: Address,
}

/// A MAC address, to be compared at once: the last two bytes are zero.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mac(u64);

impl Mac {
    #[inline(always)]
    fn of([a, b, c, d, e, f]: [u8; 6]) -> Self {
        Self(u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]))
    }

    /// By the last byte: where addresses are made at random they differ there, and where they are counted.
    #[inline(always)]
    fn place([.., last]: [u8; 6]) -> usize {
        usize::from(last) % PLACES
    }
}

/// Routes and arrivals, each at the place of its MAC address.
#[repr(C)]
pub struct Lately {
    routes: [Route; PLACES],
    arrivals: [Arrival; PLACES],
}

/// Where a frame for a MAC address on a network goes; `None` when that is not known.
#[inline(always)]
pub fn route(network: u32, mac: [u8; 6]) -> Option<&'static Route> {
    let scratch = maps::scratch()?;
    // SAFETY: it is this CPU's own, and a program looks for one route: nobody else holds it.
    let route = unsafe { &mut (*scratch).lately.routes[Mac::place(mac)] };
    let is_known = route.tick == clock::tick() && route.network == network && route.mac == Mac::of(mac);
    if !is_known && !look_up(route, network, mac) {
        return None;
    }
    Some(route)
}

/// Fills in where a MAC address leads, if that is known.
#[inline(never)]
fn look_up(route: &mut Route, network: u32, mac: [u8; 6]) -> bool {
    // Before the tables are read.
    let tick = clock::tick();
    route.tick = 0;
    let Some(owner) = maps::fdb(network, mac) else {
        return false;
    };
    (route.network, route.ifindex, route.mac) = (network, owner.ifindex, Mac::of(mac));
    match maps::vtep(&owner.vtep) {
        Some(vtep) => route.vtep = *vtep,
        None => route.vtep.ifindex = 0,
    }
    route.tick = tick;
    true
}

/// The tap that a packet from another host is for, if one like it has arrived in this tick.
#[inline(always)]
pub fn tap(overlay: &Overlay, inner: &Ethernet) -> Option<u32> {
    // SAFETY: as in `route`.
    let arrival = unsafe { &(*maps::scratch()?).lately.arrivals[Mac::place(inner.destination)] };
    let is_known = arrival.tick == clock::tick()
        && arrival.vni == overlay.vni
        && arrival.mac == Mac::of(inner.destination)
        && arrival.source == overlay.source;
    is_known.then_some(arrival.ifindex)
}

/// Notes which tap a packet is for, as looked up from `tick` on.
#[inline(always)]
pub fn note_tap(overlay: &Overlay, inner: &Ethernet, ifindex: u32, tick: u64) {
    let Some(scratch) = maps::scratch() else {
        return;
    };
    let (vni, source, mac) = (overlay.vni, overlay.source, Mac::of(inner.destination));
    // SAFETY: as in `route`.
    unsafe { (*scratch).lately.arrivals[Mac::place(inner.destination)] = Arrival { tick, vni, ifindex, mac, source } };
}
