//! The time by which flows are remembered.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;

pub const SECOND: u64 = 1_000_000_000;

/// Nanoseconds of the kernel's monotonic clock as of its last tick, which costs next to nothing to read.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper call without arguments.
    unsafe { bpf_ktime_get_coarse_ns() }
}
