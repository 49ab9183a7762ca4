//! How to reach the other hosts: routes and next hops, followed as they change.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use overlane_abi as abi;

use crate::{
    action::KernelAction,
    config::VxlanConfig,
    desired::Desired,
    observed::Observed,
    offload::{Lane, Superpackets},
    plan::{
        Plan, Subject,
        header::{self, Hop},
    },
};

/// What the datapath needs to know of the underlay.
#[derive(Debug, Default)]
pub(super) struct Vteps {
    /// The `vteps` map as it should be.
    pub(super) entries: BTreeMap<abi::Address, abi::Vtep>,
    /// Every interface that overlay packets come in on.
    pub(super) uplinks: BTreeSet<u32>,
}

/// Plans the resolution of next hops, and makes the entries of those that are resolved.
///
/// Every known host has an entry, which makes its packets welcome; only those that share a network with this host are
/// resolved, so that a large cloud is not probed by every member.
pub(super) fn plan(desired: &Desired, observed: &Observed, vxlan: &VxlanConfig, plan: &mut Plan) -> Vteps {
    let kernel = &observed.kernel;
    let used: BTreeSet<IpAddr> = desired
        .networks
        .values()
        .flat_map(|network| network.flood.iter().chain(network.remote_macs.values()))
        .copied()
        .chain(kernel.learned_vteps())
        .collect();
    let mut vteps = Vteps::default();
    let has_ethernet_header = |ifindex: &u32| kernel.links.get(ifindex).is_some_and(|link| link.mac.is_some());
    let local_link = kernel.link_with_address(vxlan.local_ip).map(|link| link.ifindex);
    vteps.uplinks.extend(local_link.filter(has_ethernet_header));
    for remote in desired.vteps.union(&used) {
        let entry = if used.contains(remote) { resolve(*remote, observed, vxlan, plan) } else { None };
        vteps.uplinks.extend(entry.map(|entry| entry.ifindex));
        vteps.entries.insert((*remote).into(), entry.unwrap_or_else(header::unresolved));
    }
    vteps
}

fn resolve(remote: IpAddr, observed: &Observed, vxlan: &VxlanConfig, plan: &mut Plan) -> Option<abi::Vtep> {
    let kernel = &observed.kernel;
    let Some(path) = kernel.paths.get(&remote) else {
        plan.obstacle(Subject::Vtep(remote), format!("no route from {} to {remote}", vxlan.local_ip));
        return None;
    };
    // A device without Ethernet headers (a tunnel, say) is left to the kernel lane.
    let source = kernel.links.get(&path.uplink)?.mac?;
    // Packets of the fast lane do not pass the neighbour table: an address that nobody keeps fresh would grow old there.
    if !path.is_kept {
        plan.action(KernelAction::ResolveNeighbor { uplink: path.uplink, address: path.next_hop });
    }
    let destination = path.next_hop_mac?;
    let mut entry = header::vtep(vxlan, remote, &Hop { uplink: path.uplink, source, destination, mtu: path.mtu })?;
    if superpackets(observed, vxlan, path.uplink).sent.lane == Lane::Kernel {
        entry.flags |= abi::Vtep::SUPERPACKETS_BY_KERNEL;
    }
    Some(entry)
}

/// Who carries the superpackets of an uplink.
pub fn superpackets(observed: &Observed, vxlan: &VxlanConfig, uplink: u32) -> Superpackets {
    let helper = observed.datapath.as_ref().map(|maps| maps.room_helper).unwrap_or_default();
    Superpackets::choose(vxlan.local_ip, observed.kernel.nics.get(&uplink), helper)
}
