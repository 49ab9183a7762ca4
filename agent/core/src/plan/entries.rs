//! The big tables: who owns each MAC and each address of a network, in the kernel's forwarding databases and in the maps.
//!
//! Their size follows the cloud, not the host, so a plan need not compare all of them: only networks whose devices have
//! changed, and single entries that are known to have changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use overlane_abi as abi;

use crate::{
    action::{Action, DatapathAction, KernelAction, MapEntry, MapKey},
    config::MulticastGroups,
    desired::{Desired, EntryKey, Network},
    model::{Mac, NetworkId, PortId},
    observed::{DatapathState, FdbEntry, FdbTable, KernelState, Observed},
    plan::{devices::NetworkDevices, opening},
};

/// Where the entries of a network go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// The index that the maps know the network by; `None` without a fast lane.
    index: Option<u32>,
    vxlan: Option<Device>,
    /// What leads to the other hosts, of any kind: what moves, moves between it and a tap.
    segment: Option<u32>,
    /// The multicast group of a network whose members are learned.
    group: Option<IpAddr>,
    taps: BTreeMap<Mac, Device>,
}

/// A device that has entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Device {
    ifindex: u32,
    /// The bridge's table takes entries only for devices that are its ports already.
    is_in_bridge: bool,
    /// Other ports reach a tap past the bridge, and past its guard, once it is in the map: not before its programs are attached.
    is_open: bool,
}

/// Which entries a plan compares.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// All.
    Everything,
    /// Those of networks that are placed otherwise than they were, and some more.
    Changes {
        /// Where the networks were when all their entries were in place.
        settled: &'a BTreeMap<NetworkId, Placement>,
        /// Entries of other networks.
        entries: &'a BTreeSet<EntryKey>,
    },
}

/// Changes of entries, to be made at two points of a plan. Those of the kernel's tables stand together, and so do those of each map: the
/// kernel is told of very many at once.
#[derive(Debug, Default)]
pub(super) struct Changes {
    kernel_sets: Vec<Action>,
    map_sets: Vec<Action>,
    kernel_deletes: Vec<Action>,
    map_deletes: Vec<Action>,
}

impl Changes {
    /// What is missing or wrong.
    pub(super) fn take_sets(&mut self) -> impl Iterator<Item = Action> + use<> {
        std::mem::take(&mut self.kernel_sets).into_iter().chain(std::mem::take(&mut self.map_sets))
    }

    /// What is stale: taken away when nothing needs it any more.
    pub(super) fn take_deletes(&mut self) -> impl Iterator<Item = Action> + use<> {
        std::mem::take(&mut self.kernel_deletes).into_iter().chain(std::mem::take(&mut self.map_deletes))
    }

    /// Everything, in order.
    pub(super) fn into_actions(mut self) -> impl Iterator<Item = Action> {
        self.take_sets().chain(self.take_deletes())
    }
}

impl Placement {
    pub(super) fn new(
        (desired, id): (&Desired, NetworkId),
        devices: &NetworkDevices,
        index: Option<u32>,
        observed: &Observed,
        multicast: Option<&MulticastGroups>,
    ) -> Self {
        let network = &desired.networks[&id];
        let device = |ifindex: u32| {
            let master = observed.kernel.links.get(&ifindex).and_then(|link| link.master);
            Device { ifindex, is_in_bridge: devices.bridge.is_some() && master == devices.bridge, is_open: true }
        };
        let tap = |port: &PortId, tap: u32| {
            let port = &network.local_ports[port];
            (
                port.mac,
                Device { is_open: opening::may_begin(desired, observed.datapath.as_ref(), port, tap), ..device(tap) },
            )
        };
        let vni = network.segment.vni();
        Self {
            index,
            segment: devices.segment,
            vxlan: devices.segment.filter(|_| vni.is_some()).map(device),
            group: multicast.zip(vni).map(|(groups, vni)| groups.group(vni)),
            taps: devices.taps.iter().map(|(port, ifindex)| tap(port, *ifindex)).collect(),
        }
    }

    /// Whether an interface is one of those that have entries.
    pub fn has(&self, ifindex: u32) -> bool {
        self.segment == Some(ifindex) || self.devices().any(|device| device.ifindex == ifindex)
    }

    /// What is learned of a sender that has moved, programs have forgotten before: it is put into the map again, whatever it was.
    pub fn doubt(&self, entry: &FdbEntry, maps: Option<&mut DatapathState>) {
        if let (FdbTable::Learned { .. }, Some(index), Some(maps)) = (entry.table, self.index, maps) {
            maps.fdb.remove(&abi::FdbKey::new(index, entry.mac.0));
        }
    }

    /// The tap of the port with a MAC address.
    pub(super) fn tap(&self, mac: Mac) -> Option<u32> {
        self.taps.get(&mac).map(|tap| tap.ifindex)
    }

    fn devices(&self) -> impl Iterator<Item = Device> {
        self.vxlan.into_iter().chain(self.taps.values().copied())
    }
}

