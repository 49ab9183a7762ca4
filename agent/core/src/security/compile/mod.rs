//! From rules to what the maps hold, without numbers: the plan gives sets and policies theirs.
//!
//! The programs look up one entry of the `rules` trie, and only the longest prefix that matches. Rules only ever admit, so
//! every entry repeats what the entries that cover it admit: any protocol covers TCP, all ports cover port 80.

mod ports;
mod set;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use ipnet::IpNet;
use overlane_abi as abi;

use super::{Direction, Ethertype, Groups, Remote, Rule, Traffic};
use crate::model::SecurityGroupId;

pub use set::{Member, SetName, Union};

/// What the groups of a port come to. Ports with the same groups share one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The rules, by their index.
    pub rules: Vec<PolicyRule>,
    /// Entries of the `rules` map.
    pub entries: BTreeMap<Service, Vec<Match>>,
    /// Whether one of the groups wants to know what is dropped.
    pub logs_drops: bool,
}

/// A rule and where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyRule {
    /// The group that it is a rule of.
    pub group: SecurityGroupId,
    /// What it says.
    pub rule: Rule,
    /// Whether it admits a flow, rather than a packet.
    pub is_stateful: bool,
    /// Whether what it admits is logged.
    pub is_logged: bool,
}

/// A prefix of an [`abi::RuleKey`], without the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// Which way.
    pub direction: Direction,
    /// Which family.
    pub ethertype: Ethertype,
    /// Protocol number; 0 in entries about any protocol.
    pub protocol: u8,
    /// Port, or ICMP type and code, in network byte order; bits behind the prefix are zero.
    pub service_be: [u8; 2],
    /// Bits of the whole key that count.
    pub prefix_len: u32,
}

/// One way to be admitted by an entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Match {
    /// The set that the remote address must be in; `None` is anybody.
    pub set: Option<SetName>,
    /// The rule; 0 when each member of the set has its own.
    pub rule: u16,
    /// Flags of an [`abi::Match`].
    pub flags: u16,
}

/// A policy has more rules than indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its security groups have {0} rules, more than {RULES_MAX}")]
pub struct TooManyRules(pub usize);

/// Indices below [`abi::RULE_FIXED`].
const RULES_MAX: usize = abi::RULE_FIXED as usize;

/// Compiles the rules of the groups of a port.
///
/// # Errors
/// [`TooManyRules`] when there are.
pub fn policy(ids: &BTreeSet<SecurityGroupId>, groups: &Groups) -> Result<Policy, TooManyRules> {
    let mut rules = Vec::new();
    let mut logs_drops = false;
    for (id, group) in ids.iter().filter_map(|id| Some((id, groups.security.get(id)?))) {
        let (is_stateful, is_logged) = (group.is_stateful, group.log.accepted());
        rules.extend(group.rules.iter().map(|rule| PolicyRule { group: *id, rule: *rule, is_stateful, is_logged }));
        logs_drops |= group.log.dropped();
    }
    if rules.len() > RULES_MAX {
        return Err(TooManyRules(rules.len()));
    }
    let mut own: BTreeMap<Service, Own> = BTreeMap::new();
    for (index, rule) in (0..).zip(&rules) {
        for service in services(&rule.rule) {
            own.entry(service).or_default().add(index, rule);
        }
    }
    let entries = own.keys().map(|service| (*service, matches(*service, &own))).collect();
    Ok(Policy { rules, entries, logs_drops })
}

impl Policy {
    /// The sets that it refers to.
    pub fn sets(&self) -> impl Iterator<Item = &SetName> {
        self.entries.values().flatten().filter_map(|found| found.set.as_ref())
    }

    /// What tells it from every other policy, over restarts of the agent.
    pub fn fingerprint(&self) -> [u8; 16] {
        fingerprint(&(&self.rules, self.logs_drops))
    }
}

/// 128 bits that depend on all of `value`.
fn fingerprint(value: &impl std::hash::Hash) -> [u8; 16] {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        value.hash(&mut hasher);
        hasher.finish().to_be_bytes()
    };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&half(1));
    bytes[8..].copy_from_slice(&half(2));
    bytes
}

