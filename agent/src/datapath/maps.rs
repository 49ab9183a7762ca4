//! The maps, typed.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use aya::{
    Ebpf, Pod,
    maps::{Array, Map, MapData, MapError},
};
use overlane_abi::{
    ABI_VERSION, Address, FdbEntry, FdbKey, Meta, Neighbor, NeighborKey, Network, NetworkKey, Port, Vlan, VlanId, Vtep,
    names,
};
use overlane_core::{
    action::{MapEntry, MapKey, SecurityEntry, SecurityKey},
    observed::DatapathState,
    offload::RoomHelper,
};

use super::{
    DatapathError,
    counters::CounterMaps,
    links::Links,
    qos::QosMaps,
    security::SecurityMaps,
    stats::Stats,
    table::{Results, Table, all_of},
    xdp::XdpDevices,
};

/// Every map.
pub struct Maps {
    ports: Table<u32, Port>,
    networks: Table<NetworkKey, Network>,
    fdb: Table<FdbKey, FdbEntry>,
    vteps: Table<Address, Vtep>,
    neighbors: Table<NeighborKey, Neighbor>,
    vlans: Table<VlanId, Vlan>,
    vlan_devices: Table<u32, VlanId>,
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

    /// A map whose entries are read and written many at a time.
    pub(super) fn table<K: Pod, V: Pod>(&mut self, name: &'static str) -> Result<Table<K, V>, DatapathError> {
        let map = (self.open)(name).map_err(DatapathError::map(name))?;
        Table::new(name, map).map_err(DatapathError::map(name))
    }

    /// As `table`, for a map that agents before this one have not made; `None` when it is not there.
    pub(super) fn table_if_there<K: Pod, V: Pod>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<Table<K, V>>, DatapathError> {
        let Some(map) = self.open_if_there(name)? else { return Ok(None) };
        Table::new(name, map).map(Some).map_err(DatapathError::map(name))
    }

    /// As `typed`, for a map that agents before this one have not made; `None` when it is not there.
    pub(super) fn typed_if_there<M: TryFrom<Map, Error = MapError>>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<M>, DatapathError> {
        let Some(map) = self.open_if_there(name)? else { return Ok(None) };
        M::try_from(map).map(Some).map_err(DatapathError::map(name))
    }

    fn open_if_there(&mut self, name: &'static str) -> Result<Option<Map>, DatapathError> {
        match (self.open)(name) {
            Err(error) if is_missing(&error) => Ok(None),
            map => map.map(Some).map_err(DatapathError::map(name)),
        }
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
            ports: open.table(names::PORTS)?,
            networks: open.table(names::NETWORKS)?,
            fdb: open.table(names::FDB)?,
            vteps: open.table(names::VTEPS)?,
            neighbors: open.table(names::NEIGHBORS)?,
            vlans: open.table(names::VLANS)?,
            vlan_devices: open.table(names::VLAN_DEVICES)?,
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
        let ports: Vec<(u32, Port)> = self.ports.read()?;
        let again = ports.into_iter().map(|(ifindex, port)| (ifindex, Port { revision: port.revision + 1, ..port }));
        self.ports.put(again).into_iter().collect::<Result<(), _>>()?;
        self.security.begin()
    }

