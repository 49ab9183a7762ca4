//! Frames that arrive on a NIC with a VLAN tag.

use overlane_abi::{DropReason, Outcome, VlanId};

use crate::{
    buffer::Buffer as _,
    maps,
    parse::{Ethernet, VlanTag},
    skb::Skb,
    verdict::Verdict,
};

/// Hands what is for a port of this host to its tap, without the tag. The rest is the kernel lane's: it enters the VLAN's own
/// device, by the kernel's 8021q module or, where there is none, from here.
#[inline(always)]
pub fn receive(skb: Skb, frame: &Ethernet) -> Verdict {
    let Some(tag) = VlanTag::outermost(skb, frame) else {
        return Verdict::Pass(Outcome::NotOurs);
    };
    let vlan = tag.vid().and_then(|vid| maps::vlan(VlanId::new(skb.ifindex(), vid)));
    let Some(vlan) = vlan else {
        return Verdict::Pass(Outcome::NotOurs);
    };
    let to_kernel_lane = if frame.is_group() {
        Outcome::Flood
    } else if !tag.carries_ip() {
        // ARP among others: from questions and answers the bridge learns, and keeps knowing, who is out there.
        Outcome::OtherEthertype
    } else {
        match maps::fdb(vlan.network, frame.destination) {
            Some(owner) if owner.ifindex != 0 => {
                // As an 8021q device with the priorities mapped one to one.
                skb.set_priority(tag.priority());
                return pop(skb, Verdict::Redirect(Outcome::Decapsulated, owner.ifindex));
            }
            _ => Outcome::UnknownDestination,
        }
    };
    match vlan.device {
        0 => Verdict::Pass(to_kernel_lane),
        device => pop(skb, Verdict::enter(to_kernel_lane, device)),
    }
}

/// A frame that keeps its tag must not go on: the NIC may be in the bridge of another network.
#[inline(always)]
pub fn pop(skb: Skb, verdict: Verdict) -> Verdict {
    match skb.pop_vlan_tag() {
        Ok(()) => verdict,
        Err(_) => Verdict::Drop(DropReason::RewriteFailed),
    }
}
