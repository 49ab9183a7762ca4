//! What the maps of port security and security groups hold.

use std::collections::BTreeMap;

use ipnet::IpNet;
use overlane_abi as abi;

use crate::{
    action::{SecurityEntry, SecurityKey},
    model::Mac,
    security::compile::Service,
};

/// Contents of the maps of port security and security groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecurityState {
    /// `sources` and `source_prefixes`: what each tap's port may send as, with the flags of an [`abi::Source`].
    pub sources: BTreeMap<u32, BTreeMap<AllowedSource, u32>>,
    /// `sets`: what each set holds.
    pub sets: BTreeMap<u32, abi::SetName>,
    /// `members` and `member_prefixes`: the addresses of each set, with the rule of an [`abi::Member`].
    pub members: BTreeMap<u32, BTreeMap<IpNet, u32>>,
    /// `policies`: what each policy consists of.
    pub policies: BTreeMap<u32, abi::PolicyName>,
    /// `rules`: the entries of each policy.
    pub rules: BTreeMap<u32, BTreeMap<Service, abi::RuleSet>>,
    /// The one entry of `generation`; 0 in maps that nobody has filled yet.
    pub generation: u32,
}

/// A MAC address that a port may use, with the addresses to use it with; `None`: with frames that are neither IP nor ARP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AllowedSource {
    /// The source MAC address.
    pub mac: Mac,
    /// The source addresses.
    pub net: Option<IpNet>,
}

impl SecurityState {
    /// Takes note of an entry that was written.
    pub fn put(&mut self, entry: &SecurityEntry) {
        match *entry {
            SecurityEntry::Source(ifindex, source, flags) => {
                self.sources.entry(ifindex).or_default().insert(source, flags);
            }
            SecurityEntry::Set(set, name) => {
                self.sets.insert(set, name);
            }
            SecurityEntry::Member(set, net, rule) => {
                self.members.entry(set).or_default().insert(net, rule);
            }
            SecurityEntry::Policy(policy, name) => {
                self.policies.insert(policy, name);
            }
            SecurityEntry::Rule(policy, service, rules) => {
                self.rules.entry(policy).or_default().insert(service, rules);
            }
            SecurityEntry::Generation(generation) => self.generation = generation,
        }
    }

    /// Takes note of an entry that was deleted, and returns whether it was known.
    pub fn delete(&mut self, key: &SecurityKey) -> bool {
        match key {
            SecurityKey::Source(ifindex, source) => remove(&mut self.sources, *ifindex, source),
            SecurityKey::Set(set) => self.sets.remove(set).is_some(),
            SecurityKey::Member(set, net) => remove(&mut self.members, *set, net),
            SecurityKey::Policy(policy) => self.policies.remove(policy).is_some(),
            SecurityKey::Rule(policy, service) => remove(&mut self.rules, *policy, service),
            // There is always one.
            SecurityKey::Generation => false,
        }
    }
}

/// Removes an entry of one of many tables, and the table with its last one.
fn remove<K: Ord, V>(tables: &mut BTreeMap<u32, BTreeMap<K, V>>, number: u32, key: &K) -> bool {
    let Some(table) = tables.get_mut(&number) else { return false };
    let was_there = table.remove(key).is_some();
    if table.is_empty() {
        tables.remove(&number);
    }
    was_there
}
