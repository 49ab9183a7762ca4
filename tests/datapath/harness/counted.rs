//! What the programs have counted.

use std::collections::BTreeMap;

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray, PerCpuHashMap},
};
use overlane_abi::{CounterKey, DropKey, HookCounters, Outcome, SlotCounters, Tally, names};

use super::IFINDEX;

/// Everything that the programs have counted: packets, bytes and outcomes by interface and hook, then drops.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) counters: BTreeMap<(u32, u32), (u64, u64, [u64; Outcome::COUNT])>,
    pub(crate) drops: BTreeMap<(u32, u32), (u64, u64)>,
}

impl Counted {
    /// All of it, wherever it is.
    pub(crate) fn read(ebpf: &Ebpf) -> Self {
        let mut counted = Self::in_hash(ebpf);
        let map = ebpf.map(names::SLOT_COUNTERS).expect("the map exists");
        let slots = PerCpuArray::<&MapData, SlotCounters>::try_from(map).expect("its type");
        for cpu in slots.get(&IFINDEX, 0).expect("it has this place").iter() {
            for (hook, counters) in cpu.hooks.iter().enumerate().filter(|(_, counters)| counters.packets > 0) {
                counted.add((IFINDEX, hook as u32), counters);
            }
        }
        let map = ebpf.map(names::DROPS).expect("the map exists");
        let drops = PerCpuHashMap::<&MapData, DropKey, Tally>::try_from(map).expect("its types");
        for entry in drops.iter() {
            let (key, cpus) = entry.expect("the map can be read");
            let sum = counted.drops.entry((key.ifindex, key.reason)).or_default();
            cpus.iter().for_each(|cpu| *sum = (sum.0 + cpu.packets, sum.1 + cpu.bytes));
        }
        counted
    }

    /// What the hash of counters has.
    pub(crate) fn in_hash(ebpf: &Ebpf) -> Self {
        let map = ebpf.map(names::COUNTERS).expect("the map exists");
        let map = PerCpuHashMap::<&MapData, CounterKey, HookCounters>::try_from(map).expect("its types");
        let mut counted = Self::default();
        for entry in map.iter() {
            let (key, cpus) = entry.expect("the map can be read");
            cpus.iter().for_each(|cpu| counted.add((key.ifindex, key.hook), cpu));
        }
        counted
    }

    fn add(&mut self, key: (u32, u32), counters: &HookCounters) {
        let sum = self.counters.entry(key).or_default();
        (sum.0, sum.1) = (sum.0 + counters.packets, sum.1 + counters.bytes);
        sum.2.iter_mut().zip(counters.outcomes).for_each(|(sum, outcome)| *sum += outcome);
    }
}
