//! Forwarding databases: of bridges, and of vxlan devices.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

use super::KernelState;
use crate::model::Mac;

/// An entry of a forwarding database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FdbEntry {
    /// The device it belongs to: a bridge port for [`FdbTable::Bridge`], a vxlan device for [`FdbTable::Vxlan`].
    pub ifindex: u32,
    /// Destination MAC address; zero in a vxlan device's FDB means "flood".
    pub mac: Mac,
    /// Which table.
    pub table: FdbTable,
}

/// A device can appear in two forwarding databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FdbTable {
    /// The FDB of the bridge that the device is a port of (`bridge fdb … master static`).
    Bridge,
    /// The FDB of the bridge that the device is a port of, learned from what has arrived at this one: it comes and goes by itself.
    BridgeLearned,
    /// The vxlan device's own FDB (`bridge fdb … self permanent dst …`).
    Vxlan {
        /// The tunnel endpoint to send to.
        remote: IpAddr,
    },
    /// The vxlan device's own FDB, learned from what has arrived: it comes and goes by itself.
    Learned {
        /// The tunnel endpoint that has sent it.
        remote: IpAddr,
    },
}

/// What is to be known of that which bridges and vxlan devices learn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// Everything that vxlan devices learn: there is no other way to know where members are.
    pub from_tunnels: bool,
    /// These MAC addresses, wherever they are learned: they move.
    pub macs: BTreeSet<Mac>,
}

impl KernelState {
    /// Adds an entry as the kernel does, and returns whether anything has changed: a vxlan device has one endpoint for a
    /// machine's MAC address, and several only for the flood list; a bridge has one of its ports for what it has learned.
    pub fn add_fdb(&mut self, entry: FdbEntry) -> bool {
        let is_of_bridge = |entry: &FdbEntry| matches!(entry.table, FdbTable::Bridge | FdbTable::BridgeLearned);
        if entry.table == FdbTable::BridgeLearned {
            let bridge = |ifindex: u32| self.links.get(&ifindex).and_then(|link| link.master);
            let own = bridge(entry.ifindex);
            let is_replaced = |other: &FdbEntry| {
                (other.mac, other.table) == (entry.mac, entry.table)
                    && other.ifindex != entry.ifindex
                    && bridge(other.ifindex) == own
            };
            let replaced: Vec<FdbEntry> = self.fdb.iter().filter(|other| is_replaced(other)).copied().collect();
            for other in &replaced {
                self.fdb.remove(other);
            }
        } else if !is_of_bridge(&entry) && entry.mac != Mac::ZERO {
            let others = |other: &&FdbEntry| !is_of_bridge(other) && **other != entry;
            let replaced: Vec<FdbEntry> = self.fdb_for(entry.ifindex, entry.mac).filter(others).copied().collect();
            for other in &replaced {
                self.fdb.remove(other);
            }
        }
        self.fdb.insert(entry)
    }

    /// The entries of a device.
    pub fn fdb_of(&self, ifindex: u32) -> impl Iterator<Item = &FdbEntry> {
        self.fdb_between(ifindex, Mac::ZERO, Mac([0xff; 6]))
    }

    /// The entries of a device for a MAC address.
    pub fn fdb_for(&self, ifindex: u32, mac: Mac) -> impl Iterator<Item = &FdbEntry> {
        self.fdb_between(ifindex, mac, mac)
    }

    /// The tunnel endpoint that a vxlan device has learned a MAC address from.
    pub fn learned(&self, vxlan: u32, mac: Mac) -> Option<IpAddr> {
        self.fdb_for(vxlan, mac).find_map(|entry| match entry.table {
            FdbTable::Learned { remote } => Some(remote),
            FdbTable::Bridge | FdbTable::BridgeLearned | FdbTable::Vxlan { .. } => None,
        })
    }

    /// Whether a bridge has learned that a MAC address is behind one of its ports.
    pub fn is_learned_at(&self, port: u32, mac: Mac) -> bool {
        self.fdb.contains(&FdbEntry { ifindex: port, mac, table: FdbTable::BridgeLearned })
    }

    /// Every tunnel endpoint that something has been learned from.
    pub fn learned_vteps(&self) -> BTreeSet<IpAddr> {
        let remotes = self.fdb.iter().filter_map(|entry| match entry.table {
            FdbTable::Learned { remote } => Some(remote),
            FdbTable::Bridge | FdbTable::BridgeLearned | FdbTable::Vxlan { .. } => None,
        });
        remotes.collect()
    }

    fn fdb_between(&self, ifindex: u32, first: Mac, last: Mac) -> impl Iterator<Item = &FdbEntry> {
        // The least and the greatest table there can be.
        let last_table = FdbTable::Learned { remote: IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)) };
        let first = FdbEntry { ifindex, mac: first, table: FdbTable::Bridge };
        self.fdb.range(first..=FdbEntry { ifindex, mac: last, table: last_table })
    }
}
