//! Ingress of a NIC that leads to other hosts: VXLAN from known endpoints, and the frames of flat and VLAN networks, straight
//! to the tap they are for.

use overlane_abi::{Address, DropReason, Network, NetworkKey, Outcome};

use crate::{
    buffer::Buffer as _,
    decap, maps,
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
    let Some(network) = maps::network(NetworkKey::vni(overlay.vni)) else {
        return Verdict::Pass(Outcome::UnknownNetwork);
    };
    let learns = network.flags & Network::LEARNS != 0;
    let has_known_vteps = !learns || network.flags & Network::HAS_KNOWN_VTEPS != 0;
    if has_known_vteps && maps::vtep(&overlay.source).is_none() {
        return if maps::vteps_are_incomplete() {
            Verdict::Pass(Outcome::UnresolvedVtep)
        } else {
            Verdict::Drop(DropReason::UnknownVtep)
        };
    }
    if skb.gso_size() != 0 {
        return Verdict::Pass(Outcome::Gso);
    }
    let Some(inner) = Ethernet::at(skb, overlay.header_len) else {
        return Verdict::Pass(Outcome::Malformed);
    };
    if learns && !is_known_behind(network, inner.source, &overlay.source) {
        forget_elsewhere(network, inner.source);
        return Verdict::Pass(Outcome::UnknownSource);
    }
    if inner.is_group() {
        return Verdict::Pass(Outcome::Flood);
    }
    match maps::fdb(network.index, inner.destination) {
        Some(owner) if owner.ifindex != 0 => decap::deliver(skb, overlay, &inner, owner.ifindex),
        _ => Verdict::Pass(Outcome::UnknownDestination),
    }
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
