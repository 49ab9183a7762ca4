//! The kernel lane's forwarding databases: where the bridge and the vxlan device send frames without the fast lane.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    action::KernelAction,
    desired::Desired,
    model::{Mac, NetworkId},
    observed::{FdbEntry, FdbTable, KernelState},
    plan::{Plan, devices::NetworkDevices},
};

/// Plans FDB entries on the devices that exist; additions come before deletions, so that nothing is flooded in between.
pub(super) fn plan(
    desired: &Desired,
    kernel: &KernelState,
    devices: &BTreeMap<NetworkId, NetworkDevices>,
    plan: &mut Plan,
) {
    let target = target(desired, kernel, devices);
    for entry in target.difference(&kernel.fdb) {
        plan.action(KernelAction::AddFdb(*entry));
    }
    if !desired.complete {
        return;
    }
    let ours: BTreeSet<u32> = devices
        .values()
        .flat_map(|devices| devices.segment.into_iter().chain(devices.taps.values().copied()))
        .collect();
    for entry in kernel.fdb.difference(&target).filter(|entry| ours.contains(&entry.ifindex)) {
        plan.action(KernelAction::DeleteFdb(*entry));
    }
}

fn target(
    desired: &Desired,
    kernel: &KernelState,
    devices: &BTreeMap<NetworkId, NetworkDevices>,
) -> BTreeSet<FdbEntry> {
    let mut target = BTreeSet::new();
    for (id, network) in &desired.networks {
        let Some(devices) = devices.get(id) else { continue };
        // The bridge's table takes entries only for devices that are its ports already.
        let in_bridge = |ifindex: u32| {
            let master = kernel.links.get(&ifindex).and_then(|link| link.master);
            devices.bridge.is_some() && master == devices.bridge
        };
        if let Some(vxlan) = devices.segment.filter(|_| network.segment.vni().is_some()) {
            for (mac, remote) in &network.remote_macs {
                target.insert(FdbEntry { ifindex: vxlan, mac: *mac, table: FdbTable::Vxlan { remote: *remote } });
                // Answers to redirected packets do not pass the bridge, so it could not learn where a remote MAC is and
                // would flood the kernel lane's packets to every tap.
                if in_bridge(vxlan) {
                    target.insert(FdbEntry { ifindex: vxlan, mac: *mac, table: FdbTable::Bridge });
                }
            }
            for remote in &network.flood {
                target.insert(FdbEntry { ifindex: vxlan, mac: Mac::ZERO, table: FdbTable::Vxlan { remote: *remote } });
            }
        }
        for (port, tap) in &devices.taps {
            if in_bridge(*tap) {
                let mac = network.local_ports[port].mac;
                target.insert(FdbEntry { ifindex: *tap, mac, table: FdbTable::Bridge });
            }
        }
    }
    target
}
