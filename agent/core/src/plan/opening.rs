//! How a port with security groups is opened: all at once, by its entry in `ports`.
//!
//! Where taps are closed by default, the programs let nothing through at a port without an entry. So both are attached first;
//! with them in place everything else that would open the port may be, as they keep it closed; and the entry comes last. If one
//! program had the entry before the other were there, the machine's first packets would get out, and the answers not in.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    desired::{Desired, LocalPort},
    model::NetworkId,
    observed::{DatapathState, Observed},
    plan::devices::NetworkDevices,
};

/// Whether a port may be connected, released and known to other ports: nothing passes its tap any more that its groups do not admit.
pub(super) fn may_begin(desired: &Desired, datapath: Option<&DatapathState>, port: &LocalPort, tap: u32) -> bool {
    let is_held = |datapath: &DatapathState| match desired.closed_by_default {
        true => datapath.has_both_programs(tap),
        false => datapath.is_filtered(tap),
    };
    !port.security.has_rules() || datapath.is_some_and(is_held)
}

/// The taps whose entries in `ports` have to wait: those that are closed, and not yet held by both programs. One that carries
/// traffic already, because nothing has closed it so far, gets its entry first, as its programs must not interrupt that.
pub(super) fn closed(
    desired: &Desired,
    observed: &Observed,
    devices: &BTreeMap<NetworkId, NetworkDevices>,
) -> BTreeSet<u32> {
    let Some(datapath) = observed.datapath.as_ref().filter(|_| desired.closed_by_default) else {
        return BTreeSet::new();
    };
    let kernel = &observed.kernel;
    let is_connected = |tap: &u32| kernel.links.get(tap).is_some_and(|link| link.master.is_some());
    let carries_traffic =
        |tap: &u32| is_connected(tap) && kernel.released.as_ref().is_none_or(|released| released.contains(tap));
    let taps = devices.iter().flat_map(|(network, devices)| {
        devices.taps.iter().map(|(port, tap)| (&desired.networks[network].local_ports[port], *tap))
    });
    let new = taps.filter(|(_, tap)| !datapath.ports.contains_key(tap) && !carries_traffic(tap));
    new.filter(|(port, tap)| !may_begin(desired, Some(datapath), port, *tap)).map(|(_, tap)| tap).collect()
}
