//! What the programs count.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    btf_maps::{Array, PerCpuArray, PerCpuHashMap},
    macros::btf_map,
};
use overlane_abi::{CounterKey, DropKey, DropReason, Hook, HookCounters, Outcome, SlotCounters, Tally, limits};

use super::ON_DEMAND;

#[btf_map(name = "counters")]
static COUNTERS: PerCpuHashMap<CounterKey, HookCounters, { limits::COUNTERS_MAX }, ON_DEMAND> = PerCpuHashMap::new();

/// Not on the stack, of which a program has 512 bytes.
static NOTHING_COUNTED: HookCounters = HookCounters { packets: 0, bytes: 0, outcomes: [0; Outcome::COUNT] };

#[btf_map(name = "drops")]
static DROPS: PerCpuHashMap<DropKey, Tally, { limits::DROPS_MAX }, ON_DEMAND> = PerCpuHashMap::new();

#[btf_map(name = "counter_slots")]
static COUNTER_SLOTS: Array<u32, { limits::COUNTER_SLOTS }> = Array::new();

#[btf_map(name = "slot_counters")]
static SLOT_COUNTERS: PerCpuArray<SlotCounters, { limits::COUNTER_SLOTS }> = PerCpuArray::new();

/// Counts a packet and what became of it.
#[inline(always)]
pub fn count(ifindex: u32, hook: Hook, outcome: Outcome, bytes: u64) {
    match in_slot(ifindex, hook) {
        Some(counters) => add(counters, outcome, bytes),
        None => count_by_key(ifindex, hook, outcome, bytes),
    }
}

#[inline(always)]
fn add(counters: *mut HookCounters, outcome: Outcome, bytes: u64) {
    // SAFETY: the entry is this CPU's own, and programs at one hook do not interrupt each other on a CPU.
    let counters = unsafe { &mut *counters };
    counters.packets += 1;
    counters.bytes += bytes;
    counters.outcomes[outcome as usize] += 1;
}

/// Where an interface counts that has a place of its own: an array is cheaper to look into than a hash, several times for each packet.
#[inline(always)]
fn in_slot(ifindex: u32, hook: Hook) -> Option<*mut HookCounters> {
    let slot = ifindex % limits::COUNTER_SLOTS as u32;
    if *COUNTER_SLOTS.get(slot)? != ifindex {
        return None;
    }
    let counters = SLOT_COUNTERS.get_ptr_mut(slot)?;
    // SAFETY: the entry is this CPU's own.
    Some(unsafe { &raw mut (*counters).hooks[hook as usize] })
}

/// Counts where every interface has room.
///
/// A function of its own: most interfaces do not need it.
#[inline(never)]
fn count_by_key(ifindex: u32, hook: Hook, outcome: Outcome, bytes: u64) {
    let key = CounterKey { ifindex, hook: hook as u32 };
    let counters = COUNTERS.get_ptr_mut(key).or_else(|| {
        let nothing = &NOTHING_COUNTED;
        let _ = COUNTERS.insert(key, nothing, BPF_NOEXIST.into());
        COUNTERS.get_ptr_mut(key)
    });
    if let Some(counters) = counters {
        add(counters, outcome, bytes);
    }
}

/// Counts a dropped packet by reason; under interface 0 when the map is full.
#[inline(always)]
pub fn count_drop(ifindex: u32, reason: DropReason, bytes: u64) {
    let key = DropKey { ifindex, reason: reason as u32 };
    if DROPS.get_ptr_mut(key).is_none() && DROPS.insert(key, Tally { packets: 0, bytes: 0 }, BPF_ANY.into()).is_err() {
        tally(DropKey { ifindex: 0, ..key }, bytes);
        return;
    }
    tally(key, bytes);
}

#[inline(always)]
fn tally(key: DropKey, bytes: u64) {
    if let Some(tally) = DROPS.get_ptr_mut(key) {
        // SAFETY: as in `count`.
        let tally = unsafe { &mut *tally };
        tally.packets += 1;
        tally.bytes += bytes;
    }
}
