//! What the programs have counted, summed over CPUs.

use std::{collections::BTreeMap, path::Path};

use aya::maps::{MapData, PerCpuHashMap};
use overlane_abi::{CounterKey, DropKey, DropReason, Hook, HookCounters, Outcome, RuleHitKey, Tally, names};

use super::{
    DatapathError,
    maps::{Opener, opener_of_pins},
};

/// Everything that has been counted since the maps were made.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// By interface and hook.
    pub counters: BTreeMap<(u32, Hook), Counters>,
    /// By interface and reason.
    pub drops: Vec<Drop>,
}

/// What one program has seen on one interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames; a GSO superpacket counts as one.
    pub packets: u64,
    /// Their bytes, Ethernet header included.
    pub bytes: u64,
    outcomes: [u64; Outcome::COUNT],
}

impl Counters {
    /// Frames that ended in `outcome`.
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    /// The sum of another one and this.
    pub fn plus(mut self, other: &Self) -> Self {
        self.packets += other.packets;
        self.bytes += other.bytes;
        for (sum, value) in self.outcomes.iter_mut().zip(other.outcomes) {
            *sum += value;
        }
        self
    }
}

/// What was dropped on one interface for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drop {
    /// The interface; 0 for what a full map could not record by interface.
    pub ifindex: u32,
    /// Why.
    pub reason: DropReason,
    /// How many frames.
    pub packets: u64,
    /// Their bytes, Ethernet header included.
    pub bytes: u64,
}

pub(super) fn read(
    counters: &PerCpuHashMap<MapData, CounterKey, HookCounters>,
    drops: &PerCpuHashMap<MapData, DropKey, Tally>,
) -> Result<Stats, DatapathError> {
    let mut stats = Stats::default();
    for entry in counters.iter() {
        let (key, per_cpu) = entry.map_err(DatapathError::map(names::COUNTERS))?;
        let Some(hook) = Hook::ALL.into_iter().find(|hook| *hook as u32 == key.hook) else { continue };
        let sum = per_cpu.iter().fold(Counters::default(), |sum, cpu| {
            sum.plus(&Counters { packets: cpu.packets, bytes: cpu.bytes, outcomes: cpu.outcomes })
        });
        stats.counters.insert((key.ifindex, hook), sum);
    }
    for entry in drops.iter() {
        let (key, per_cpu) = entry.map_err(DatapathError::map(names::DROPS))?;
        let Some(reason) = DropReason::ALL.into_iter().find(|reason| *reason as u32 == key.reason) else { continue };
        let packets = per_cpu.iter().map(|cpu| cpu.packets).sum();
        let bytes = per_cpu.iter().map(|cpu| cpu.bytes).sum();
        stats.drops.push(Drop { ifindex: key.ifindex, reason, packets, bytes });
    }
    stats.drops.sort_by_key(|drop| (drop.ifindex, drop.reason));
    Ok(stats)
}

/// What rules have admitted: packets and bytes, by policy and index of the rule.
pub type RuleHits = BTreeMap<(u32, u32), (u64, u64)>;

/// Reads what rules have admitted, from the pinned map.
pub(super) fn rule_hits(directory: &Path) -> Result<RuleHits, DatapathError> {
    let mut open = opener_of_pins(directory)?;
    let map: PerCpuHashMap<MapData, RuleHitKey, Tally> = Opener::new(&mut open).typed(names::RULE_HITS)?;
    let mut hits = BTreeMap::new();
    for entry in map.iter() {
        let (key, cpus) = entry.map_err(DatapathError::map(names::RULE_HITS))?;
        let sum = |of: fn(&Tally) -> u64| cpus.iter().map(of).sum();
        hits.insert((key.policy, key.rule), (sum(|tally| tally.packets), sum(|tally| tally.bytes)));
    }
    Ok(hits)
}
