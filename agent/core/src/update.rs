//! Changes of what is desired, small ones apart: one machine that comes or goes elsewhere in the cloud must not cost a look
//! at all the others.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    desired::{Desired, EntryKey, Neighbor, Network},
    model::{Mac, NetworkId},
};

/// What a control plane has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// Everything, anew.
    Whole(Box<Desired>),
    /// Some entries; all else is as it was.
    Entries(Vec<EntryChange>),
}

/// One entry as it is from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryChange {
    /// The tunnel endpoint behind which a MAC address lives; `None`: it is behind no other host any more.
    RemoteMac(NetworkId, Mac, Option<IpAddr>),
    /// What the responder may answer about an address.
    Neighbor(NetworkId, IpAddr, Option<Neighbor>),
}

impl Update {
    /// What leads from one state to another; `None` when they are the same.
    pub fn between(old: &Desired, new: &Desired) -> Option<Self> {
        if old == new {
            return None;
        }
        Some(entries_between(old, new).map_or_else(|| Self::Whole(Box::new(new.clone())), Self::Entries))
    }

    /// Makes one update of two that come one after the other.
    pub fn then(self, next: Self) -> Self {
        match (self, next) {
            (Self::Whole(mut desired), Self::Entries(changes)) => {
                for change in &changes {
                    change.apply(&mut desired);
                }
                Self::Whole(desired)
            }
            (Self::Entries(mut changes), Self::Entries(more)) => {
                changes.extend(more);
                Self::Entries(changes)
            }
            (_, whole) => whole,
        }
    }
}

impl EntryChange {
    /// Changes the entry, if its network is desired, and says which one it is.
    pub fn apply(&self, desired: &mut Desired) -> EntryKey {
        match self {
            Self::RemoteMac(network, mac, vtep) => {
                if let Some(network) = desired.networks.get_mut(network) {
                    set(&mut network.remote_macs, *mac, *vtep);
                }
                EntryKey::Mac(*network, *mac)
            }
            Self::Neighbor(network, address, neighbor) => {
                if let Some(network) = desired.networks.get_mut(network) {
                    set(&mut network.neighbors, *address, *neighbor);
                }
                EntryKey::Address(*network, *address)
            }
        }
    }
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

/// The entries that differ, if nothing else does.
fn entries_between(old: &Desired, new: &Desired) -> Option<Vec<EntryChange>> {
    let same_but_for_networks =
        old.complete == new.complete && old.vteps == new.vteps && old.networks.len() == new.networks.len();
    if !same_but_for_networks {
        return None;
    }
    let mut changes = Vec::new();
    for ((old_id, old), (id, new)) in old.networks.iter().zip(&new.networks) {
        if old_id != id || !differ_in_entries_only(old, new) {
            return None;
        }
        let macs = differences(&old.remote_macs, &new.remote_macs);
        changes.extend(macs.map(|(mac, vtep)| EntryChange::RemoteMac(*id, mac, vtep)));
        let addresses = differences(&old.neighbors, &new.neighbors);
        changes.extend(addresses.map(|(address, neighbor)| EntryChange::Neighbor(*id, address, neighbor)));
    }
    Some(changes)
}

fn differ_in_entries_only(old: &Network, new: &Network) -> bool {
    // By name, so that a new field is not forgotten here.
    let Network { name, segment, mtu, local_ports, remote_macs: _, flood, neighbors: _ } = new;
    (name, segment, mtu, local_ports, flood) == (&old.name, &old.segment, &old.mtu, &old.local_ports, &old.flood)
}

/// What is new or other in `new`, and what is gone from it.
fn differences<'a, K: Ord + Copy, V: PartialEq + Copy>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (K, Option<V>)> + 'a {
    let changed = new.iter().filter(|(key, value)| old.get(key) != Some(*value));
    let gone = old.keys().filter(|key| !new.contains_key(key));
    changed.map(|(key, value)| (*key, Some(*value))).chain(gone.map(|key| (*key, None)))
}