    /// What is in the maps and where programs are attached. The big maps are read only when nothing is `known` of them: no
    /// one else writes to them.
    pub(super) fn observe(&self, links: &Links, known: Option<DatapathState>) -> Result<DatapathState, DatapathError> {
        let (fdb, neighbors, security) = match known {
            Some(known) => (known.fdb, known.neighbors, known.security),
            None => (self.fdb.read()?, self.neighbors.read()?, self.security.read()?),
        };
        let attached = links.list()?;
        Ok(DatapathState {
            ports: self.ports.read()?,
            networks: self.networks.read()?,
            fdb,
            vteps: self.vteps.read()?,
            neighbors,
            vlans: self.vlans.read()?,
            vlan_devices: self.vlan_devices.read()?,
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
        self.fdb.clear()?;
        self.ports.clear()?;
        self.networks.clear()?;
        self.neighbors.clear()?;
        self.vteps.clear()
    }

    /// The devices that XDP may send by.
    pub(super) fn xdp_devices(&mut self) -> Option<&mut XdpDevices> {
        self.xdp_devices.as_mut()
    }

    /// Inserts or replaces entries of one map; each has its own result.
    pub(super) fn put(&mut self, entries: &[MapEntry]) -> Results {
        let Some(first) = entries.first() else { return Vec::new() };
        match first {
            MapEntry::Port(..) => self.ports.put(all_of!(entries, MapEntry::Port(key, value) => (key, value))),
            MapEntry::Network(..) => self.networks.put(all_of!(entries, MapEntry::Network(key, value) => (key, value))),
            MapEntry::Fdb(..) => self.fdb.put(all_of!(entries, MapEntry::Fdb(key, value) => (key, value))),
            MapEntry::Vtep(..) => all_of!(entries, MapEntry::Vtep(key, value) => self.put_vtep(key, value)).collect(),
            MapEntry::Neighbor(..) => {
                self.neighbors.put(all_of!(entries, MapEntry::Neighbor(key, value) => (key, value)))
            }
            MapEntry::Security(_) => {
                let entries: Vec<SecurityEntry> = all_of!(entries, MapEntry::Security(entry) => entry).collect();
                self.security.put(&entries)
            }
            MapEntry::Vlan(..) => self.vlans.put(all_of!(entries, MapEntry::Vlan(key, value) => (key, value))),
            MapEntry::VlanDevice(..) => {
                self.vlan_devices.put(all_of!(entries, MapEntry::VlanDevice(key, value) => (key, value)))
            }
            MapEntry::Qos(..) => {
                let mut put = |key, value| self.qos.as_mut().map_or(Ok(()), |maps| maps.put(key, value));
                all_of!(entries, MapEntry::Qos(key, value) => put(key, value)).collect()
            }
            MapEntry::XdpDevice(..) => {
                let mut put = |key, value| self.xdp_devices.as_mut().map_or(Ok(()), |map| map.put(key, value));
                all_of!(entries, MapEntry::XdpDevice(key, value) => put(key, value)).collect()
            }
        }
    }

    /// An endpoint that does not fit must not be taken for a stranger's: the programs are told before anything else.
    fn put_vtep(&mut self, key: Address, value: Vtep) -> Result<(), DatapathError> {
        let result = self.vteps.put([(key, value)]).into_iter().collect();
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

    /// Deletes entries of one map, if they are there; each has its own result.
    pub(super) fn delete(&mut self, keys: &[MapKey]) -> Results {
        let Some(first) = keys.first() else { return Vec::new() };
        match first {
            MapKey::Port(_) => self.ports.delete(all_of!(keys, MapKey::Port(key) => key)),
            MapKey::Network(_) => self.networks.delete(all_of!(keys, MapKey::Network(key) => key)),
            MapKey::Fdb(_) => self.fdb.delete(all_of!(keys, MapKey::Fdb(key) => key)),
            MapKey::Vtep(_) => {
                let vteps: Vec<Address> = all_of!(keys, MapKey::Vtep(key) => key).collect();
                self.vteps_that_do_not_fit.retain(|vtep| !vteps.contains(vtep));
                self.vteps.delete(vteps)
            }
            MapKey::Neighbor(_) => self.neighbors.delete(all_of!(keys, MapKey::Neighbor(key) => key)),
            MapKey::Security(_) => {
                let keys: Vec<SecurityKey> = all_of!(keys, MapKey::Security(key) => key).collect();
                self.security.delete(&keys)
            }
            MapKey::Vlan(_) => self.vlans.delete(all_of!(keys, MapKey::Vlan(key) => key)),
            MapKey::VlanDevice(_) => self.vlan_devices.delete(all_of!(keys, MapKey::VlanDevice(key) => key)),
            MapKey::Qos(_) => {
                let mut delete = |key| self.qos.as_mut().map_or(Ok(()), |maps| maps.delete(key));
                all_of!(keys, MapKey::Qos(key) => delete(key)).collect()
            }
            MapKey::XdpDevice(_) => {
                let mut delete = |key| self.xdp_devices.as_mut().map_or(Ok(()), |map| map.delete(key));
                all_of!(keys, MapKey::XdpDevice(key) => delete(key)).collect()
            }
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
