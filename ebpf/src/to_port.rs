//! Egress of a tap: what the port receives, whichever lane carried it.

use overlane_abi::{Outcome, Port};

use crate::{buffer::Buffer as _, maps, security, skb::Skb, trunk, verdict::Verdict};

/// Lets the packet in, or not.
#[inline(always)]
pub fn admit(skb: Skb) -> Verdict {
    let Some(port) = maps::port(skb.ifindex()) else {
        return security::at_unknown_port();
    };
    if port.flags & Port::TRUNK != 0
        && let Some(verdict) = trunk::admit(skb)
    {
        return verdict;
    }
    if port.flags & Port::FILTERED != 0
        && let Err(reason) = security::admit_received(skb, port)
    {
        return Verdict::Drop(reason);
    }
    if port.flags & Port::SUBPORT != 0 {
        return trunk::send(skb);
    }
    Verdict::Pass(Outcome::Admitted)
}
