//! Egress of a tap: what the port receives, whichever lane carried it.

use overlane_abi::{Outcome, Port};

use crate::{maps, parse::Ethernet, security, skb::Skb, verdict::Verdict};

/// Lets the packet in, or not.
#[inline(always)]
pub fn admit(skb: Skb) -> Verdict {
    let Some(port) = maps::port(skb.ifindex()) else {
        return security::at_unknown_port();
    };
    if port.flags & Port::FILTERED == 0 {
        return Verdict::Pass(Outcome::Admitted);
    }
    let Some(frame) = Ethernet::outermost(skb) else {
        return Verdict::Pass(Outcome::Malformed);
    };
    match security::admit_received(skb, &frame, port) {
        Ok(()) => Verdict::Pass(Outcome::Admitted),
        Err(reason) => Verdict::Drop(reason),
    }
}
