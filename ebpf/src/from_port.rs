//! Ingress of a tap: what the port sends.

use overlane_abi::Outcome;

use crate::{encap, maps, parse::Ethernet, respond, skb::Skb, verdict::Verdict};

/// Answers, switches locally, encapsulates, or leaves the packet to the bridge.
#[inline(always)]
pub fn forward(skb: Skb) -> Verdict {
    let Some(port) = maps::port(skb.ifindex()) else {
        return Verdict::Pass(Outcome::UnknownPort);
    };
    let Some(frame) = Ethernet::outermost(skb) else {
        return Verdict::Pass(Outcome::Malformed);
    };
    if frame.is_tagged(skb) {
        return Verdict::Pass(Outcome::OtherEthertype);
    }
    if frame.is_group() {
        return respond::answer(skb, &frame, port).unwrap_or(Verdict::Pass(Outcome::Flood));
    }
    let Some(owner) = maps::fdb(port.network, frame.destination) else {
        return Verdict::Pass(Outcome::UnknownDestination);
    };
    if owner.ifindex == skb.ifindex() {
        return Verdict::Pass(Outcome::NotOurs);
    }
    if owner.ifindex != 0 {
        return Verdict::Redirect(Outcome::Delivered, owner.ifindex);
    }
    encap::encapsulate(skb, &frame, port.vni, &owner.vtep)
}
