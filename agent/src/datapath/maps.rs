//! The maps, typed.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hash,
    path::Path,
};

use aya::{
    Ebpf, Pod,
    maps::{Array, HashMap, Map, MapData, MapError},
};
use overlane_abi::{
    ABI_VERSION, Address, FdbEntry, FdbKey, Meta, Neighbor, NeighborKey, Network, NetworkKey, Port, Vlan, VlanId, Vtep,
    names,
};
use overlane_core::{
    action::{MapEntry, MapKey},
    observed::DatapathState,
    offload::RoomHelper,
};

use super::{
    DatapathError, counters::CounterMaps, links::Links, qos::QosMaps, security::SecurityMaps, stats::Stats,
    xdp::XdpDevices,
};

/// Every map.
pub struct Maps {
    ports: HashMap<MapData, u32, Port>,
    networks: HashMap<MapData, NetworkKey, Network>,
    fdb: HashMap<MapData, FdbKey, FdbEntry>,
    vteps: HashMap<MapData, Address, Vtep>,
    neighbors: HashMap<MapData, NeighborKey, Neighbor>,
    vlans: HashMap<MapData, VlanId, Vlan>,
    vlan_devices: HashMap<MapData, u32, VlanId>,
    qos: Option<QosMaps>,
    xdp_devices: Option<XdpDevices>,
    counters: CounterMaps,
    meta: Array<MapData, Meta>,
    vteps_that_do_not_fit: BTreeSet<Address>,
    /// Whether the control plane names every host, rather than those that it has told of so far.
    vteps_are_all: bool,
    security: SecurityMaps,
}

/// Where maps come from: a loaded object, or pins.
pub(super) struct Opener<'a> {
    open: &'a mut dyn FnMut(&'static str) -> Result<Map, MapError>,
}

impl<'a> Opener<'a> {
    pub(super) fn new(open: &'a mut dyn FnMut(&'static str) -> Result<Map, MapError>) -> Self {
        Self { open }
    }

    pub(super) fn typed<M: TryFrom<Map, Error = MapError>>(&mut self, name: &'static str) -> Result<M, DatapathError> {
        let map = (self.open)(name).map_err(DatapathError::map(name))?;
        M::try_from(map).map_err(DatapathError::map(name))
    }

    /// As `typed`, for a map that agents before this one have not made; `None` when it is not there.
    pub(super) fn typed_if_there<M: TryFrom<Map, Error = MapError>>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<M>, DatapathError> {
        let map = match (self.open)(name) {
            Err(error) if is_missing(&error) => return Ok(None),
            map => map.map_err(DatapathError::map(name))?,
        };
        M::try_from(map).map(Some).map_err(DatapathError::map(name))
    }
}

impl Maps {
    /// Takes the maps out of a loaded object and writes down which ABI version they have.
    pub(super) fn take(ebpf: &mut Ebpf, vteps_are_all: bool) -> Result<Self, DatapathError> {
        let maps = Self::from(|name| ebpf.take_map(name).ok_or(MapError::InvalidName { name: name.to_owned() }))?;
        // What an earlier agent says of the others is true until all of it is checked.
        let mut maps = Self { vteps_are_all, ..maps };
        if let Some(devices) = &mut maps.xdp_devices {
            devices.take_charge();
        }
        let earlier = maps.meta.get(&0, 0).map_err(DatapathError::map(names::META))?;
        let incomplete = if vteps_are_all { earlier.flags & Meta::VTEPS_INCOMPLETE } else { Meta::VTEPS_INCOMPLETE };
        let meta = Meta { abi_version: ABI_VERSION, flags: earlier.flags & !Meta::VTEPS_INCOMPLETE | incomplete };
        maps.meta.set(0, meta, 0).map_err(DatapathError::map(names::META))?;
        Ok(maps)
    }

    /// Opens the maps that are pinned in `directory`.
    pub(super) fn open_pinned(directory: &Path) -> Result<Self, DatapathError> {
        Self::from(opener_of_pins(directory)?)
    }

