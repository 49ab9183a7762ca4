//! From the interface that leads to the other hosts to the ports of this one, past the bridge.

use overlane_abi::{Network, Outcome};

use crate::{maps, parse::Ethernet, verdict::Verdict};

/// Hands what is for a port of this host to its tap, and leaves everything else to the bridge.
#[inline(always)]
pub fn deliver(frame: &Ethernet, network: &Network) -> Verdict {
    if frame.is_group() {
        return Verdict::Pass(Outcome::Flood);
    }
    match maps::fdb(network.index, frame.destination) {
        Some(owner) if owner.ifindex != 0 => Verdict::Redirect(Outcome::Delivered, owner.ifindex),
        _ => Verdict::Pass(Outcome::UnknownDestination),
    }
}
