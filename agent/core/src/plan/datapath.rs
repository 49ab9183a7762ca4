//! Attachments and the maps that describe this host: what they should hold, and the difference to what they do.

use std::collections::{BTreeMap, BTreeSet};

use overlane_abi as abi;

use crate::{
    action::{DatapathAction, MapEntry, MapKey},
    config::{Config, FastPath},
    desired::{Desired, Network},
    model::{NetworkId, Segment, Vni},
    observed::{DatapathState, KernelState, LinkKind, Observed},
    plan::{
        Plan,
        devices::{self, NetworkDevices},
        entries, qos,
        security::{self, Security},
        vteps::Vteps,
        xdp,
    },
};

/// What attachments and maps should be, given the devices that exist; without the entries of the big tables.
pub(super) fn target(
    desired: &Desired,
    observed: &Observed,
    datapath: &DatapathState,
    (devices, indices): (&BTreeMap<NetworkId, NetworkDevices>, &BTreeMap<NetworkId, u32>),
    vteps: &Vteps,
    config: &Config,
    plan: &mut Plan,
) -> DatapathState {
    let mut target = DatapathState::default();
    let mut security = Security::new(desired, &datapath.security, plan);
    for (id, network) in &desired.networks {
        let Some(devices) = devices.get(id) else { continue };
        let Some(index) = indices.get(id) else { continue };
        add_network(&mut target, network, devices, *index, config);
        add_vlan(&mut target, network, devices, *index, &observed.kernel);
        for (port, tap) in &devices.taps {
            let (port, taken_over) = (&network.local_ports[port], observed.taken_over.as_ref());
            let part = security.add_port(*tap, port, datapath, desired.complete, taken_over);
            if let Some(entry) = target.ports.get_mut(tap) {
                (entry.flags, entry.policy, entry.revision) = (entry.flags | part.flags, part.policy, part.revision);
                if let Some(qos) = qos::entry(&port.qos) {
                    entry.flags |= abi::Port::QOS;
                    target.qos.insert(*tap, qos);
                }
            }
        }
    }
    target.security = security.into_target();
    add_sub_ports(&mut target, desired, &observed.kernel, datapath);
    match config.fast_path {
        FastPath::Auto => {
            target.vteps = vteps.entries.clone();
            target.attached.extend(vteps.uplinks.iter().map(|uplink| (abi::Hook::FromUplink, *uplink)));
            xdp::add(&mut target, desired, &observed.kernel, (devices, &vteps.uplinks), config, plan);
        }
        FastPath::Off => keep_filters_only(&mut target, desired.closed_by_default),
    }
    target.attached.retain(|(_, ifindex)| observed.kernel.links.contains_key(ifindex));
    target
}

