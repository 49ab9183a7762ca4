//! Ingress of a NIC that leads to other hosts: VXLAN from known endpoints, and the frames of flat and VLAN networks, straight
//! to the tap they are for.

use overlane_abi::{Address, DropReason, Network, NetworkKey, Outcome};

use crate::{
    buffer::Buffer as _,
    clock, decap, lately, maps,
    parse::{Ethernet, Overlay},
    skb::Skb,
    switch,
    verdict::Verdict,
    vlan,
};

/// Delivers what is for a port of this host; leaves the rest to the kernel.
#[inline(always)]
pub fn forward(skb: Skb) -> Verdict {
    let Some(frame) = Ethernet::outermost(skb) else {
        return Verdict::Pass(Outcome::NotOurs);
    };
    if frame.is_tagged(skb) {
        return vlan::receive(skb, &frame);
    }
    match Overlay::parse(skb, &frame, maps::vxlan_port()) {
        Some(Err(truncated)) if truncated.destination == maps::local_vtep() => {
            Verdict::Drop(DropReason::TruncatedOverlay)
        }
        Some(Ok(overlay)) if overlay.destination == maps::local_vtep() => from_tunnel(skb, &overlay),
        _ => match maps::network(NetworkKey::interface(skb.ifindex())) {
            Some(flat) => switch::deliver(&frame, flat),
            None => Verdict::Pass(Outcome::NotOurs),
        },
    }
}

/// Decapsulates what is for a port of this host; leaves the rest to the kernel's own vxlan device.
#[inline(always)]
fn from_tunnel(skb: Skb, overlay: &Overlay) -> Verdict {
    match arrived_lately(skb, overlay).map_or_else(|| look_up(skb, overlay), Ok) {
        Ok((inner, tap)) => decap::deliver(skb, overlay, &inner, tap),
        Err(verdict) => verdict,
    }
}

/// The inner Ethernet header of a packet like one that has just arrived, and the tap that it is for.
#[inline(always)]
fn arrived_lately(skb: Skb, overlay: &Overlay) -> Option<(Ethernet, u32)> {
    let inner = Ethernet::at(skb, overlay.header_len)?;
    if skb.gso_size() != 0 {
        return None;
    }
    lately::tap(overlay, &inner).map(|tap| (inner, tap))
}

/// The same for any packet, or why it has none.
#[inline(always)]
fn look_up(skb: Skb, overlay: &Overlay) -> Result<(Ethernet, u32), Verdict> {
    let tick = clock::tick();
    let Some(network) = maps::network(NetworkKey::vni(overlay.vni)) else {
        return Err(Verdict::Pass(Outcome::UnknownNetwork));
    };
    let learns = network.flags & Network::LEARNS != 0;
    let has_known_vteps = !learns || network.flags & Network::HAS_KNOWN_VTEPS != 0;
    if has_known_vteps && maps::vtep(&overlay.source).is_none() {
        return Err(if maps::vteps_are_incomplete() {
            Verdict::Pass(Outcome::UnresolvedVtep)
        } else {
            Verdict::Drop(DropReason::UnknownVtep)
        });
    }
    if skb.gso_size() != 0 {
        return Err(Verdict::Pass(Outcome::Gso));
    }
    let Some(inner) = Ethernet::at(skb, overlay.header_len) else {
        return Err(Verdict::Pass(Outcome::Malformed));
    };
    if learns && !is_known_behind(network, inner.source, &overlay.source) {
        forget_elsewhere(network, inner.source);
        return Err(Verdict::Pass(Outcome::UnknownSource));
    }
    if inner.is_group() {
        return Err(Verdict::Pass(Outcome::Flood));
    }
    let Some(owner) = maps::fdb(network.index, inner.destination).filter(|owner| owner.ifindex != 0) else {
        return Err(Verdict::Pass(Outcome::UnknownDestination));
    };
    // Where senders are learned they are looked for each time.
    if !learns {
        lately::note_tap(overlay, &inner, owner.ifindex, tick);
    }
    Ok((inner, owner.ifindex))
}

/// A sender that has moved here is followed at once, also while no agent runs: what is for it is left to the kernel, which learns
/// where it is now.
#[inline(always)]
fn forget_elsewhere(network: &Network, mac: [u8; 6]) {
    if maps::fdb(network.index, mac).is_some_and(|owner| owner.ifindex == 0) {
        maps::forget(network.index, mac);
    }
}

/// Whether the kernel has learned that a MAC address is behind a tunnel endpoint.
#[inline(always)]
fn is_known_behind(network: &Network, mac: [u8; 6], vtep: &Address) -> bool {
    maps::fdb(network.index, mac).is_some_and(|owner| owner.ifindex == 0 && owner.vtep == *vtep)
}
