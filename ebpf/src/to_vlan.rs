//! Egress of a `<nic>.<vid>` device where the kernel has no 8021q: its frames leave by the NIC, with their tag.

use overlane_abi::{DropReason, Outcome, VlanId};

use crate::{buffer::Buffer as _, maps, parse::PCP_SHIFT, skb::Skb, verdict::Verdict};

/// The priorities that a tag has room for. What else a packet's priority can say (a traffic class) is none of the tag's.
const PCP_MAX: u32 = 7;

/// Tags the frame and sends it by the NIC. A tag that it has already stays, behind the new one.
#[inline(always)]
pub fn tag(skb: Skb) -> Verdict {
    match maps::vlan_device(skb.ifindex()) {
        Some(vlan) => send(skb, vlan, Outcome::Encapsulated),
        None => Verdict::Pass(Outcome::UnknownPort),
    }
}

/// Sends the frame into a VLAN by the interface that carries it.
#[inline(always)]
pub fn send(skb: Skb, vlan: &VlanId, outcome: Outcome) -> Verdict {
    let priority = skb.priority();
    let pcp = if priority <= PCP_MAX { priority as u16 } else { 0 };
    // The device itself has nothing to send with: a frame that cannot be tagged is lost.
    if skb.push_vlan_tag(pcp << PCP_SHIFT | vlan.vid).is_err() {
        return Verdict::Drop(DropReason::RewriteFailed);
    }
    Verdict::Redirect(outcome, vlan.nic)
}
