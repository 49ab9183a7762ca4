//! Changes of what is desired, small ones apart: one machine that comes or goes elsewhere in the cloud must not cost a look
//! at all the others.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use crate::{
    desired::{Desired, EntryKey, Neighbor, Network},
    model::{Mac, NetworkId},
    security::Rulebook,
};

/// What a control plane has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// Everything, anew.
    Whole(Box<Desired>),
    /// Some entries; all else is as it was.
    Entries(Vec<EntryChange>),
    /// Other rules of security groups or other members, and some entries; all else is as it was.
    Rules(Arc<Rulebook>, Vec<EntryChange>),
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
        Some(match entries_between(old, new) {
            None => Self::Whole(Box::new(new.clone())),
            Some(changes) if old.rulebook == new.rulebook => Self::Entries(changes),
            Some(changes) => Self::Rules(Arc::clone(&new.rulebook), changes),
        })
    }

    /// Makes one update of two that come one after the other.
    pub fn then(self, next: Self) -> Self {
        match (self, next) {
            (_, Self::Whole(whole)) => Self::Whole(whole),
            (Self::Whole(mut desired), next) => {
                next.apply(&mut desired);
                Self::Whole(desired)
            }
            (Self::Entries(changes), Self::Entries(more)) => Self::Entries([changes, more].concat()),
            (Self::Rules(rulebook, changes), Self::Entries(more))
            | (Self::Entries(changes) | Self::Rules(_, changes), Self::Rules(rulebook, more)) => {
                Self::Rules(rulebook, [changes, more].concat())
            }
        }
    }

    /// Changes what is desired, and says which entries that is about if it is about nothing but entries and rules.
    pub fn apply(self, desired: &mut Desired) -> Option<Vec<EntryKey>> {
        let changes = match self {
            Self::Whole(whole) => {
                *desired = *whole;
                return None;
            }
            Self::Entries(changes) => changes,
            Self::Rules(rulebook, changes) => {
                desired.rulebook = rulebook;
                changes
            }
        };
        Some(changes.iter().map(|change| change.apply(desired)).collect())
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

/// The entries that differ, if nothing else does but the rules.
fn entries_between(old: &Desired, new: &Desired) -> Option<Vec<EntryChange>> {
    // By name, so that a new field is not forgotten here.
    let Desired { complete, networks, sub_ports, deleted, vteps, rulebook: _, closed_by_default } = new;
    let is_same = (complete, sub_ports, deleted, vteps, closed_by_default)
        == (&old.complete, &old.sub_ports, &old.deleted, &old.vteps, &old.closed_by_default);
    if !is_same || old.networks.len() != networks.len() {
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
    let Network {
        name,
        segment,
        mtu,
        local_ports,
        remote_macs: _,
        moving_macs,
        has_unknown_members,
        flood,
        neighbors: _,
    } = new;
    (name, segment, mtu, local_ports, moving_macs, has_unknown_members, flood)
        == (&old.name, &old.segment, &old.mtu, &old.local_ports, &old.moving_macs, &old.has_unknown_members, &old.flood)
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
