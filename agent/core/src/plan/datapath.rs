//! Maps and attachments: what they should hold, and the difference to what they do.

use std::collections::BTreeMap;

use overlane_abi as abi;

use crate::{
    action::{DatapathAction, MapEntry, MapKey},
    config::{Config, FastPath},
    desired::{Desired, Network},
    model::{NetworkId, Segment, Vni},
    observed::{DatapathState, KernelState, Observed},
    plan::{
        Plan,
        devices::NetworkDevices,
        security::{self, Security},
        vteps::Vteps,
    },
};

/// What maps and attachments should be, given the devices that exist.
pub(super) fn target(
    desired: &Desired,
    observed: &Observed,
    datapath: &DatapathState,
    devices: &BTreeMap<NetworkId, NetworkDevices>,
    vteps: &Vteps,
    config: &Config,
    plan: &mut Plan,
) -> DatapathState {
    let indices = network_indices(desired, datapath, devices);
    let mut target = DatapathState::default();
    let mut security = Security::new(desired, &datapath.security, plan);
    let known_links = &observed.kernel.links;
    for (id, network) in &desired.networks {
        let Some(devices) = devices.get(id) else { continue };
        let Some(index) = indices.get(id) else { continue };
        add_network(&mut target, network, devices, *index);
        add_ports(&mut target, network, devices, *index, config);
        for (port, tap) in &devices.taps {
            let (port, is_taken_over) = (&network.local_ports[port], observed.is_taken_over);
            let part = security.add_port(*tap, port, datapath, desired.complete, is_taken_over);
            if let Some(entry) = target.ports.get_mut(tap) {
                (entry.flags, entry.policy, entry.revision) = (entry.flags | part.flags, part.policy, part.revision);
            }
            // Other ports reach a tap past the bridge, and past its guard, once it is here: not before it is filtered.
            if !port.security.has_rules() || datapath.is_filtered(*tap) {
                target.fdb.insert(abi::FdbKey::new(*index, port.mac.0), abi::FdbEntry::local(*tap));
            }
        }
    }
    target.security = security.into_target();
    match config.fast_path {
        FastPath::Auto => {
            target.vteps = vteps.entries.clone();
            target.attached.extend(vteps.uplinks.iter().map(|uplink| (abi::Hook::FromUplink, *uplink)));
        }
        FastPath::Off => keep_filters_only(&mut target),
    }
    target.attached.retain(|(_, ifindex)| known_links.contains_key(ifindex));
    target
}

/// Without the fast lane, programs are left only where they protect somebody.
fn keep_filters_only(target: &mut DatapathState) {
    let ports = &target.ports;
    let is_secured = |tap: &u32| ports.get(tap).is_some_and(|port| port.flags & abi::Port::SECURED != 0);
    target.attached.retain(|(_, ifindex)| is_secured(ifindex));
    (target.fdb, target.neighbors) = (BTreeMap::new(), BTreeMap::new());
}

/// A network keeps the index that pinned maps know it by; a new one gets the smallest that is free.
fn network_indices(
    desired: &Desired,
    datapath: &DatapathState,
    devices: &BTreeMap<NetworkId, NetworkDevices>,
) -> BTreeMap<NetworkId, u32> {
    let known = |key| datapath.networks.get(&key).map(|network| network.index);
    let mut free = (1..).filter(|index| !datapath.networks.values().any(|network| network.index == *index));
    let index = |(id, network): (&NetworkId, &Network)| {
        let key = identity(network, devices.get(id)?)?;
        Some((*id, known(key).or_else(|| free.next())?))
    };
    desired.networks.iter().filter_map(index).collect()
}

/// The key that a network is known by in the maps, over restarts: its VNI, or else its bridge, once there is one.
fn identity(network: &Network, devices: &NetworkDevices) -> Option<abi::NetworkKey> {
    match network.segment.vni() {
        Some(vni) => Some(abi::NetworkKey::vni(vni.get())),
        None => devices.bridge.map(abi::NetworkKey::interface),
    }
}

fn add_network(target: &mut DatapathState, network: &Network, devices: &NetworkDevices, index: u32) {
    let vni = network.segment.vni().map_or(0, Vni::get);
    let interfaces = devices.bridge.into_iter().chain(devices.segment).map(abi::NetworkKey::interface);
    for key in interfaces.chain(identity(network, devices)) {
        target.networks.insert(key, abi::Network { index, vni });
    }
    let hook = match network.segment {
        Segment::Vxlan(_) => abi::Hook::FromOverlay,
        Segment::Flat { .. } | Segment::Local => abi::Hook::FromUplink,
    };
    target.attached.extend(devices.segment.map(|segment| (hook, segment)));
    for (mac, remote) in &network.remote_macs {
        target.fdb.insert(abi::FdbKey::new(index, mac.0), abi::FdbEntry::remote((*remote).into()));
    }
    for (address, neighbor) in &network.neighbors {
        let key = abi::NeighborKey { network: index, address: (*address).into() };
        let flags = if neighbor.is_router { abi::Neighbor::ROUTER } else { 0 };
        target.neighbors.insert(key, abi::Neighbor { mac: neighbor.mac.0, flags });
    }
}

