//! The maps of port security and security groups.
//!
//! Single addresses are looked up by hashing, prefixes in a trie: of each there is a map.

use std::{
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
};

use aya::{
    Pod,
    maps::{
        Array, HashMap, MapData, PerCpuHashMap,
        lpm_trie::{Key, LpmTrie},
    },
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
    maps::{Opener, gone, insert},
};

/// The maps, and what they hold.
pub(super) struct SecurityMaps {
    sources: HashMap<MapData, SourceKey, Source>,
    source_prefixes: LpmTrie<MapData, SourceKey, Source>,
    sets: HashMap<MapData, u32, SetName>,
    members: HashMap<MapData, MemberKey, Member>,
    member_prefixes: LpmTrie<MapData, MemberKey, Member>,
    policies: HashMap<MapData, u32, PolicyName>,
    rules: LpmTrie<MapData, RuleKey, RuleSet>,
    generation: Array<MapData, u32>,
    rule_hits: PerCpuHashMap<MapData, RuleHitKey, Tally>,
}

impl SecurityMaps {
    pub(super) fn open(open: &mut Opener<'_>) -> Result<Self, DatapathError> {
        Ok(Self {
            sources: open.typed(names::SOURCES)?,
            source_prefixes: open.typed(names::SOURCE_PREFIXES)?,
            sets: open.typed(names::SETS)?,
            members: open.typed(names::MEMBERS)?,
            member_prefixes: open.typed(names::MEMBER_PREFIXES)?,
            policies: open.typed(names::POLICIES)?,
            rules: open.typed(names::RULES)?,
            generation: open.typed(names::GENERATION)?,
            rule_hits: open.typed(names::RULE_HITS)?,
        })
    }

    /// What the maps hold.
    pub(super) fn read(&self) -> Result<SecurityState, DatapathError> {
        let mut state = SecurityState::default();
        entries(self.sources.iter(), names::SOURCES, |key, source| {
            let length = if key.family == SourceKey::V4 { 32 } else { 128 };
            add_source(&mut state, &key, length, source);
        })?;
        entries(self.source_prefixes.iter(), names::SOURCE_PREFIXES, |key, source| {
            let of_address = key.prefix_len().saturating_sub(SourceKey::prefix_len(key.data().family, 0));
            add_source(&mut state, &key.data(), of_address, source);
        })?;
        entries(self.sets.iter(), names::SETS, |set, name| {
            state.sets.insert(set, name);
        })?;
        entries(self.members.iter(), names::MEMBERS, |key, member| add_member(&mut state, &key, None, member))?;
        entries(self.member_prefixes.iter(), names::MEMBER_PREFIXES, |key, member| {
            add_member(&mut state, &key.data(), Some(key.prefix_len()), member);
        })?;
        entries(self.policies.iter(), names::POLICIES, |policy, name| {
            state.policies.insert(policy, name);
        })?;
        entries(self.rules.iter(), names::RULES, |key, rules| {
            let service = Service::from_key(&key.data(), key.prefix_len());
            state.rules.entry(key.data().policy).or_default().insert(service, rules);
        })?;
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
        self.put(&SecurityEntry::Generation(generation))
    }

    /// Inserts or replaces an entry.
    pub(super) fn put(&mut self, entry: &SecurityEntry) -> Result<(), DatapathError> {
        match *entry {
            SecurityEntry::Source(ifindex, source, flags) => {
                let (key, prefix) = source.key(ifindex);
                put(&mut self.sources, &mut self.source_prefixes, (key, prefix), Source { flags }, names::SOURCES)?;
            }
            SecurityEntry::Set(set, name) => {
                insert(&mut self.sets, names::SETS, set, name)?;
            }
            SecurityEntry::Member(set, net, rule) => {
                let key = map_entry::member_key(set, &net);
                put(&mut self.members, &mut self.member_prefixes, key, Member { rule }, names::MEMBERS)?;
            }
            SecurityEntry::Policy(policy, name) => {
                insert(&mut self.policies, names::POLICIES, policy, name)?;
            }
            SecurityEntry::Rule(policy, service, rules) => {
                let key = Key::new(service.prefix_len, service.key(policy));
                self.rules.insert(&key, rules, 0).map_err(DatapathError::map(names::RULES))?;
            }
            SecurityEntry::Generation(generation) => {
                self.generation.set(0, generation, 0).map_err(DatapathError::map(names::GENERATION))?;
            }
        }
        Ok(())
    }

    /// Deletes an entry, if it is there.
    pub(super) fn delete(&mut self, key: &SecurityKey) -> Result<(), DatapathError> {
        match *key {
            SecurityKey::Source(ifindex, source) => {
                let (key, prefix) = source.key(ifindex);
                delete(&mut self.sources, &mut self.source_prefixes, (key, prefix), names::SOURCES)?;
            }
            SecurityKey::Set(set) => {
                gone(self.sets.remove(&set), names::SETS)?;
            }
            SecurityKey::Member(set, net) => {
                delete(&mut self.members, &mut self.member_prefixes, map_entry::member_key(set, &net), names::MEMBERS)?;
            }
            SecurityKey::Policy(policy) => {
                self.forget_hits(policy)?;
                gone(self.policies.remove(&policy), names::POLICIES)?;
            }
            SecurityKey::Rule(policy, service) => {
                gone(self.rules.remove(&Key::new(service.prefix_len, service.key(policy))), names::RULES)?;
            }
            // There is always one.
            SecurityKey::Generation => (),
        }
        Ok(())
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

fn entries<K, V>(
    entries: impl Iterator<Item = Result<(K, V), aya::maps::MapError>>,
    name: &'static str,
    mut add: impl FnMut(K, V),
) -> Result<(), DatapathError> {
    for entry in entries {
        let (key, value) = entry.map_err(DatapathError::map(name))?;
        add(key, value);
    }
    Ok(())
}

fn put<K: Pod + Hash + Eq, V: Pod>(
    single: &mut HashMap<MapData, K, V>,
    prefixes: &mut LpmTrie<MapData, K, V>,
    (key, prefix): (K, Option<u32>),
    value: V,
    name: &'static str,
) -> Result<(), DatapathError> {
    match prefix {
        None => insert(single, name, key, value),
        Some(length) => prefixes.insert(&Key::new(length, key), value, 0).map_err(DatapathError::map(name)),
    }
}

fn delete<K: Pod + Hash + Eq, V: Pod>(
    single: &mut HashMap<MapData, K, V>,
    prefixes: &mut LpmTrie<MapData, K, V>,
    (key, prefix): (K, Option<u32>),
    name: &'static str,
) -> Result<(), DatapathError> {
    match prefix {
        None => gone(single.remove(&key), name),
        Some(length) => gone(prefixes.remove(&Key::new(length, key)), name),
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