/// Plans the entries that are in the scope.
pub(super) fn plan(
    desired: &Desired,
    observed: &Observed,
    placements: &BTreeMap<NetworkId, Placement>,
    scope: Scope,
) -> Changes {
    let mut tables = Tables { desired, observed, changes: Changes::default() };
    let networks = placements.iter().filter_map(|(id, placement)| Some((*id, desired.networks.get(id)?, placement)));
    match scope {
        Scope::Everything => {
            for (_, network, placement) in networks {
                tables.compare_network(network, placement);
            }
            let known: BTreeSet<u32> = placements.values().filter_map(|placement| placement.index).collect();
            tables.forget_indices(|index| !known.contains(&index));
        }
        Scope::Changes { settled, entries } => {
            let mut compared = BTreeSet::new();
            for (id, network, placement) in networks.filter(|(id, _, placement)| settled.get(id) != Some(placement)) {
                tables.compare_network(network, placement);
                compared.insert(id);
            }
            let indices = |placements: &BTreeMap<_, Placement>| -> BTreeSet<u32> {
                placements.values().filter_map(|placement| placement.index).collect()
            };
            let left = &indices(settled) - &indices(placements);
            if !left.is_empty() {
                tables.forget_indices(|index| left.contains(&index));
            }
            tables.compare_entries(placements, entries.iter().filter(|key| !compared.contains(&key.network())));
        }
    }
    tables.changes
}

/// Plans some entries, everything else being settled.
pub(super) fn plan_some(
    desired: &Desired,
    observed: &Observed,
    placements: &BTreeMap<NetworkId, Placement>,
    entries: &BTreeSet<EntryKey>,
) -> Changes {
    let mut tables = Tables { desired, observed, changes: Changes::default() };
    tables.compare_entries(placements, entries.iter());
    tables.changes
}

struct Tables<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    changes: Changes,
}

impl<'a> Tables<'a> {
    fn compare_network(&mut self, network: &Network, placement: &Placement) {
        let kernel = &self.observed.kernel;
        let in_kernel = placement.devices().flat_map(|device| kernel.fdb_of(device.ifindex).map(|entry| entry.mac));
        let mut macs: BTreeSet<Mac> = in_kernel.collect();
        let mut addresses: BTreeSet<IpAddr> = network.neighbors.keys().copied().collect();
        if let (Some(maps), Some(index)) = (self.maps(), placement.index) {
            macs.extend(fdb_of(maps, index).map(|(key, _)| Mac(key.mac)));
            addresses.extend(neighbors_of(maps, index).map(|(key, _)| IpAddr::from(key.address)));
        }
        macs.extend(network.remote_macs.keys().chain(placement.taps.keys()));
        macs.insert(Mac::ZERO);
        for mac in macs {
            self.compare_mac(network, placement, mac);
        }
        for address in addresses {
            self.compare_address(network, placement, address);
        }
    }

    fn compare_entries<'k>(
        &mut self,
        placements: &BTreeMap<NetworkId, Placement>,
        entries: impl Iterator<Item = &'k EntryKey>,
    ) {
        for key in entries {
            let id = key.network();
            let (Some(network), Some(placement)) = (self.desired.networks.get(&id), placements.get(&id)) else {
                continue;
            };
            match key {
                EntryKey::Mac(_, mac) => self.compare_mac(network, placement, *mac),
                EntryKey::Address(_, address) => self.compare_address(network, placement, *address),
            }
        }
    }

    fn compare_mac(&mut self, network: &Network, placement: &Placement, mac: Mac) {
        let wanted = wanted_in_kernel(network, placement, mac);
        let kernel = &self.observed.kernel;
        let missing = wanted.iter().filter(|entry| !kernel.fdb.contains(entry));
        self.changes.kernel_sets.extend(missing.map(|entry| KernelAction::AddFdb(*entry).into()));
        let is_complete = self.is_complete(network);
        if is_complete {
            let present = placement.devices().flat_map(|device| kernel.fdb_for(device.ifindex, mac));
            let is_learned =
                |entry: &&FdbEntry| matches!(entry.table, FdbTable::Learned { .. } | FdbTable::BridgeLearned);
            let stale = present.filter(|entry| !wanted.contains(entry) && !is_learned(entry));
            self.changes.kernel_deletes.extend(stale.map(|entry| KernelAction::DeleteFdb(*entry).into()));
        }
        if let (Some(maps), Some(index)) = (self.maps(), placement.index) {
            let key = abi::FdbKey::new(index, mac.0);
            match (wanted_in_map(network, placement, kernel, mac), maps.fdb.get(&key)) {
                (Some(wanted), present) if present != Some(&wanted) => self.put(MapEntry::Fdb(key, wanted)),
                (None, Some(present)) if self.is_stale(is_complete, present.ifindex) => self.delete(MapKey::Fdb(key)),
                _ => (),
            }
        }
    }

    fn compare_address(&mut self, network: &Network, placement: &Placement, address: IpAddr) {
        let (Some(maps), Some(index)) = (self.maps(), placement.index) else { return };
        let key = abi::NeighborKey { network: index, address: address.into() };
        let wanted = network.neighbors.get(&address).map(|neighbor| abi::Neighbor {
            mac: neighbor.mac.0,
            flags: if neighbor.is_router { abi::Neighbor::ROUTER } else { 0 },
        });
        match (wanted, maps.neighbors.get(&key)) {
            (Some(wanted), present) if present != Some(&wanted) => self.put(MapEntry::Neighbor(key, wanted)),
            (None, Some(_)) if self.is_complete(network) => self.delete(MapKey::Neighbor(key)),
            _ => (),
        }
    }

    /// Deletes the map entries of networks that are no longer there.
    fn forget_indices(&mut self, is_left: impl Fn(u32) -> bool) {
        let Some(maps) = self.maps() else { return };
        for (key, entry) in maps.fdb.iter().filter(|(key, _)| is_left(key.network)) {
            if self.is_stale(self.desired.complete, entry.ifindex) {
                self.delete(MapKey::Fdb(*key));
            }
        }
        for key in maps.neighbors.keys().filter(|key| is_left(key.network)) {
            if self.desired.complete {
                self.delete(MapKey::Neighbor(*key));
            }
        }
    }

    /// Whether all entries of a network have been told.
    const fn is_complete(&self, network: &Network) -> bool {
        self.desired.complete && !network.has_unknown_members
    }

    /// Before the control plane has told everything, only what refers to interfaces that are gone is known to be stale.
    fn is_stale(&self, is_complete: bool, ifindex: u32) -> bool {
        is_complete || (ifindex != 0 && !self.observed.kernel.links.contains_key(&ifindex))
    }

    fn maps(&self) -> Option<&'a DatapathState> {
        self.observed.datapath.as_ref()
    }

    fn put(&mut self, entry: MapEntry) {
        self.changes.map_sets.push(DatapathAction::Put(entry).into());
    }

    fn delete(&mut self, key: MapKey) {
        self.changes.map_deletes.push(DatapathAction::Delete(key).into());
    }
}

