//! The maps of port security and security groups: what they should hold, and the steps in an order in which no packet sees
//! half a rule set.
//!
//! What a port's entry refers to is written before the entry, and deleted after it. What a port may not do any more is taken
//! away before its entry says, by a new revision, that flows must be judged again.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use overlane_abi as abi;

use crate::{
    action::{DatapathAction, MapEntry, SecurityEntry, SecurityKey},
    desired::{Desired, LocalPort},
    model::{NetworkId, SecurityGroupId},
    observed::{AllowedSource, DatapathState, KernelState, Observed, SecurityState},
    plan::{Placement, Plan, Subject},
    security::{
        Filter, Rulebook,
        compile::{Match, Policy, Service, SetName},
    },
};

/// What the maps should hold, and what ports refer to in them.
pub(super) struct Security {
    target: SecurityState,
    policies: BTreeMap<BTreeSet<SecurityGroupId>, u32>,
    logs_drops: BTreeSet<u32>,
}

/// The part of a port's entry that is about security.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PortPart {
    pub(super) flags: u16,
    pub(super) policy: u32,
    pub(super) revision: u32,
}

impl PortPart {
    /// Of the entry's flags, those that are about security.
    const FLAGS: u16 = abi::Port::SECURED
        | abi::Port::FILTERED
        | abi::Port::ROUTER_ADVERTISEMENTS
        | abi::Port::TAKE_UP
        | abi::Port::LOG_DROPS;
}

/// Numbers that are known stay; new ones are higher than all of them, so that what flows remember of a number is seldom wrong.
struct Numbers<K> {
    known: BTreeMap<K, u32>,
    next: u32,
}

impl<K: Ord> Numbers<K> {
    fn new(known: impl Iterator<Item = (K, u32)>) -> Self {
        let known: BTreeMap<K, u32> = known.collect();
        let next = known.values().max().map_or(1, |last| last + 1);
        Self { known, next }
    }

    fn of(&mut self, key: K) -> u32 {
        *self.known.entry(key).or_insert_with(|| {
            self.next += 1;
            self.next - 1
        })
    }
}

impl Security {
    /// What the rules of this host's ports come to.
    pub(super) fn new(desired: &Desired, current: &SecurityState, plan: &mut Plan) -> Self {
        let mut target = SecurityState::default();
        let rulebook: &Rulebook = &desired.rulebook;
        let mut numbers = Numbers::new(current.sets.iter().map(|(number, name)| (*name, *number)));
        let mut sets: BTreeMap<&SetName, u32> = BTreeMap::new();
        let mut room = Room::default();
        for (name, members) in &rulebook.sets {
            let number = numbers.of(name.mark());
            sets.insert(name, number);
            target.sets.insert(number, name.mark());
            let fitting = members.iter().filter(|(net, _)| room.take(net));
            target.members.insert(number, fitting.map(|(net, rule)| (*net, u32::from(*rule))).collect());
        }
        if room.is_exceeded {
            plan.obstacle(
                Subject::Host,
                "the groups that rules name have more addresses than the maps have room for: the rest is not admitted",
            );
        }
        let mut numbers = Numbers::new(current.policies.iter().map(|(number, name)| (*name, *number)));
        let (mut policies, mut logs_drops) = (BTreeMap::new(), BTreeSet::new());
        for (ids, policy) in &rulebook.policies {
            let Ok(policy) = policy else { continue };
            let name = abi::PolicyName { content: policy.fingerprint() };
            let number = numbers.of(name);
            policies.insert(ids.clone(), number);
            logs_drops.extend(policy.logs_drops.then_some(number));
            target.policies.insert(number, name);
            target.rules.insert(number, entries(policy, &sets));
        }
        Self { target, policies, logs_drops }
    }

    /// Takes in what a port may send as, and returns what its entry should say.
    pub(super) fn add_port(
        &mut self,
        tap: u32,
        port: &LocalPort,
        current: &DatapathState,
        is_complete: bool,
        taken_over: Option<&BTreeSet<u32>>,
    ) -> PortPart {
        let before = current.ports.get(&tap);
        let Some(filter) = port.security.filter() else {
            // Never back, not even by way of an open port.
            return PortPart { revision: before.map_or(0, |before| before.revision), ..PortPart::default() };
        };
        let sources = allowed_sources(port, filter);
        let mut part = PortPart { flags: abi::Port::SECURED, ..PortPart::default() };
        if filter.sources.iter().any(|source| source.is_fixed && source.net.addr().is_ipv6()) {
            part.flags |= abi::Port::ROUTER_ADVERTISEMENTS;
        }
        if let Some(groups) = &filter.groups {
            part.flags |= abi::Port::FILTERED;
            let takes_up = || before.is_some_and(|before| before.flags & abi::Port::TAKE_UP != 0);
            if taken_over.map_or_else(takes_up, |taps| taps.contains(&tap)) {
                part.flags |= abi::Port::TAKE_UP;
            }
            // A policy that could not be compiled admits nothing: policy 0 has no entries.
            part.policy = self.policies.get(groups).copied().unwrap_or_default();
            if self.logs_drops.contains(&part.policy) {
                part.flags |= abi::Port::LOG_DROPS;
            }
        }
        let was_filtered = |flags: u16| flags & (abi::Port::SECURED | abi::Port::FILTERED);
        let loses_source = is_complete
            && current.security.sources.get(&tap).is_some_and(|old| old.keys().any(|key| !sources.contains_key(key)));
        part.revision = match before {
            None => 1,
            Some(before)
                if loses_source
                    || was_filtered(before.flags) != was_filtered(part.flags)
                    || self.admits_less(before.policy, part.policy, &current.security) =>
            {
                before.revision + 1
            }
            Some(before) => before.revision,
        };
        if before.is_some_and(|before| before.revision != part.revision) {
            // What has been taken away must not be taken up again.
            part.flags &= !abi::Port::TAKE_UP;
        }
        self.target.sources.insert(tap, sources);
        part
    }

