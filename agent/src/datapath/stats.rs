//! What the programs have counted, summed over CPUs.

use std::{collections::BTreeMap, iter::Sum, path::Path};

use aya::maps::{MapData, PerCpuHashMap};
use overlane_abi::{DropReason, Hook, HookCounters, Outcome, RuleHitKey, Tally, names};

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

impl From<&HookCounters> for Counters {
    fn from(cpu: &HookCounters) -> Self {
        Self { packets: cpu.packets, bytes: cpu.bytes, outcomes: cpu.outcomes }
    }
}

impl Sum for Counters {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |sum, one| sum.plus(&one))
    }
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
