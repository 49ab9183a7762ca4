//! The log of flows.

use aya_ebpf::{
    Global,
    btf_maps::{PerCpuArray, RingBuf},
    macros::btf_map,
};
use overlane_abi::{EventBudget, FlowEvent, limits};

#[btf_map(name = "events")]
static EVENTS: RingBuf<FlowEvent, { limits::EVENTS_BYTES }> = RingBuf::new();

#[btf_map(name = "event_budget")]
static EVENT_BUDGET: PerCpuArray<EventBudget, 1> = PerCpuArray::new();

#[unsafe(no_mangle)]
static LOG_RATE: Global<u32> = Global::new(0);

/// Events per second and CPU; 0 when there is no log.
#[inline(always)]
pub fn log_rate() -> u32 {
    LOG_RATE.load()
}

/// This CPU's budget.
#[inline(always)]
pub fn event_budget() -> Option<*mut EventBudget> {
    EVENT_BUDGET.get_ptr_mut(0)
}

/// Tells user space; whether there was room.
#[inline(always)]
pub fn put_event(event: impl FnOnce(&mut FlowEvent)) -> bool {
    let Some(mut entry) = EVENTS.reserve(0) else {
        return false;
    };
    // SAFETY: any bytes are an event, and the closure writes all of them.
    event(unsafe { &mut *entry.as_mut_ptr() });
    entry.submit(0);
    true
}
