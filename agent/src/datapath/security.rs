//! The maps of port security and security groups.
//!
//! Single addresses are looked up by hashing, prefixes in a trie: of each there is a map.

use std::net::{IpAddr, Ipv6Addr};

use aya::{
    Pod,
    maps::{Array, MapData, PerCpuHashMap, lpm_trie::Key},
};
use ipnet::IpNet;
use overlane_abi::{
    Address, Member, MemberKey, PolicyName, RuleHitKey, RuleKey, RuleSet, SetName, Source, SourceKey, Tally, names,
};
use overlane_core::{
    action::{SecurityEntry, SecurityKey},
    map_entry,
    model::Mac,
    observed::{AllowedSource, SecurityState},
    security::compile::Service,
};

use super::{
    DatapathError,
    maps::{Opener, gone},
    table::{Results, Table, all_of},
};

/// The maps, and what they hold.
pub(super) struct SecurityMaps {
    sources: Nets<SourceKey, Source>,
    sets: Table<u32, SetName>,
    members: Nets<MemberKey, Member>,
    policies: Table<u32, PolicyName>,
    rules: Table<Key<RuleKey>, RuleSet>,
    generation: Array<MapData, u32>,
    rule_hits: PerCpuHashMap<MapData, RuleHitKey, Tally>,
}

/// A map of single addresses, and one of prefixes.
struct Nets<K, V> {
    single: Table<K, V>,
    prefixes: Table<Key<K>, V>,
}

impl SecurityMaps {
    pub(super) fn open(open: &mut Opener<'_>) -> Result<Self, DatapathError> {
        Ok(Self {
            sources: Nets { single: open.table(names::SOURCES)?, prefixes: open.table(names::SOURCE_PREFIXES)? },
            sets: open.table(names::SETS)?,
            members: Nets { single: open.table(names::MEMBERS)?, prefixes: open.table(names::MEMBER_PREFIXES)? },
            policies: open.table(names::POLICIES)?,
            rules: open.table(names::RULES)?,
            generation: open.typed(names::GENERATION)?,
            rule_hits: open.typed(names::RULE_HITS)?,
        })
    }

    /// What the maps hold.
    pub(super) fn read(&self) -> Result<SecurityState, DatapathError> {
        let mut state = SecurityState::default();
        for (key, source) in self.sources.single.read::<Vec<_>>()? {
            let length = if key.family == SourceKey::V4 { 32 } else { 128 };
            add_source(&mut state, &key, length, source);
        }
        for (key, source) in self.sources.prefixes.read::<Vec<_>>()? {
            let of_address = key.prefix_len().saturating_sub(SourceKey::prefix_len(key.data().family, 0));
            add_source(&mut state, &key.data(), of_address, source);
        }
        state.sets = self.sets.read()?;
        for (key, member) in self.members.single.read::<Vec<_>>()? {
            add_member(&mut state, &key, None, member);
        }
        for (key, member) in self.members.prefixes.read::<Vec<_>>()? {
            add_member(&mut state, &key.data(), Some(key.prefix_len()), member);
        }
        state.policies = self.policies.read()?;
        for (key, rules) in self.rules.read::<Vec<_>>()? {
            let service = Service::from_key(&key.data(), key.prefix_len());
            state.rules.entry(key.data().policy).or_default().insert(service, rules);
        }
        state.generation = self.generation()?;
        Ok(state)
    }

    fn generation(&self) -> Result<u32, DatapathError> {
        self.generation.get(&0, 0).map_err(DatapathError::map(names::GENERATION))
    }

    /// Has all flows that members of sets have admitted judged again: an agent may have ended between taking a member away and
    /// saying so.
    pub(super) fn begin(&mut self) -> Result<(), DatapathError> {
        let generation = self.generation()? + 1;
        self.set_generation(generation)
    }

    fn set_generation(&mut self, generation: u32) -> Result<(), DatapathError> {
        self.generation.set(0, generation, 0).map_err(DatapathError::map(names::GENERATION))
    }

    /// Inserts or replaces entries of one kind; each has its own result.
    pub(super) fn put(&mut self, entries: &[SecurityEntry]) -> Results {
        let Some(first) = entries.first() else { return Vec::new() };
        match first {
            SecurityEntry::Source(..) => self.sources.put(all_of!(
                entries,
                SecurityEntry::Source(ifindex, source, flags) => (source.key(ifindex), Source { flags })
            )),
            SecurityEntry::Set(..) => self.sets.put(all_of!(entries, SecurityEntry::Set(set, name) => (set, name))),
            SecurityEntry::Member(..) => self.members.put(all_of!(
                entries,
                SecurityEntry::Member(set, net, rule) => (map_entry::member_key(set, &net), Member { rule })
            )),
            SecurityEntry::Policy(..) => {
                self.policies.put(all_of!(entries, SecurityEntry::Policy(policy, name) => (policy, name)))
            }
            SecurityEntry::Rule(..) => self.rules.put(all_of!(
                entries,
                SecurityEntry::Rule(policy, service, rules) => (Key::new(service.prefix_len, service.key(policy)), rules)
            )),
            SecurityEntry::Generation(_) => {
                let mut set = |generation| self.set_generation(generation);
                all_of!(entries, SecurityEntry::Generation(generation) => set(generation)).collect()
            }
        }
    }

