//! What programs keep for a tick of the kernel's clock.

use nix::time::{ClockId, clock_gettime};
use overlane_abi::names;
use overlane_tests::wait::wait_until;

/// Whether programs may notice a change of this map at the next tick only.
pub(super) fn is_kept(map: &str) -> bool {
    [names::FDB, names::NETWORKS, names::VTEPS].contains(&map)
}

/// Waits for the next tick.
pub(super) fn wait() {
    // It goes forward once in a tick.
    let now = || clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("the kernel tells the time");
    let begun = now();
    wait_until("the next tick", || Ok(now() != begun)).expect("the clock ticks");
}