/// Without the fast lane, programs are left only where they protect somebody, limit or mark what a port sends, or where nothing
/// else connects a VLAN.
fn keep_filters_only(target: &mut DatapathState, has_groups: bool) {
    let is_needed = |hook, ifindex: u32| {
        let is_secured =
            has_groups && target.ports.get(&ifindex).is_some_and(|port| port.flags & abi::Port::SECURED != 0);
        let is_under_policy = || hook == abi::Hook::FromPort && target.qos.contains_key(&ifindex);
        is_secured || is_under_policy() || connects(target, hook, ifindex)
    };
    target.attached = target.attached.iter().copied().filter(|(hook, ifindex)| is_needed(*hook, *ifindex)).collect();
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
    let flags = match (vni, &config.multicast) {
        (0, _) => 0,
        (_, Some(_)) => abi::Network::LEARNS,
        (_, None) if network.moving_macs.is_empty() => 0,
        (_, None) => abi::Network::LEARNS | abi::Network::HAS_KNOWN_VTEPS,
    };
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
        let mtu = devices.mtu.unwrap_or_default();
        target.ports.insert(*tap, abi::Port { network: index, vni, mac, flags, policy: 0, revision: 0, mtu });
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

/// The tags of subports on the taps of their trunks, and who adds and removes them.
fn add_sub_ports(target: &mut DatapathState, desired: &Desired, kernel: &KernelState, current: &DatapathState) {
    for place in devices::places(desired, kernel).into_values() {
        let Some(port) = target.ports.get_mut(&place.device) else { continue };
        port.flags |= abi::Port::SUBPORT;
        let device = &kernel.links[&place.device];
        let id = abi::VlanId::new(place.parent, place.vid.get());
        let is_tagged_by_kernel = matches!(device.kind, LinkKind::Vlan(_));
        if !is_tagged_by_kernel {
            target.vlan_devices.insert(place.device, id);
            target.attached.insert((abi::Hook::FromPort, place.parent));
        }
        // What enters a device that is in no bridge would be the host's own to receive.
        if device.master.is_some() {
            let device = if is_tagged_by_kernel { 0 } else { place.device };
            target.vlans.insert(id, abi::Vlan { network: 0, device });
        }
    }
    // Before everything has been told, a trunk that is not known yet is what it was.
    let known = target.vlans.keys().chain(current.vlans.keys().filter(|_| !desired.complete));
    let parents: BTreeSet<u32> = known.map(|vlan| vlan.nic).collect();
    for parent in parents {
        if let Some(port) = target.ports.get_mut(&parent) {
            port.flags |= abi::Port::TRUNK;
        }
    }
}

/// Whether a program is all that connects a VLAN or a subport, the kernel having no 8021q module: other programs make things faster.
fn connects(target: &DatapathState, hook: abi::Hook, ifindex: u32) -> bool {
    match hook {
        abi::Hook::ToVlan => true,
        // At a NIC, and at the tap of a trunk.
        abi::Hook::FromUplink | abi::Hook::FromPort => target.vlan_devices.values().any(|vlan| vlan.nic == ifindex),
        abi::Hook::ToPort => target.vlan_devices.contains_key(&ifindex),
        abi::Hook::FromOverlay | abi::Hook::FromPortXdp | abi::Hook::FromUplinkXdp => false,
    }
}

/// Plans the difference: entries before the programs that read them, programs gone before the entries they need. Ports whose taps
/// are `closed` are the exception: they are opened by their entries.
pub(super) fn plan(
    desired: &Desired,
    kernel: &KernelState,
    (current, target): (&DatapathState, &DatapathState),
    (mut entries, closed): (entries::Changes, &BTreeSet<u32>),
    plan: &mut Plan,
) {
    let complete = desired.complete;
    put(plan, &current.vteps, &target.vteps, MapEntry::Vtep);
    put(plan, &current.networks, &target.networks, MapEntry::Network);
    plan.actions.extend(entries.take_sets());
    security::plan_before_ports(complete, kernel, &current.security, &target.security, plan);
    put(plan, &current.qos, &target.qos, MapEntry::Qos);
    let mut ports = target.ports.clone();
    ports.retain(|tap, _| !closed.contains(tap));
    put(plan, &current.ports, &ports, MapEntry::Port);
    put(plan, &current.vlans, &target.vlans, MapEntry::Vlan);
    put(plan, &current.vlan_devices, &target.vlan_devices, MapEntry::VlanDevice);
    put(plan, &current.xdp_devices, &target.xdp_devices, MapEntry::XdpDevice);
    if complete {
        security::plan_departures(&current.security, &target.security, plan);
    }
    // Attaching is slow. What connects machines that need no filter comes first, in this plan and in the next one, which is
    // made once the devices of this one are there; then what closed ports wait for, one after the other.
    if !plan.creates_devices() {
        let mut missing: Vec<_> = target.attached.difference(&current.attached).collect();
        missing.sort_by_key(|(hook, ifindex)| {
            let closed = closed.get(ifindex);
            (hook.is_xdp(), !connects(target, *hook, *ifindex), closed.is_none(), closed)
        });
        for (hook, ifindex) in missing {
            plan.action(DatapathAction::Attach { hook: *hook, ifindex: *ifindex });
        }
    }
    // Before the control plane has told everything, only what refers to interfaces that are gone is known to be stale.
    let stale = |ifindex: u32| complete || (ifindex != 0 && !kernel.links.contains_key(&ifindex));
    // A tap that is no port's any more would be open without its programs, unless the guard closes it. With them, and without
    // an entry in `ports`, it is closed.
    let is_unguarded = desired.closed_by_default && kernel.released.is_none();
    let must_stay = |hook: abi::Hook, ifindex: &u32| {
        is_unguarded && matches!(hook, abi::Hook::FromPort | abi::Hook::ToPort) && kernel.links.contains_key(ifindex)
    };
    let detached = current.attached.difference(&target.attached);
    for (hook, ifindex) in detached.filter(|(hook, ifindex)| stale(*ifindex) && !must_stay(*hook, ifindex)) {
        plan.action(DatapathAction::Detach { hook: *hook, ifindex: *ifindex });
    }
    // The kernel detaches some time after it was told to, and until then the program counts on.
    for (hook, ifindex) in current.counted.difference(&target.attached).filter(|(_, ifindex)| stale(*ifindex)) {
        plan.action(DatapathAction::ForgetCounters { hook: *hook, ifindex: *ifindex });
    }
    delete(plan, &current.xdp_devices, &target.xdp_devices, MapKey::XdpDevice, |ifindex, _| stale(*ifindex));
    delete(plan, &current.vlan_devices, &target.vlan_devices, MapKey::VlanDevice, |ifindex, _| stale(*ifindex));
    delete(plan, &current.vlans, &target.vlans, MapKey::Vlan, |vlan, _| stale(vlan.nic));
    delete(plan, &current.ports, &target.ports, MapKey::Port, |ifindex, _| stale(*ifindex));
    delete(plan, &current.qos, &target.qos, MapKey::Qos, |ifindex, _| stale(*ifindex));
    plan.actions.extend(entries.take_deletes());
    let is_interface = |key: &abi::NetworkKey| key.kind == abi::NetworkKey::INTERFACE;
    delete(plan, &current.networks, &target.networks, MapKey::Network, |key, _| {
        stale(if is_interface(key) { key.id } else { 0 })
    });
    delete(plan, &current.vteps, &target.vteps, MapKey::Vtep, |_, _| desired.knows_all_vteps());
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
