//! Egress of a tap: what the port receives, whichever lane carried it.

use overlane_abi::Outcome;

use crate::{maps, skb::Skb, verdict::Verdict};

/// Lets the packet in. Security groups will decide here; until then this is the count of what a port receives.
#[inline(always)]
pub fn admit(skb: Skb) -> Verdict {
    match maps::port(skb.ifindex()) {
        Some(_) => Verdict::Pass(Outcome::Admitted),
        None => Verdict::Pass(Outcome::UnknownPort),
    }
}
