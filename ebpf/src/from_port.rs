//! Ingress of a tap: what the port sends.

use network_types::eth::EthHdr;
use overlane_abi::{Outcome, Port};

use crate::{
    buffer::Buffer as _,
    encap, lately, maps,
    parse::{Ethernet, InnerIp},
    qos, respond, security, size,
    skb::Skb,
    too_big, trunk,
    verdict::Verdict,
};

/// Admits, limits and marks, answers, switches locally, encapsulates, or leaves the packet to the bridge.
#[inline(always)]
pub fn forward(skb: Skb) -> Verdict {
    let port = maps::port(skb.ifindex());
    let Some(frame) = Ethernet::outermost(skb) else {
        return port.map_or_else(security::at_unknown_port, |_| Verdict::Pass(Outcome::Malformed));
    };
    if frame.is_tagged(skb)
        && let Some(verdict) = trunk::receive(skb, &frame)
    {
        return verdict;
    }
    let Some(port) = port else {
        return security::at_unknown_port();
    };
    if port.flags & Port::SECURED != 0
        && let Err(reason) = security::admit_sent(skb, &frame, port)
    {
        return Verdict::Drop(reason);
    }
    if port.flags & Port::QOS != 0
        && let Err(reason) = qos::apply(skb, &frame)
    {
        return Verdict::Drop(reason);
    }
    if !maps::is_forwarding() {
        return Verdict::Pass(Outcome::ForwardingOff);
    }
    if frame.is_tagged(skb) {
        return Verdict::Pass(Outcome::OtherEthertype);
    }
    if frame.is_group() {
        return respond::answer(skb, &frame, port).unwrap_or(Verdict::Pass(Outcome::Flood));
    }
    if let Some(verdict) = refuse_what_the_network_does_not_take(skb, &frame, port) {
        return verdict;
    }
    let Some(route) = lately::route(port.network, frame.destination) else {
        return Verdict::Pass(Outcome::UnknownDestination);
    };
    if route.ifindex == skb.ifindex() {
        return Verdict::Pass(Outcome::NotOurs);
    }
    if route.ifindex != 0 {
        return Verdict::Redirect(Outcome::Delivered, route.ifindex);
    }
    encap::encapsulate(skb, &frame, port.vni, &route.vtep)
        .unwrap_or_else(|too_big| too_big::answer(skb, &frame, too_big.mtu))
}

/// What is too big for the network is so whichever lane it would take, and whether or not its destination is known: a bridge
/// would drop it without a word.
#[inline(always)]
fn refuse_what_the_network_does_not_take(skb: Skb, frame: &Ethernet, port: &Port) -> Option<Verdict> {
    let mtu = port.mtu as usize;
    // All that a packet of usual size costs. A superpacket is longer, though its segments fit.
    if mtu == 0 || size::of_packet(skb) <= mtu {
        return None;
    }
    let ip = InnerIp::at(skb, frame, EthHdr::LEN)?;
    let is_too_big = size::on_the_wire(skb, &ip)? > mtu;
    is_too_big.then(|| too_big::answer(skb, frame, port.mtu))
}
