//! The time by which flows are remembered.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};

pub const SECOND: u64 = 1_000_000_000;

/// Nanoseconds of the kernel's monotonic clock, to the nanosecond.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper call without arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// The kernel's ticks since it began to count them, which it does before the first program runs.
#[inline(always)]
pub fn tick() -> u64 {
    // SAFETY: as above.
    unsafe { bpf_jiffies64() }
}

/// What a CPU knows of the time.
#[repr(C)]
pub struct Clock {
    /// The tick in which `now` was read.
    tick: u64,
    now: u64,
}

impl Clock {
    /// Nanoseconds of the kernel's monotonic clock as of its last tick or the one before.
    ///
    /// The kernel is asked once in a tick. Counting ticks is a load; asking for the time is a call, which costs nearly as much as
    /// a map lookup.
    #[inline(always)]
    pub fn now(&mut self) -> u64 {
        let tick = tick();
        if self.tick != tick {
            // SAFETY: as above.
            (self.tick, self.now) = (tick, unsafe { bpf_ktime_get_coarse_ns() });
        }
        self.now
    }
}
