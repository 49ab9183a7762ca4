//! Ingress of an underlay NIC: VXLAN from known endpoints, straight to the tap it is for.

use overlane_abi::{DropReason, NetworkKey, Outcome};

use crate::{
    decap, maps,
    parse::{Ethernet, Overlay},
    skb::Skb,
    verdict::Verdict,
};

/// Decapsulates what is for a port of this host; leaves the rest to the kernel's own vxlan device.
#[inline(always)]
pub fn forward(skb: Skb) -> Verdict {
    let Some(frame) = Ethernet::outermost(skb) else {
        return Verdict::Pass(Outcome::NotOurs);
    };
    if skb.has_vlan_tag() {
        return Verdict::Pass(Outcome::NotOurs);
    }
    let overlay = match Overlay::parse(skb, &frame, maps::vxlan_port()) {
        None => return Verdict::Pass(Outcome::NotOurs),
        Some(Err(truncated)) if truncated.destination == maps::local_vtep() => {
            return Verdict::Drop(DropReason::TruncatedOverlay);
        }
        Some(Ok(overlay)) if overlay.destination == maps::local_vtep() => overlay,
        Some(_) => return Verdict::Pass(Outcome::NotOurs),
    };
    let Some(network) = maps::network(NetworkKey::vni(overlay.vni)) else {
        return Verdict::Pass(Outcome::UnknownNetwork);
    };
    if maps::vtep(&overlay.source).is_none() {
        return Verdict::Drop(DropReason::UnknownVtep);
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
        Some(owner) if owner.ifindex != 0 => decap::deliver(skb, &overlay, &inner, owner.ifindex),
        _ => Verdict::Pass(Outcome::UnknownDestination),
    }
}
