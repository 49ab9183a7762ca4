//! Ingress of a kernel `vxlan-<vni>` device: what the kernel has decapsulated, superpackets above all, past the bridge.

use overlane_abi::{NetworkKey, Outcome};

use crate::{buffer::Buffer as _, maps, parse::Ethernet, skb::Skb, switch, verdict::Verdict};

/// Hands what is for a port of this host to its tap, and everything else to the bridge.
#[inline(always)]
pub fn forward(skb: Skb) -> Verdict {
    let Some(network) = maps::network(NetworkKey::interface(skb.ifindex())) else {
        return Verdict::Pass(Outcome::UnknownPort);
    };
    let Some(frame) = Ethernet::outermost(skb) else {
        return Verdict::Pass(Outcome::Malformed);
    };
    if frame.is_tagged(skb) {
        return Verdict::Pass(Outcome::OtherEthertype);
    }
    switch::deliver(&frame, network)
}
