//! Ingress of a NIC that leads to other hosts: VXLAN from known endpoints, and the frames of a flat network, straight to
//! the tap they are for.

use overlane_abi::{DropReason, NetworkKey, Outcome};

use crate::{
    decap, maps,
    parse::{Ethernet, Overlay},
    skb::Skb,
    switch,
    verdict::Verdict,
};

/// Delivers what is for a port of this host; leaves the rest to the kernel.
#[inline(always)]
pub fn forward(skb: Skb) -> Verdict {
    let Some(frame) = Ethernet::outermost(skb) else {
        return Verdict::Pass(Outcome::NotOurs);
    };
    if frame.is_tagged(skb) {
        return Verdict::Pass(Outcome::NotOurs);
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
    if maps::vtep(&overlay.source).is_none() {
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
    if inner.is_group() {
        return Verdict::Pass(Outcome::Flood);
    }
    match maps::fdb(network.index, inner.destination) {
        Some(owner) if owner.ifindex != 0 => decap::deliver(skb, overlay, &inner, owner.ifindex),
        _ => Verdict::Pass(Outcome::UnknownDestination),
    }
}
