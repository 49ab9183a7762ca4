//! Ingress of a kernel `vxlan-<vni>` device: what the kernel has decapsulated, superpackets above all, past the bridge.

use overlane_abi::{NetworkKey, Outcome};

use crate::{maps, parse::Ethernet, skb::Skb, verdict::Verdict};

/// Hands what is for a port of this host to its tap, and everything else to the bridge.
#[inline(always)]
pub fn forward(skb: Skb) -> Verdict {
    let Some(network) = maps::network(NetworkKey::interface(skb.ifindex())) else {
        return Verdict::Pass(Outcome::UnknownPort);
    };
    let Some(frame) = Ethernet::outermost(skb) else {
        return Verdict::Pass(Outcome::Malformed);
    };
    if skb.has_vlan_tag() {
        return Verdict::Pass(Outcome::OtherEthertype);
    }
    if frame.is_group() {
        return Verdict::Pass(Outcome::Flood);
    }
    match maps::fdb(network.index, frame.destination) {
        Some(owner) if owner.ifindex != 0 => Verdict::Redirect(Outcome::Delivered, owner.ifindex),
        _ => Verdict::Pass(Outcome::UnknownDestination),
    }
}