    fn from(mut open: impl FnMut(&'static str) -> Result<Map, MapError>) -> Result<Self, DatapathError> {
        let mut open = Opener::new(&mut open);
        Ok(Self {
            ports: open.typed(names::PORTS)?,
            networks: open.typed(names::NETWORKS)?,
            fdb: open.typed(names::FDB)?,
            vteps: open.typed(names::VTEPS)?,
            neighbors: open.typed(names::NEIGHBORS)?,
            vlans: open.typed(names::VLANS)?,
            vlan_devices: open.typed(names::VLAN_DEVICES)?,
            qos: QosMaps::open(&mut open)?,
            xdp_devices: XdpDevices::open(&mut open)?,
            counters: CounterMaps::open(&mut open)?,
            meta: open.typed(names::META)?,
            vteps_that_do_not_fit: BTreeSet::new(),
            vteps_are_all: true,
            security: SecurityMaps::open(&mut open)?,
        })
    }

    /// Has every flow judged again: an agent may have ended between taking something away and saying so.
    pub(super) fn begin(&mut self) -> Result<(), DatapathError> {
        for (ifindex, port) in dump(&self.ports, names::PORTS)? {
            let revision = port.revision + 1;
            insert(&mut self.ports, names::PORTS, ifindex, Port { revision, ..port })?;
        }
        self.security.begin()
    }

    /// What is in the maps and where programs are attached. The big maps are read only when nothing is `known` of them: no
    /// one else writes to them.
    pub(super) fn observe(&self, links: &Links, known: Option<DatapathState>) -> Result<DatapathState, DatapathError> {
        let (fdb, neighbors, security) = match known {
            Some(known) => (known.fdb, known.neighbors, known.security),
            None => (dump(&self.fdb, names::FDB)?, dump(&self.neighbors, names::NEIGHBORS)?, self.security.read()?),
        };
        let attached = links.list()?;
        Ok(DatapathState {
            ports: dump(&self.ports, names::PORTS)?,
            networks: dump(&self.networks, names::NETWORKS)?,
            fdb,
            vteps: dump(&self.vteps, names::VTEPS)?,
            neighbors,
            vlans: dump(&self.vlans, names::VLANS)?,
            vlan_devices: dump(&self.vlan_devices, names::VLAN_DEVICES)?,
            qos: self.qos.as_ref().map_or_else(|| Ok(BTreeMap::new()), QosMaps::read)?,
            xdp_devices: self.xdp_devices.as_ref().map_or_else(|| Ok(BTreeMap::new()), XdpDevices::read)?,
            counted: self.counters.counted(&attached)?,
            attached,
            security,
            room_helper: self.room_helper()?,
        })
    }

    /// Deletes everything that packets are forwarded by, but for what takes frames from VLAN devices to their NICs and back.
    pub(super) fn keep_only_vlans(&mut self) -> Result<(), DatapathError> {
        clear(&mut self.fdb, names::FDB)?;
        clear(&mut self.ports, names::PORTS)?;
        clear(&mut self.networks, names::NETWORKS)?;
        clear(&mut self.neighbors, names::NEIGHBORS)?;
        clear(&mut self.vteps, names::VTEPS)
    }

    /// The devices that XDP may send by.
    pub(super) fn xdp_devices(&mut self) -> Option<&mut XdpDevices> {
        self.xdp_devices.as_mut()
    }

    /// Inserts or replaces an entry.
    pub(super) fn put(&mut self, entry: &MapEntry) -> Result<(), DatapathError> {
        match *entry {
            MapEntry::Port(key, value) => insert(&mut self.ports, names::PORTS, key, value),
            MapEntry::Network(key, value) => insert(&mut self.networks, names::NETWORKS, key, value),
            MapEntry::Fdb(key, value) => insert(&mut self.fdb, names::FDB, key, value),
            MapEntry::Vtep(key, value) => self.put_vtep(key, value),
            MapEntry::Neighbor(key, value) => insert(&mut self.neighbors, names::NEIGHBORS, key, value),
            MapEntry::Security(entry) => self.security.put(&entry),
            MapEntry::Vlan(key, value) => insert(&mut self.vlans, names::VLANS, key, value),
            MapEntry::Qos(key, value) => self.qos.as_mut().map_or(Ok(()), |maps| maps.put(key, value)),
            MapEntry::XdpDevice(key, value) => self.xdp_devices.as_mut().map_or(Ok(()), |map| map.put(key, value)),
            MapEntry::VlanDevice(key, value) => insert(&mut self.vlan_devices, names::VLAN_DEVICES, key, value),
        }
    }

    /// An endpoint that does not fit must not be taken for a stranger's: the programs are told before anything else.
    fn put_vtep(&mut self, key: Address, value: Vtep) -> Result<(), DatapathError> {
        let result = insert(&mut self.vteps, names::VTEPS, key, value);
        match result {
            Ok(()) => self.vteps_that_do_not_fit.remove(&key),
            Err(_) => self.vteps_that_do_not_fit.insert(key),
        };
        let tell = if result.is_err() { self.tell_whether_vteps_fit() } else { Ok(()) };
        result.and(tell)
    }

    /// Has the programs know whether every endpoint has an entry.
    pub(super) fn tell_whether_vteps_fit(&mut self) -> Result<(), DatapathError> {
        let are_complete = self.vteps_are_all && self.vteps_that_do_not_fit.is_empty();
        self.set_flags(Meta::VTEPS_INCOMPLETE, if are_complete { 0 } else { Meta::VTEPS_INCOMPLETE })
    }

    /// Writes down what the kernel's helper for outer headers was found to do.
    pub(super) fn note_room_helper(&mut self, helper: RoomHelper) -> Result<(), DatapathError> {
        let RoomHelper { makes_room, strips_tunnels } = helper;
        let flag = |fact: Option<bool>, flag| if fact == Some(true) { flag } else { 0 };
        let is_tested = makes_room.is_some() && strips_tunnels.is_some();
        let flags = flag(Some(is_tested), Meta::HELPERS_TESTED)
            | flag(makes_room, Meta::MAKES_ROOM)
            | flag(strips_tunnels, Meta::DECAP_L4_UDP);
        self.set_flags(Meta::HELPERS, flags)
    }

    fn room_helper(&self) -> Result<RoomHelper, DatapathError> {
        let flags = self.meta.get(&0, 0).map_err(DatapathError::map(names::META))?.flags;
        let fact = |flag| (flags & Meta::HELPERS_TESTED != 0).then_some(flags & flag != 0);
        Ok(RoomHelper { makes_room: fact(Meta::MAKES_ROOM), strips_tunnels: fact(Meta::DECAP_L4_UDP) })
    }

    fn set_flags(&mut self, mask: u32, flags: u32) -> Result<(), DatapathError> {
        let meta = self.meta.get(&0, 0).map_err(DatapathError::map(names::META))?;
        let flags = meta.flags & !mask | flags;
        if meta.flags != flags {
            self.meta.set(0, Meta { flags, ..meta }, 0).map_err(DatapathError::map(names::META))?;
        }
        Ok(())
    }

    /// Deletes an entry, if it is there.
    pub(super) fn delete(&mut self, key: &MapKey) -> Result<(), DatapathError> {
        match key {
            MapKey::Port(key) => gone(self.ports.remove(key), names::PORTS),
            MapKey::Network(key) => gone(self.networks.remove(key), names::NETWORKS),
            MapKey::Fdb(key) => gone(self.fdb.remove(key), names::FDB),
            MapKey::Vtep(key) => {
                self.vteps_that_do_not_fit.remove(key);
                gone(self.vteps.remove(key), names::VTEPS)
            }
            MapKey::Neighbor(key) => gone(self.neighbors.remove(key), names::NEIGHBORS),
            MapKey::Security(key) => self.security.delete(key),
            MapKey::Vlan(key) => gone(self.vlans.remove(key), names::VLANS),
            MapKey::Qos(key) => self.qos.as_mut().map_or(Ok(()), |maps| maps.delete(*key)),
            MapKey::XdpDevice(key) => self.xdp_devices.as_mut().map_or(Ok(()), |map| map.delete(*key)),
            MapKey::VlanDevice(key) => gone(self.vlan_devices.remove(key), names::VLAN_DEVICES),
        }
    }

    /// Where the programs count.
    pub(super) fn counters(&mut self) -> &mut CounterMaps {
        &mut self.counters
    }

    /// What the programs have counted so far.
    pub(super) fn stats(&self) -> Result<Stats, DatapathError> {
        self.counters.stats()
    }
}

/// Opens maps by the names of their pins.
pub(super) fn opener_of_pins(
    directory: &Path,
) -> Result<impl FnMut(&'static str) -> Result<Map, MapError>, DatapathError> {
    if directory.join(names::META).exists() {
        Ok(move |name: &'static str| Map::from_map_data(MapData::from_pin(directory.join(name))?))
    } else {
        Err(DatapathError::NothingPinned(directory.to_owned()))
    }
}

pub(super) fn dump<K: Pod + Ord + Hash + Eq, V: Pod>(
    map: &HashMap<MapData, K, V>,
    name: &'static str,
) -> Result<BTreeMap<K, V>, DatapathError> {
    map.iter().collect::<Result<_, _>>().map_err(DatapathError::map(name))
}

fn clear<K: Pod, V: Pod>(map: &mut HashMap<MapData, K, V>, name: &'static str) -> Result<(), DatapathError> {
    let keys: Vec<K> = map.keys().collect::<Result<_, _>>().map_err(DatapathError::map(name))?;
    keys.iter().try_for_each(|key| gone(map.remove(key), name))
}

pub(super) fn insert<K: Pod, V: Pod>(
    map: &mut HashMap<MapData, K, V>,
    name: &'static str,
    key: K,
    value: V,
) -> Result<(), DatapathError> {
    map.insert(key, value, 0).map_err(DatapathError::put(name))
}

fn is_missing(error: &MapError) -> bool {
    matches!(error, MapError::SyscallError(error) if error.io_error.kind() == std::io::ErrorKind::NotFound)
}

/// Gone-already is success.
pub(super) fn gone(result: Result<(), MapError>, name: &'static str) -> Result<(), DatapathError> {
    match result {
        Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
        Err(error) if is_missing(&error) => Ok(()),
        result => result.map_err(DatapathError::map(name)),
    }
}