    /// Whether `new` may refuse something that `old` admits.
    fn admits_less(&self, old: u32, new: u32, current: &SecurityState) -> bool {
        if old == new {
            return false;
        }
        let (Some(old), Some(new)) = (current.rules.get(&old), self.target.rules.get(&new)) else { return true };
        // Hit counters and logs make no difference.
        let verdict = |found: &abi::Match| (found.set, found.flags & (abi::Match::USED | abi::Match::STATELESS));
        let is_kept =
            |new: &abi::RuleSet, old: &abi::Match| new.matches.iter().any(|kept| verdict(kept) == verdict(old));
        old.iter().any(|(service, old)| {
            let Some(new) = new.get(service) else { return true };
            old.matches.iter().filter(|old| old.flags != 0).any(|old| !is_kept(new, old))
        })
    }

    /// What the maps should hold.
    pub(super) fn into_target(self) -> SecurityState {
        self.target
    }
}

/// How much of the maps of members is left.
struct Room {
    single: usize,
    prefixes: usize,
    is_exceeded: bool,
}

impl Default for Room {
    fn default() -> Self {
        Self { single: abi::limits::MEMBERS_MAX, prefixes: abi::limits::MEMBER_PREFIXES_MAX, is_exceeded: false }
    }
}

impl Room {
    /// Takes room for one more, if there is any.
    fn take(&mut self, net: &IpNet) -> bool {
        let is_single = net.prefix_len() == net.max_prefix_len();
        let room = if is_single { &mut self.single } else { &mut self.prefixes };
        let fits = *room > 0;
        *room = room.saturating_sub(1);
        self.is_exceeded |= !fits;
        fits
    }
}

fn entries(policy: &Policy, sets: &BTreeMap<&SetName, u32>) -> BTreeMap<Service, abi::RuleSet> {
    let entry = |matches: &Vec<Match>| {
        let mut entry = abi::RuleSet { matches: [abi::Match::UNUSED; abi::MATCHES_MAX] };
        for (place, found) in entry.matches.iter_mut().zip(matches) {
            let set = found.set.as_ref().map_or(abi::Match::ANY, |name| sets[name]);
            *place = abi::Match { set, rule: found.rule, flags: found.flags };
        }
        entry
    };
    policy.entries.iter().map(|(service, matches)| (*service, entry(matches))).collect()
}

fn allowed_sources(port: &LocalPort, filter: &Filter) -> BTreeMap<AllowedSource, u32> {
    let mut sources = BTreeMap::new();
    for source in &filter.sources {
        let flags = if source.is_fixed { abi::Source::FIXED } else { 0 };
        sources.insert(AllowedSource { mac: source.mac, net: Some(source.net) }, flags);
        if source.mac != port.mac {
            sources.insert(AllowedSource { mac: source.mac, net: None }, 0);
        }
    }
    sources
}

/// Plans other rules and other members of groups, for ports whose entries are there.
pub(super) fn plan_rules(
    desired: &Desired,
    observed: &Observed,
    current: &DatapathState,
    placements: &BTreeMap<NetworkId, Placement>,
    plan: &mut Plan,
) {
    let mut security = Security::new(desired, &current.security, plan);
    let mut ports = BTreeMap::new();
    for (network, placement) in desired.networks.iter().filter_map(|(id, network)| Some((network, placements.get(id)?)))
    {
        for port in network.local_ports.values() {
            let Some(tap) = placement.tap(port.mac) else { continue };
            let Some(before) = current.ports.get(&tap) else { continue };
            let part = security.add_port(tap, port, current, desired.complete, observed.taken_over.as_ref());
            let flags = before.flags & !PortPart::FLAGS | part.flags;
            ports.insert(tap, abi::Port { flags, policy: part.policy, revision: part.revision, ..*before });
        }
    }
    let target = security.into_target();
    // Addresses that ports may use are not a matter of rules: nothing is stale there.
    plan_before_ports(false, &observed.kernel, &current.security, &target, plan);
    let changed = ports.iter().filter(|(tap, port)| current.ports.get(tap) != Some(port));
    plan.actions.extend(changed.map(|(tap, port)| DatapathAction::Put(MapEntry::Port(*tap, *port)).into()));
    if desired.complete {
        plan_departures(&current.security, &target, plan);
        plan_unused(&current.security, &target, plan);
    }
}

