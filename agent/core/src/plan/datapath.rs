//! Attachments and the maps that describe this host: what they should hold, and the difference to what they do.

use std::collections::BTreeMap;

use overlane_abi as abi;

use crate::{
    action::{DatapathAction, MapEntry, MapKey},
    config::Config,
    desired::{Desired, Network},
    model::{NetworkId, Segment, Vni},
    observed::{DatapathState, KernelState, LinkKind},
    plan::{Plan, devices::NetworkDevices, entries, vteps::Vteps},
};

/// What attachments and maps should be, given the devices that exist; without the entries of the big tables.
pub(super) fn target(
    desired: &Desired,
    kernel: &KernelState,
    devices: &BTreeMap<NetworkId, NetworkDevices>,
    indices: &BTreeMap<NetworkId, u32>,
    vteps: &Vteps,
    config: &Config,
) -> DatapathState {
    let mut target = DatapathState { vteps: vteps.entries.clone(), ..DatapathState::default() };
    target.attached.extend(vteps.uplinks.iter().map(|uplink| (abi::Hook::FromUplink, *uplink)));
    for (id, network) in &desired.networks {
        let Some(devices) = devices.get(id) else { continue };
        let Some(index) = indices.get(id) else { continue };
        add_network(&mut target, network, devices, *index, config);
        add_vlan(&mut target, network, devices, *index, kernel);
    }
    target.attached.retain(|(_, ifindex)| kernel.links.contains_key(ifindex));
    target
}

/// A network keeps the index that pinned maps know it by; a new one gets the smallest that is free.
pub(super) fn network_indices(
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

fn add_network(target: &mut DatapathState, network: &Network, devices: &NetworkDevices, index: u32, config: &Config) {
    let vni = network.segment.vni().map_or(0, Vni::get);
    let learns = vni != 0 && config.multicast.is_some();
    let flags = if learns { abi::Network::LEARNS } else { 0 };
    let interfaces = devices.bridge.into_iter().chain(devices.segment).map(abi::NetworkKey::interface);
    for key in interfaces.chain(identity(network, devices)) {
        target.networks.insert(key, abi::Network { index, vni, flags });
    }
    let hook = match network.segment {
        Segment::Vxlan(_) => Some(abi::Hook::FromOverlay),
        Segment::Flat { .. } => Some(abi::Hook::FromUplink),
        Segment::Vlan { .. } | Segment::Local => None,
    };
    target.attached.extend(hook.zip(devices.segment));
    let has_responder = config.vxlan.is_some_and(|vxlan| vxlan.arp_responder);
    for (port, tap) in &devices.taps {
        let mac = network.local_ports[port].mac.0;
        let flags = if has_responder { abi::Port::RESPONDER } else { 0 };
        target.ports.insert(*tap, abi::Port { network: index, vni, mac, flags, mtu: devices.mtu.unwrap_or_default() });
        target.attached.extend([(abi::Hook::FromPort, *tap), (abi::Hook::ToPort, *tap)]);
    }
}

/// The tag of a VLAN on its NIC, and who adds and removes it.
fn add_vlan(target: &mut DatapathState, network: &Network, devices: &NetworkDevices, index: u32, kernel: &KernelState) {
    let (Segment::Vlan { vid, .. }, Some(nic), Some(device)) = (&network.segment, devices.nic, devices.segment) else {
        return;
    };
    let id = abi::VlanId::new(nic, vid.get());
    target.attached.insert((abi::Hook::FromUplink, nic));
    let is_tagged_by_kernel = kernel.links.get(&device).is_some_and(|link| matches!(link.kind, LinkKind::Vlan(_)));
    if is_tagged_by_kernel {
        target.vlans.insert(id, abi::Vlan { network: index, device: 0 });
    } else {
        target.vlans.insert(id, abi::Vlan { network: index, device });
        target.vlan_devices.insert(device, id);
        target.attached.insert((abi::Hook::ToVlan, device));
    }
}

/// Whether a program is all that connects a VLAN, the kernel having no 8021q module: other programs make things faster.
fn connects(target: &DatapathState, hook: abi::Hook, ifindex: u32) -> bool {
    let is_nic = || target.vlan_devices.values().any(|vlan| vlan.nic == ifindex);
    hook == abi::Hook::ToVlan || (hook == abi::Hook::FromUplink && is_nic())
}

/// Plans the difference: entries before the programs that read them, programs gone before the entries they need.
pub(super) fn plan(
    complete: bool,
    kernel: &KernelState,
    (current, target): (&DatapathState, &DatapathState),
    mut entries: entries::Changes,
    plan: &mut Plan,
) {
    put(plan, &current.vteps, &target.vteps, MapEntry::Vtep);
    put(plan, &current.networks, &target.networks, MapEntry::Network);
    plan.actions.extend(entries.take_sets());
    put(plan, &current.ports, &target.ports, MapEntry::Port);
    put(plan, &current.vlans, &target.vlans, MapEntry::Vlan);
    put(plan, &current.vlan_devices, &target.vlan_devices, MapEntry::VlanDevice);
    // Attaching is slow, and makes things faster, not possible: what connects machines comes first, in this plan and in the
    // next one, which is made once the devices of this one are there.
    if !plan.creates_devices() {
        let mut missing: Vec<_> = target.attached.difference(&current.attached).collect();
        missing.sort_by_key(|(hook, ifindex)| !connects(target, *hook, *ifindex));
        for (hook, ifindex) in missing {
            plan.action(DatapathAction::Attach { hook: *hook, ifindex: *ifindex });
        }
    }
    // Before the control plane has told everything, only what refers to interfaces that are gone is known to be stale.
    let stale = |ifindex: u32| complete || (ifindex != 0 && !kernel.links.contains_key(&ifindex));
    for (hook, ifindex) in current.attached.difference(&target.attached).filter(|(_, ifindex)| stale(*ifindex)) {
        plan.action(DatapathAction::Detach { hook: *hook, ifindex: *ifindex });
    }
    // The kernel detaches some time after it was told to, and until then the program counts on.
    for (hook, ifindex) in current.counted.difference(&target.attached).filter(|(_, ifindex)| stale(*ifindex)) {
        plan.action(DatapathAction::ForgetCounters { hook: *hook, ifindex: *ifindex });
    }
    delete(plan, &current.vlan_devices, &target.vlan_devices, MapKey::VlanDevice, |ifindex, _| stale(*ifindex));
    delete(plan, &current.vlans, &target.vlans, MapKey::Vlan, |vlan, _| stale(vlan.nic));
    delete(plan, &current.ports, &target.ports, MapKey::Port, |ifindex, _| stale(*ifindex));
    plan.actions.extend(entries.deletes);
    let is_interface = |key: &abi::NetworkKey| key.kind == abi::NetworkKey::INTERFACE;
    delete(plan, &current.networks, &target.networks, MapKey::Network, |key, _| {
        stale(if is_interface(key) { key.id } else { 0 })
    });
    delete(plan, &current.vteps, &target.vteps, MapKey::Vtep, |_, _| complete);
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
