//! Subports of trunks: ports whose frames go through the tap of another port, with a tag.
//!
//! A subport has a device of its own, which is like a tap in every respect; here is what leads from it to the trunk's tap and
//! back. Where the kernel has an 8021q module, the device is one of its own, which tags by itself.

use overlane_abi::{DropReason, Outcome, Vlan, VlanId};

use crate::{
    buffer::Buffer as _,
    maps,
    parse::{Ethernet, VlanTag},
    skb::Skb,
    to_vlan,
    verdict::Verdict,
    vlan,
};

/// The subport that the tag of a frame at a tap is for.
#[inline(always)]
fn subport(skb: Skb, frame: &Ethernet) -> Option<&'static Vlan> {
    let vid = VlanTag::outermost(skb, frame)?.vid()?;
    maps::vlan(VlanId::new(skb.ifindex(), vid))
}

/// Takes what a subport sends to its device, whose own programs say what becomes of it. `None`: the tag is no subport's.
#[inline(always)]
pub fn receive(skb: Skb, frame: &Ethernet) -> Option<Verdict> {
    let subport = subport(skb, frame)?;
    Some(match subport.device {
        // The kernel's 8021q module takes it there.
        0 => Verdict::Pass(Outcome::OtherEthertype),
        device => vlan::pop(skb, Verdict::enter(Outcome::Decapsulated, device)),
    })
}

/// Lets a frame with the tag of a subport through a trunk's tap if it comes from the subport's device, where it was judged.
/// The same tag from anywhere else would get past the rules and into the network of the subport. `None`: the tag is no subport's.
#[inline(always)]
pub fn admit(skb: Skb) -> Option<Verdict> {
    let frame = Ethernet::outermost(skb).filter(|frame| frame.is_tagged(skb))?;
    subport(skb, &frame)?;
    Some(if skb.take_subports_mark() {
        Verdict::Pass(Outcome::Admitted)
    } else {
        Verdict::Drop(DropReason::VlanTagged)
    })
}

/// Sends what a subport receives to its trunk's tap.
#[inline(always)]
pub fn send(skb: Skb) -> Verdict {
    skb.mark_as_subports();
    match maps::vlan_device(skb.ifindex()) {
        Some(vlan) => to_vlan::send(skb, vlan, Outcome::Admitted),
        // The kernel's 8021q module goes on.
        None => Verdict::Pass(Outcome::Admitted),
    }
}