/// What must be there before ports refer to it, and what ports may not use any more.
pub(super) fn plan_before_ports(
    is_complete: bool,
    kernel: &KernelState,
    current: &SecurityState,
    target: &SecurityState,
    plan: &mut Plan,
) {
    for (number, name) in target.sets.iter().filter(|(number, name)| current.sets.get(number) != Some(name)) {
        plan.action(DatapathAction::Put(SecurityEntry::Set(*number, *name).into()));
    }
    put_nested(plan, &current.members, &target.members, |set, net, rule| SecurityEntry::Member(set, *net, *rule));
    for (number, name) in target.policies.iter().filter(|(number, name)| current.policies.get(number) != Some(name)) {
        plan.action(DatapathAction::Put(SecurityEntry::Policy(*number, *name).into()));
    }
    put_nested(plan, &current.rules, &target.rules, |policy, service, rules| {
        SecurityEntry::Rule(policy, *service, *rules)
    });
    put_nested(plan, &current.sources, &target.sources, |tap, source, flags| {
        SecurityEntry::Source(tap, *source, *flags)
    });
    let is_stale = |tap: &u32| is_complete || !kernel.links.contains_key(tap);
    delete_nested(plan, &current.sources, &target.sources, is_stale, |tap, source| SecurityKey::Source(tap, *source));
}

/// What has left the sets that rules name; flows that it was the reason for are judged again.
pub(super) fn plan_departures(current: &SecurityState, target: &SecurityState, plan: &mut Plan) {
    let planned = plan.actions.len();
    let is_in_use = |set: &u32| target.sets.contains_key(set);
    delete_nested(plan, &current.members, &target.members, is_in_use, |set, net| SecurityKey::Member(set, *net));
    if plan.actions.len() > planned {
        plan.action(DatapathAction::Put(SecurityEntry::Generation(current.generation + 1).into()));
    }
}

/// What no port refers to any more.
pub(super) fn plan_unused(current: &SecurityState, target: &SecurityState, plan: &mut Plan) {
    let is_unused = |policy: &u32| !target.policies.contains_key(policy);
    delete_nested(plan, &current.rules, &target.rules, is_unused, |policy, service| {
        SecurityKey::Rule(policy, *service)
    });
    for policy in current.policies.keys().filter(|policy| is_unused(policy)) {
        plan.action(DatapathAction::Delete(SecurityKey::Policy(*policy).into()));
    }
    let is_unused = |set: &u32| !target.sets.contains_key(set);
    delete_nested(plan, &current.members, &target.members, is_unused, |set, net| SecurityKey::Member(set, *net));
    for set in current.sets.keys().filter(|set| is_unused(set)) {
        plan.action(DatapathAction::Delete(SecurityKey::Set(*set).into()));
    }
}

/// Puts what differs; a table that is the same as a whole is not looked through.
fn put_nested<K: Ord, V: PartialEq>(
    plan: &mut Plan,
    current: &BTreeMap<u32, BTreeMap<K, V>>,
    target: &BTreeMap<u32, BTreeMap<K, V>>,
    entry: impl Fn(u32, &K, &V) -> SecurityEntry,
) {
    for (number, target) in target {
        let current = current.get(number);
        if current != Some(target) {
            let differs = |(key, value): &(&K, &V)| current.and_then(|current| current.get(key)) != Some(*value);
            let differing = target.iter().filter(differs);
            plan.actions
                .extend(differing.map(|(key, value)| DatapathAction::Put(entry(*number, key, value).into()).into()));
        }
    }
}

fn delete_nested<K: Ord, V: PartialEq>(
    plan: &mut Plan,
    current: &BTreeMap<u32, BTreeMap<K, V>>,
    target: &BTreeMap<u32, BTreeMap<K, V>>,
    is_meant: impl Fn(&u32) -> bool,
    key_of: impl Fn(u32, &K) -> SecurityKey,
) {
    for (number, current) in current.iter().filter(|(number, _)| is_meant(number)) {
        let target = target.get(number);
        if target != Some(current) {
            let is_stale = |key: &&K| target.is_none_or(|target| !target.contains_key(*key));
            let stale = current.keys().filter(is_stale);
            plan.actions.extend(stale.map(|key| DatapathAction::Delete(key_of(*number, key).into()).into()));
        }
    }
}