/// What the rules of one place say by themselves: by flags, stateful before stateless and logged before silent, as the
/// first match decides.
#[derive(Clone, Debug, Default)]
struct Own {
    by_flags: BTreeMap<Flags, Remotes>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flags {
    is_stateless: bool,
    is_silent: bool,
}

/// Whom rules with the same flags admit, each with the first rule that does.
#[derive(Clone, Debug, Default)]
struct Remotes {
    any: Option<u16>,
    groups: BTreeMap<SetName, u16>,
    prefixes: BTreeMap<IpNet, u16>,
}

impl Own {
    fn add(&mut self, index: u16, rule: &PolicyRule) {
        let flags = Flags { is_stateless: !rule.is_stateful, is_silent: !rule.is_logged };
        let remotes = self.by_flags.entry(flags).or_default();
        match rule.rule.remote {
            Remote::Any => {
                remotes.any.get_or_insert(index);
            }
            Remote::Prefix(net) => {
                remotes.prefixes.entry(net).or_insert(index);
            }
            Remote::Group(id) => {
                remotes.groups.entry(SetName::Group(id, rule.rule.ethertype)).or_insert(index);
            }
            Remote::AddressGroup(id) => {
                remotes.groups.entry(SetName::AddressGroup(id, rule.rule.ethertype)).or_insert(index);
            }
        }
    }
}

impl Flags {
    fn bits(self) -> u16 {
        let stateless = if self.is_stateless { abi::Match::STATELESS } else { 0 };
        let logged = if self.is_silent { 0 } else { abi::Match::LOGGED };
        abi::Match::USED | stateless | logged
    }
}

/// The places in the trie that a rule is about.
fn services(rule: &Rule) -> Vec<Service> {
    let service = |protocol, service_be, prefix_len| Service {
        direction: rule.direction,
        ethertype: rule.ethertype,
        protocol,
        service_be,
        prefix_len,
    };
    match rule.traffic {
        Traffic::Any => vec![service(0, [0; 2], abi::RuleKey::ANY_PROTOCOL)],
        Traffic::Protocol(protocol) => vec![service(protocol.number(), [0; 2], abi::RuleKey::ANY_SERVICE)],
        Traffic::Icmp { kind, code } => {
            let (code, prefix_len) = match code {
                Some(code) => (code, abi::RuleKey::WHOLE),
                None => (0, abi::RuleKey::ANY_CODE),
            };
            vec![service(rule.ethertype.icmp().number(), [kind, code], prefix_len)]
        }
        Traffic::Ports(protocol, range) => ports::prefixes(range)
            .map(|(port, len)| service(protocol.number(), port.to_be_bytes(), abi::RuleKey::ANY_SERVICE + len))
            .collect(),
    }
}

/// The entries that cover `service`, itself included, from narrow to wide.
fn covering(service: Service) -> impl Iterator<Item = Service> {
    let lengths = (abi::RuleKey::ANY_SERVICE..=service.prefix_len).rev();
    let of_protocol = lengths.map(move |prefix_len| {
        let mask = ports::mask(prefix_len - abi::RuleKey::ANY_SERVICE);
        let service_be = (u16::from_be_bytes(service.service_be) & mask).to_be_bytes();
        Service { service_be, prefix_len, ..service }
    });
    let any = Service { protocol: 0, service_be: [0; 2], prefix_len: abi::RuleKey::ANY_PROTOCOL, ..service };
    of_protocol.chain([any])
}

fn matches(service: Service, own: &BTreeMap<Service, Own>) -> Vec<Match> {
    let places: Vec<&Own> = covering(service).filter_map(|place| own.get(&place)).collect();
    let by_place = |flags: Flags| places.iter().filter_map(move |place| place.by_flags.get(&flags));
    let flags: BTreeSet<Flags> = places.iter().flat_map(|place| place.by_flags.keys().copied()).collect();
    let mut matches = BTreeMap::new();
    for flags in flags {
        if let Some(rule) = by_place(flags).find_map(|remotes| remotes.any) {
            // Nothing behind it would ever be asked.
            matches.insert(flags, vec![Match { set: None, rule, flags: flags.bits() }]);
            break;
        }
        matches.insert(flags, of_sets(flags, by_place(flags), service.ethertype));
    }
    if matches.values().map(Vec::len).sum::<usize>() > abi::MATCHES_MAX {
        for (flags, matches) in &mut matches {
            if matches.iter().all(|found| found.set.is_some()) {
                *matches = vec![merged(*flags, by_place(*flags), service.ethertype)];
            }
        }
    }
    matches.into_values().flatten().collect()
}

/// One match for each group, and one for the prefixes of each place.
fn of_sets<'a>(flags: Flags, places: impl Iterator<Item = &'a Remotes>, ethertype: Ethertype) -> Vec<Match> {
    let (mut matches, mut groups) = (Vec::new(), BTreeMap::new());
    for remotes in places {
        if !remotes.prefixes.is_empty() {
            let set = Union { ethertype, groups: BTreeMap::new(), prefixes: remotes.prefixes.clone() };
            matches.push(of_union(flags, set));
        }
        for (set, rule) in &remotes.groups {
            groups.entry(set).or_insert(*rule);
        }
    }
    let of_group = |(set, rule): (&SetName, u16)| Match { set: Some(set.clone()), rule, flags: flags.bits() };
    matches.extend(groups.into_iter().map(of_group));
    matches
}

/// One match for everything: more sets than an entry has room for.
fn merged<'a>(flags: Flags, places: impl Iterator<Item = &'a Remotes>, ethertype: Ethertype) -> Match {
    let mut union = Union { ethertype, groups: BTreeMap::new(), prefixes: BTreeMap::new() };
    for remotes in places {
        for (set, rule) in &remotes.groups {
            union.groups.entry(set.clone()).or_insert(*rule);
        }
        for (net, rule) in &remotes.prefixes {
            union.prefixes.entry(*net).or_insert(*rule);
        }
    }
    of_union(flags, union)
}

fn of_union(flags: Flags, union: Union) -> Match {
    let flags = flags.bits() | abi::Match::RULE_OF_MEMBER;
    Match { set: Some(SetName::Union(Box::new(union))), rule: 0, flags }
}
