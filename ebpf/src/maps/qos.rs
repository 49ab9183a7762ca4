//! What ports are held to, and how much of it they have used.

use aya_ebpf::{
    bindings::{BPF_NOEXIST, bpf_spin_lock as SpinLock},
    btf_maps::HashMap,
    helpers::{bpf_spin_lock, bpf_spin_unlock},
    macros::btf_map,
};
use overlane_abi::{Qos, limits};

use super::ON_DEMAND;

#[btf_map(name = "qos")]
static QOS: HashMap<u32, Qos, { limits::PORTS_MAX }, ON_DEMAND> = HashMap::new();

#[btf_map(name = "buckets")]
static BUCKETS: HashMap<u32, Bucket, { limits::PORTS_MAX }, ON_DEMAND> = HashMap::new();

/// A token bucket, as a moment: what was drawn from it is as long ago made up for as this is past.
#[repr(C)]
struct Bucket {
    /// A tap can send on several CPUs at once.
    lock: SpinLock,
    pad: u32,
    /// When it is full again, if nothing more is drawn; by the monotonic clock, in nanoseconds.
    full_at: u64,
}

const _: () = assert!(size_of::<Bucket>() == Qos::BUCKET_LEN);

static FULL: Bucket = Bucket { lock: SpinLock { val: 0 }, pad: 0, full_at: 0 };

/// What the port behind a tap is held to, and marked with.
#[inline(always)]
pub fn qos(ifindex: u32) -> Option<&'static Qos> {
    // SAFETY: as in `maps::port`.
    unsafe { QOS.get(ifindex) }
}

/// Draws a packet from the bucket of a port, and says whether there was enough in it. `cost` is how long the bucket takes to fill
/// up by as much again, `depth` how long from empty to full, and `now` the time, all in nanoseconds.
///
/// A packet that is larger than the bucket may pass when that is full: it would never be able to otherwise.
#[inline(always)]
pub fn draw(ifindex: u32, now: u64, cost: u64, depth: u64) -> bool {
    let bucket = BUCKETS.get_ptr_mut(ifindex).or_else(|| {
        let full = &FULL;
        let _ = BUCKETS.insert(ifindex, full, BPF_NOEXIST.into());
        BUCKETS.get_ptr_mut(ifindex)
    });
    let Some(bucket) = bucket else {
        // Out of memory: no limit is better than no packets.
        return true;
    };
    // SAFETY: its place stays memory of this map for as long as this program runs, and the lock keeps others off it.
    unsafe {
        bpf_spin_lock(&raw mut (*bucket).lock);
        let full_at = (*bucket).full_at;
        let missing = full_at.saturating_sub(now);
        let is_enough = missing == 0 || missing + cost <= depth;
        if is_enough {
            (*bucket).full_at = now + missing + cost;
        }
        bpf_spin_unlock(&raw mut (*bucket).lock);
        is_enough
    }
}
