//! XDP at a NIC that leads to other hosts: VXLAN from known endpoints, straight to the tap it is for.

use overlane_abi::{Network, NetworkKey, Outcome};

use crate::{
    decap, ecn, maps,
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
    let network = maps::network(NetworkKey::vni(overlay.vni))?;
    if network.flags & Network::LEARNS != 0 {
        return None;
    }
    maps::vtep(&overlay.source)?;
    let inner = Ethernet::at(buff, overlay.header_len)?;
    if inner.is_group() {
        return None;
    }
    let ip = InnerIp::at(buff, &inner, overlay.header_len + IP)?;
    if ip.protocol == TCP {
        return None;
    }
    let ecn = ecn::combine(overlay.traffic_class, ip.traffic_class)?;
    let owner = maps::fdb(network.index, inner.destination).filter(|owner| owner.ifindex != 0)?;
    let payload = Payload::at(buff, &ip, overlay.header_len + IP)?;
    if !payload.is_finished() || !buff.is_in_one_piece() || !maps::sends_by_xdp(owner.ifindex) {
        return None;
    }
    decap::set_ecn_xdp(buff, &ip, overlay.header_len + IP, ecn).ok()?;
    buff.move_start(overlay.header_len as i32).ok()?;
    Some(Verdict::Redirect(Outcome::Decapsulated, owner.ifindex))
}