    /// Deletes entries of one kind, if they are there; each has its own result.
    pub(super) fn delete(&mut self, keys: &[SecurityKey]) -> Results {
        let Some(first) = keys.first() else { return Vec::new() };
        match first {
            SecurityKey::Source(..) => {
                self.sources.delete(all_of!(keys, SecurityKey::Source(ifindex, source) => source.key(ifindex)))
            }
            SecurityKey::Set(_) => self.sets.delete(all_of!(keys, SecurityKey::Set(set) => set)),
            SecurityKey::Member(..) => {
                self.members.delete(all_of!(keys, SecurityKey::Member(set, net) => map_entry::member_key(set, &net)))
            }
            SecurityKey::Policy(_) => {
                let mut delete = |policy| {
                    self.forget_hits(policy)?;
                    self.policies.delete([policy]).into_iter().collect()
                };
                all_of!(keys, SecurityKey::Policy(policy) => delete(policy)).collect()
            }
            SecurityKey::Rule(..) => self.rules.delete(all_of!(
                keys,
                SecurityKey::Rule(policy, service) => Key::new(service.prefix_len, service.key(policy))
            )),
            // There is always one.
            SecurityKey::Generation => keys.iter().map(|_| Ok(())).collect(),
        }
    }

    fn forget_hits(&mut self, policy: u32) -> Result<(), DatapathError> {
        let keys: Result<Vec<RuleHitKey>, _> = self.rule_hits.keys().collect();
        let keys = keys.map_err(DatapathError::map(names::RULE_HITS))?;
        for key in keys.iter().filter(|key| key.policy == policy) {
            gone(self.rule_hits.remove(key), names::RULE_HITS)?;
        }
        Ok(())
    }
}

/// A key, and the length of its prefix in bits; `None` for a single address.
type Net<K> = (K, Option<u32>);

impl<K: Pod, V: Pod> Nets<K, V> {
    fn put(&mut self, entries: impl Iterator<Item = (Net<K>, V)>) -> Results {
        let entries: Vec<(Net<K>, V)> = entries.collect();
        let runs = entries.chunk_by(|((_, one), _), ((_, other), _)| one.is_some() == other.is_some());
        let results = runs.flat_map(|run| match run {
            [((_, None), _), ..] => self.single.put(run.iter().map(|((key, _), value)| (*key, *value))),
            _ => self
                .prefixes
                .put(run.iter().filter_map(|((key, prefix), value)| Some((Key::new((*prefix)?, *key), *value)))),
        });
        results.collect()
    }

    fn delete(&mut self, keys: impl Iterator<Item = Net<K>>) -> Results {
        let keys: Vec<Net<K>> = keys.collect();
        let runs = keys.chunk_by(|(_, one), (_, other)| one.is_some() == other.is_some());
        let results = runs.flat_map(|run| match run {
            [(_, None), ..] => self.single.delete(run.iter().map(|(key, _)| *key)),
            _ => self.prefixes.delete(run.iter().filter_map(|(key, prefix)| Some(Key::new((*prefix)?, *key)))),
        });
        results.collect()
    }
}

fn add_source(state: &mut SecurityState, key: &SourceKey, length: u32, source: Source) {
    let net = match key.family {
        SourceKey::V4 => Some(net(key.address, false, length)),
        SourceKey::V6 => Some(net(key.address, true, length)),
        _ => None,
    };
    let allowed = AllowedSource { mac: Mac(key.mac), net };
    state.sources.entry(key.ifindex).or_default().insert(allowed, source.flags);
}

fn add_member(state: &mut SecurityState, key: &MemberKey, prefix_len: Option<u32>, member: Member) {
    let is_v6 = state.sets.get(&key.set).is_some_and(|name| name.family == 6);
    let length = match prefix_len {
        Some(length) => length.saturating_sub(MemberKey::prefix_len(is_v6, 0)),
        None if is_v6 => 128,
        None => 32,
    };
    state.members.entry(key.set).or_default().insert(net(key.address, is_v6, length), member.rule);
}

fn net(address: Address, is_v6: bool, length: u32) -> IpNet {
    let v6 = Ipv6Addr::from(address.octets);
    let address = if is_v6 { IpAddr::V6(v6) } else { v6.to_canonical() };
    // Nobody but the agent writes lengths, and an address is always a net.
    IpNet::new(address, u8::try_from(length).unwrap_or(u8::MAX)).unwrap_or_else(|_| IpNet::from(address))
}
