//! XDP at a NIC that leads to other hosts: VXLAN from known endpoints, straight to the tap it is for.

use core::hint::black_box;

use overlane_abi::{Network, NetworkKey, Outcome};

use crate::{
    clock, decap, ecn, lately, maps,
    parse::{Ethernet, InnerIp, Overlay, TCP},
    verdict::Verdict,
    xdp::{IP, Payload, XdpBuff},
};

/// Decapsulates what is for a port of this host. Left to the TC lane: TCP, which needs the kernel to merge its packets (GRO), what is to be
/// dropped, and all that is not as usual.
#[inline(always)]
pub fn forward(buff: XdpBuff) -> Option<Verdict> {
    let frame = Ethernet::at(buff, 0)?;
    let overlay = Overlay::parse(buff, &frame, maps::vxlan_port())?.ok()?;
    if overlay.destination != maps::local_vtep() {
        return None;
    }
    // As if it were not known which of two it is: the compiler would check the bounds of both at once, which the verifier does not follow.
    let inner = Ethernet::at(buff, black_box(overlay.header_len))?;
    let tap = lately::tap(&overlay, &inner).or_else(|| look_up(&overlay, &inner))?;
    let ip = InnerIp::at(buff, &inner, overlay.header_len + IP)?;
    if ip.protocol == TCP {
        return None;
    }
    let ecn = ecn::combine(overlay.traffic_class, ip.traffic_class)?;
    let payload = Payload::at(buff, &ip, overlay.header_len + IP)?;
    if !payload.is_finished() || !buff.is_in_one_piece() || !maps::sends_by_xdp(tap) {
        return None;
    }
    decap::set_ecn_xdp(buff, &ip, overlay.header_len + IP, ecn).ok()?;
    buff.move_start(overlay.header_len as i32).ok()?;
    Some(Verdict::Redirect(Outcome::Decapsulated, tap))
}

/// The tap that a packet is for, if XDP may carry it.
#[inline(always)]
fn look_up(overlay: &Overlay, inner: &Ethernet) -> Option<u32> {
    let tick = clock::tick();
    let network = maps::network(NetworkKey::vni(overlay.vni))?;
    if network.flags & Network::LEARNS != 0 || inner.is_group() {
        return None;
    }
    maps::vtep(&overlay.source)?;
    let owner = maps::fdb(network.index, inner.destination).filter(|owner| owner.ifindex != 0)?;
    lately::note_tap(overlay, inner, owner.ifindex, tick);
    Some(owner.ifindex)
}
