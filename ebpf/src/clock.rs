//! The time by which flows are remembered.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns};

pub const SECOND: u64 = 1_000_000_000;

/// Nanoseconds of the kernel's monotonic clock, to the nanosecond.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper call without arguments.
    unsafe { bpf_ktime_get_ns() }
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
        // SAFETY: a helper call without arguments.
        let tick = unsafe { bpf_jiffies64() };
        if self.tick != tick {
            // SAFETY: as above.
            (self.tick, self.now) = (tick, unsafe { bpf_ktime_get_coarse_ns() });
        }
        self.now
    }

    /// The tick in which `now` was called last.
    #[inline(always)]
    pub fn tick(&self) -> u64 {
        self.tick
    }
}
