//! The maps that programs count in.
//!
//! An interface counts in an array if it could have the place there that its index falls on, and else in a hash. The agent gives and
//! takes the places; what has been counted is the sum of both.

use std::collections::BTreeSet;

use aya::maps::{Array, MapData, PerCpuArray, PerCpuHashMap, PerCpuValues};
use overlane_abi::{CounterKey, DropKey, DropReason, Hook, HookCounters, SlotCounters, Tally, limits, names};

use super::{
    DatapathError,
    maps::{Opener, gone},
    stats::{Counters, Drop, Stats},
};

/// The maps, and what they hold.
pub(super) struct CounterMaps {
    counters: PerCpuHashMap<MapData, CounterKey, HookCounters>,
    drops: PerCpuHashMap<MapData, DropKey, Tally>,
    slots: Option<Slots>,
}

/// Places in the array, and who has them; `None` where agents before this one have made no such maps.
struct Slots {
    owners: Array<MapData, u32>,
    counters: PerCpuArray<MapData, SlotCounters>,
}

impl CounterMaps {
    pub(super) fn open(open: &mut Opener<'_>) -> Result<Self, DatapathError> {
        let counters = open.typed(names::COUNTERS)?;
        let drops = open.typed(names::DROPS)?;
        let slots = open.typed_if_there(names::COUNTER_SLOTS)?.zip(open.typed_if_there(names::SLOT_COUNTERS)?);
        Ok(Self { counters, drops, slots: slots.map(|(owners, counters)| Slots { owners, counters }) })
    }

    /// Where programs have counted something. What is in the array of an interface that still has programs is not looked at: it is large
    /// where there are many CPUs, and goes with the last of them.
    pub(super) fn counted(&self, attached: &BTreeSet<(Hook, u32)>) -> Result<BTreeSet<(Hook, u32)>, DatapathError> {
        let mut counted = BTreeSet::new();
        for key in self.counters.keys() {
            let key = key.map_err(DatapathError::map(names::COUNTERS))?;
            counted.extend(hook(key.hook).map(|hook| (hook, key.ifindex)));
        }
        let with_programs: BTreeSet<u32> = attached.iter().map(|(_, ifindex)| *ifindex).collect();
        let in_slots = self.in_slots(|owner| !with_programs.contains(&owner))?;
        counted.extend(in_slots.into_iter().map(|(ifindex, hook, _)| (hook, ifindex)));
        Ok(counted)
    }

    /// What the programs have counted so far.
    pub(super) fn stats(&self) -> Result<Stats, DatapathError> {
        let mut stats = Stats::default();
        for entry in self.counters.iter() {
            let (key, cpus) = entry.map_err(DatapathError::map(names::COUNTERS))?;
            let Some(hook) = hook(key.hook) else { continue };
            stats.counters.insert((key.ifindex, hook), cpus.iter().map(Counters::from).sum());
        }
        for (ifindex, hook, in_slot) in self.in_slots(|_| true)? {
            let sum = stats.counters.entry((ifindex, hook)).or_default();
            *sum = sum.plus(&in_slot);
        }
        for entry in self.drops.iter() {
            let (key, cpus) = entry.map_err(DatapathError::map(names::DROPS))?;
            let reason = DropReason::ALL.into_iter().find(|reason| *reason as u32 == key.reason);
            let Some(reason) = reason else { continue };
            let packets = cpus.iter().map(|cpu| cpu.packets).sum();
            let bytes = cpus.iter().map(|cpu| cpu.bytes).sum();
            stats.drops.push(Drop { ifindex: key.ifindex, reason, packets, bytes });
        }
        stats.drops.sort_by_key(|drop| (drop.ifindex, drop.reason));
        Ok(stats)
    }

    /// Has an interface count in the array, if its place is free.
    pub(super) fn give_slot(&mut self, ifindex: u32) -> Result<(), DatapathError> {
        let Some(slots) = &mut self.slots else { return Ok(()) };
        if slots.owner(slot(ifindex))? == 0 {
            slots.set_owner(slot(ifindex), ifindex)?;
        }
        Ok(())
    }

    /// Deletes what a program has counted on an interface that it is no longer attached to, and what was dropped there. The place in the
    /// array is free when nothing is left in it.
    pub(super) fn forget(&mut self, hook: Hook, ifindex: u32) -> Result<(), DatapathError> {
        for reason in DropReason::ALL {
            gone(self.drops.remove(&DropKey { ifindex, reason: reason as u32 }), names::DROPS)?;
        }
        gone(self.counters.remove(&CounterKey { ifindex, hook: hook as u32 }), names::COUNTERS)?;
        match &mut self.slots {
            Some(slots) if slots.owner(slot(ifindex))? == ifindex => slots.forget(hook, slot(ifindex)),
            _ => Ok(()),
        }
    }

    /// What has been counted in the array by interfaces that are `wanted`: by interface and hook, without zeros.
    fn in_slots(&self, wanted: impl Fn(u32) -> bool) -> Result<Vec<(u32, Hook, Counters)>, DatapathError> {
        let Some(slots) = &self.slots else { return Ok(Vec::new()) };
        let mut counted = Vec::new();
        for slot in 0..limits::COUNTER_SLOTS as u32 {
            let owner = slots.owner(slot)?;
            if owner == 0 || !wanted(owner) {
                continue;
            }
            let cpus = slots.read(slot)?;
            for hook in Hook::ALL {
                let sum: Counters = cpus.iter().map(|cpu| Counters::from(&cpu.hooks[hook as usize])).sum();
                if sum.packets > 0 {
                    counted.push((owner, hook, sum));
                }
            }
        }
        Ok(counted)
    }
}

impl Slots {
    fn owner(&self, slot: u32) -> Result<u32, DatapathError> {
        self.owners.get(&slot, 0).map_err(DatapathError::map(names::COUNTER_SLOTS))
    }

    fn set_owner(&mut self, slot: u32, ifindex: u32) -> Result<(), DatapathError> {
        self.owners.set(slot, ifindex, 0).map_err(DatapathError::map(names::COUNTER_SLOTS))
    }

    fn read(&self, slot: u32) -> Result<PerCpuValues<SlotCounters>, DatapathError> {
        self.counters.get(&slot, 0).map_err(DatapathError::map(names::SLOT_COUNTERS))
    }

    fn forget(&mut self, hook: Hook, slot: u32) -> Result<(), DatapathError> {
        let nothing = HookCounters { packets: 0, bytes: 0, outcomes: [0; overlane_abi::Outcome::COUNT] };
        let mut cpus = self.read(slot)?.iter().copied().collect::<Vec<_>>();
        cpus.iter_mut().for_each(|cpu| cpu.hooks[hook as usize] = nothing);
        let is_empty = cpus.iter().flat_map(|cpu| &cpu.hooks).all(|counters| counters.packets == 0);
        let error = DatapathError::map(names::SLOT_COUNTERS);
        let cpus = PerCpuValues::try_from(cpus).map_err(|source| error(source.into()))?;
        self.counters.set(slot, cpus, 0).map_err(error)?;
        if is_empty { self.set_owner(slot, 0) } else { Ok(()) }
    }
}

/// The place that an interface can have.
fn slot(ifindex: u32) -> u32 {
    ifindex % limits::COUNTER_SLOTS as u32
}

fn hook(value: u32) -> Option<Hook> {
    Hook::ALL.into_iter().find(|hook| *hook as u32 == value)
}