fn add_ports(target: &mut DatapathState, network: &Network, devices: &NetworkDevices, index: u32, config: &Config) {
    let vni = network.segment.vni().map_or(0, Vni::get);
    let has_responder = config.vxlan.is_some_and(|vxlan| vxlan.arp_responder);
    let flags = if has_responder { abi::Port::RESPONDER } else { 0 };
    for (port, tap) in &devices.taps {
        let mac = network.local_ports[port].mac.0;
        target.ports.insert(*tap, abi::Port { network: index, vni, mac, flags, policy: 0, revision: 0 });
        target.attached.extend([(abi::Hook::FromPort, *tap), (abi::Hook::ToPort, *tap)]);
    }
}

/// Plans the difference: entries before the programs that read them, programs gone before the entries they need.
pub(super) fn plan(
    desired: &Desired,
    kernel: &KernelState,
    current: &DatapathState,
    target: &DatapathState,
    plan: &mut Plan,
) {
    let complete = desired.complete;
    put(plan, &current.vteps, &target.vteps, MapEntry::Vtep);
    put(plan, &current.networks, &target.networks, MapEntry::Network);
    put(plan, &current.neighbors, &target.neighbors, MapEntry::Neighbor);
    put(plan, &current.fdb, &target.fdb, MapEntry::Fdb);
    security::plan_before_ports(complete, kernel, &current.security, &target.security, plan);
    put(plan, &current.ports, &target.ports, MapEntry::Port);
    if complete {
        security::plan_departures(&current.security, &target.security, plan);
    }
    // Attaching is slow: what connects machines that need no filter comes first, in this plan and in the next one, which is
    // made once the devices of this one are there.
    if !plan.creates_devices() {
        for (hook, ifindex) in target.attached.difference(&current.attached) {
            plan.action(DatapathAction::Attach { hook: *hook, ifindex: *ifindex });
        }
    }
    // Before the control plane has told everything, only what refers to interfaces that are gone is known to be stale.
    let stale = |ifindex: u32| complete || (ifindex != 0 && !kernel.links.contains_key(&ifindex));
    // A tap that is no port's any more would be open without its programs, unless the guard closes it. With them, and without
    // an entry in `ports`, it is closed.
    let must_stay =
        |ifindex: u32| desired.closed_by_default && kernel.released.is_none() && kernel.links.contains_key(&ifindex);
    let detached = current.attached.difference(&target.attached);
    for (hook, ifindex) in detached.filter(|(_, ifindex)| stale(*ifindex) && !must_stay(*ifindex)) {
        plan.action(DatapathAction::Detach { hook: *hook, ifindex: *ifindex });
    }
    // The kernel detaches some time after it was told to, and until then the program counts on.
    for (hook, ifindex) in current.counted.difference(&target.attached).filter(|(_, ifindex)| stale(*ifindex)) {
        plan.action(DatapathAction::ForgetCounters { hook: *hook, ifindex: *ifindex });
    }
    delete(plan, &current.ports, &target.ports, MapKey::Port, |ifindex, _| stale(*ifindex));
    delete(plan, &current.fdb, &target.fdb, MapKey::Fdb, |_, entry| stale(entry.ifindex));
    delete(plan, &current.neighbors, &target.neighbors, MapKey::Neighbor, |_, _| complete);
    let is_interface = |key: &abi::NetworkKey| key.kind == abi::NetworkKey::INTERFACE;
    delete(plan, &current.networks, &target.networks, MapKey::Network, |key, _| {
        stale(if is_interface(key) { key.id } else { 0 })
    });
    delete(plan, &current.vteps, &target.vteps, MapKey::Vtep, |_, _| complete);
    if complete {
        security::plan_unused(&current.security, &target.security, plan);
    }
}

fn put<K: Ord + Copy, V: PartialEq + Copy>(
    plan: &mut Plan,
    current: &BTreeMap<K, V>,
    target: &BTreeMap<K, V>,
    entry: impl Fn(K, V) -> MapEntry,
) {
    let changed = target.iter().filter(|(key, value)| current.get(key) != Some(*value));
    plan.actions.extend(changed.map(|(key, value)| DatapathAction::Put(entry(*key, *value)).into()));
}

fn delete<K: Ord + Copy, V>(
    plan: &mut Plan,
    current: &BTreeMap<K, V>,
    target: &BTreeMap<K, V>,
    key_of: impl Fn(K) -> MapKey,
    is_stale: impl Fn(&K, &V) -> bool,
) {
    let stale = current.iter().filter(|(key, value)| !target.contains_key(key) && is_stale(key, value));
    plan.actions.extend(stale.map(|(key, _)| DatapathAction::Delete(key_of(*key)).into()));
}