/// The kernel's entries for a MAC address; the zero address stands for the flood list.
fn wanted_in_kernel(network: &Network, placement: &Placement, mac: Mac) -> BTreeSet<FdbEntry> {
    let mut wanted = BTreeSet::new();
    let mut want = |device: Device, table| wanted.insert(FdbEntry { ifindex: device.ifindex, mac, table });
    if let Some(vxlan) = placement.vxlan {
        if mac == Mac::ZERO {
            let told = network.flood.iter().copied().filter(|_| placement.group.is_none());
            for remote in told.chain(placement.group) {
                want(vxlan, FdbTable::Vxlan { remote });
            }
        }
        if let Some(remote) = network.remote_macs.get(&mac).filter(|_| placement.group.is_none()) {
            want(vxlan, FdbTable::Vxlan { remote: *remote });
            // Answers to redirected packets do not pass the bridge, so it could not learn where a remote MAC is and would
            // flood the kernel lane's packets to every tap.
            if vxlan.is_in_bridge {
                want(vxlan, FdbTable::Bridge);
            }
        }
    }
    // The bridge learns where an address is that moves.
    let is_static = !network.moving_macs.contains(&mac);
    if let Some(tap) = placement.taps.get(&mac).filter(|tap| tap.is_in_bridge && is_static) {
        want(*tap, FdbTable::Bridge);
    }
    wanted
}

/// The map's entry for a MAC address; a port of this host comes before what is said or learned of others.
fn wanted_in_map(network: &Network, placement: &Placement, kernel: &KernelState, mac: Mac) -> Option<abi::FdbEntry> {
    let tap = placement.taps.get(&mac);
    if tap.is_some_and(|tap| !tap.is_open) {
        return None;
    }
    let moves = network.moving_macs.contains(&mac);
    // That it is on this host as well does not say that it is in use here.
    let tap = tap.filter(|tap| !moves || kernel.is_learned_at(tap.ifindex, mac));
    let local = tap.map(|tap| abi::FdbEntry::local(tap.ifindex));
    let remote = || match placement.vxlan {
        Some(vxlan) if moves || placement.group.is_some() => kernel.learned(vxlan.ifindex, mac),
        None if moves || placement.group.is_some() => None,
        _ => network.remote_macs.get(&mac).copied(),
    };
    local.or_else(|| remote().map(|remote| abi::FdbEntry::remote(remote.into())))
}

fn fdb_of(maps: &DatapathState, index: u32) -> impl Iterator<Item = (&abi::FdbKey, &abi::FdbEntry)> {
    maps.fdb.range(abi::FdbKey::new(index, [0; 6])..=abi::FdbKey::new(index, [0xff; 6]))
}

fn neighbors_of(maps: &DatapathState, index: u32) -> impl Iterator<Item = (&abi::NeighborKey, &abi::Neighbor)> {
    let key = |octets| abi::NeighborKey { network: index, address: abi::Address { octets } };
    maps.neighbors.range(key([0; 16])..=key([0xff; 16]))
}
