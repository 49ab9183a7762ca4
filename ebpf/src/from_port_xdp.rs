//! XDP at a tap whose machine completes its own checksums: what the port sends, as far as it goes to a known machine.

use overlane_abi::{Outcome, Port};

use crate::{
    buffer::Buffer as _,
    encap, lately, maps,
    parse::{Ethernet, InnerIp},
    security, size,
    verdict::Verdict,
    xdp::{IP, Payload, XdpBuff},
};

/// Switches locally, or encapsulates. Left to the TC lane, which judges it as if this program were not there: questions to be
/// answered, unfinished checksums, superpackets, what is limited or tagged, and all that is not as usual.
#[inline(always)]
pub fn forward(buff: XdpBuff) -> Option<Verdict> {
    let port = maps::port(buff.ifindex())?;
    let frame = Ethernet::at(buff, 0)?;
    if port.flags & (Port::QOS | Port::TRUNK | Port::SUBPORT) != 0 || frame.is_tagged(buff) || frame.is_group() {
        return None;
    }
    let ip = InnerIp::at(buff, &frame, IP)?;
    let payload = Payload::at(buff, &ip, IP)?;
    let is_usual = payload.is_finished() && buff.is_in_one_piece();
    if !is_usual || port.mtu != 0 && size::of_packet(buff) > port.mtu as usize {
        return None;
    }
    let route = lately::route(port.network, frame.destination)?;
    let (target, vtep) = if route.ifindex != 0 {
        (route.ifindex, None)
    } else {
        let vtep = &route.vtep;
        let fits = size::of_packet(buff) + usize::from(vtep.header_len) <= vtep.mtu as usize;
        (vtep.ifindex, Some(vtep).filter(|_| fits))
    };
    // Who is not known, or has no address of a next hop, has no interface either, and XDP sends by none.
    let is_carried = route.ifindex != 0 || vtep.is_some();
    if !is_carried || target == buff.ifindex() || !maps::sends_by_xdp(target) {
        return None;
    }
    if port.flags & Port::SECURED != 0
        && let Err(reason) = security::admit_sent(buff, &frame, port)
    {
        return Some(Verdict::Drop(reason));
    }
    match vtep {
        None => Some(Verdict::Redirect(Outcome::Delivered, target)),
        Some(vtep) => encap::encapsulate_xdp(buff, &ip, port.vni, vtep, payload.flow_hash()),
    }
}
