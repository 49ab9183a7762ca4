//! Egress of a tap: what the port receives, whichever lane carried it.

use overlane_abi::{Outcome, Port};

use crate::{maps, security, skb::Skb, verdict::Verdict};

/// Lets the packet in, or not.
#[inline(always)]
pub fn admit(skb: Skb) -> Verdict {
    let Some(port) = maps::port(skb.ifindex()) else {
        return security::at_unknown_port();
    };
    if port.flags & Port::FILTERED == 0 {
        return Verdict::Pass(Outcome::Admitted);
    }
    match security::admit_received(skb, port) {
        Ok(()) => Verdict::Pass(Outcome::Admitted),
        Err(reason) => Verdict::Drop(reason),
    }
}
