//! The connection table, and the fragments that follow a first one.

use aya_ebpf::{Global, bindings::BPF_ANY, btf_maps::LruHashMap, macros::btf_map};
use overlane_abi::{Flow, FlowKey4, FlowKey6, FlowState, Fragment, FragmentKey, limits};

#[btf_map(name = "conntrack4")]
static CONNTRACK4: LruHashMap<FlowKey4, Flow, { limits::CONNTRACK_MAX }> = LruHashMap::new();

#[btf_map(name = "conntrack6")]
static CONNTRACK6: LruHashMap<FlowKey6, Flow, { limits::CONNTRACK_MAX }> = LruHashMap::new();

#[btf_map(name = "conntrack_new4")]
static CONNTRACK_NEW4: LruHashMap<FlowKey4, Flow, { limits::CONNTRACK_NEW_MAX }> = LruHashMap::new();

#[btf_map(name = "conntrack_new6")]
static CONNTRACK_NEW6: LruHashMap<FlowKey6, Flow, { limits::CONNTRACK_NEW_MAX }> = LruHashMap::new();

#[btf_map(name = "fragments")]
static FRAGMENTS: LruHashMap<FragmentKey, Fragment, { limits::FRAGMENTS_MAX }> = LruHashMap::new();

#[unsafe(no_mangle)]
static FLOW_TIMEOUTS: Global<[u32; FlowState::COUNT]> = Global::new(FlowState::DEFAULT_TIMEOUTS);

/// The key of a flow: one of the two, by the family of its addresses.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FlowKey {
    pub is_v6: u32,
    pub v4: FlowKey4,
    pub v6: FlowKey6,
}

/// Which table a flow is in.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Flows that have shown both of their ends.
    Main,
    /// Flows that have not yet. They have a table of their own, so that a flood of them pushes nobody else out.
    New,
}

/// The entry of a flow that has shown both of its ends. Packets on other CPUs may change it at the same time, or, where the table is full,
/// put another flow in its place; every field is good for itself, and any bytes are a flow.
#[inline(always)]
pub fn flow(key: &FlowKey) -> Option<*mut Flow> {
    entry(Table::Main, key)
}

#[inline(always)]
fn entry(table: Table, key: &FlowKey) -> Option<*mut Flow> {
    // References, or else the keys would be copied first.
    let (v4, v6) = (&key.v4, &key.v6);
    match (key.is_v6 == 0, table) {
        (true, Table::Main) => CONNTRACK4.get_ptr_mut(v4),
        (true, Table::New) => CONNTRACK_NEW4.get_ptr_mut(v4),
        (false, Table::Main) => CONNTRACK6.get_ptr_mut(v6),
        (false, Table::New) => CONNTRACK_NEW6.get_ptr_mut(v6),
    }
}

/// Copies the entry of a flow, and says which table it is in.
///
/// A copy, in a function of its own: the verifier would follow an entry of each of the four maps through everything that is done
/// with it.
#[inline(never)]
pub fn find_flow(key: &FlowKey, flow: &mut Flow) -> Option<Table> {
    if let Some(found) = entry(Table::Main, key) {
        // SAFETY: as is said at `flow`.
        *flow = unsafe { *found };
        return Some(Table::Main);
    }
    let found = entry(Table::New, key)?;
    // SAFETY: as is said at `flow`.
    *flow = unsafe { *found };
    Some(Table::New)
}

/// Adds a flow, or changes its entry. On failure, which takes a kernel out of memory, the flow's next packet tries again.
#[inline(never)]
pub fn put_flow(table: Table, key: &FlowKey, flow: &Flow) {
    if let Some(entry) = entry(table, key) {
        // SAFETY: as is said at `flow`.
        unsafe { *entry = *flow };
        return;
    }
    let (v4, v6) = (&key.v4, &key.v6);
    let _ = match (key.is_v6 == 0, table) {
        (true, Table::Main) => CONNTRACK4.insert(v4, flow, BPF_ANY.into()),
        (true, Table::New) => CONNTRACK_NEW4.insert(v4, flow, BPF_ANY.into()),
        (false, Table::Main) => CONNTRACK6.insert(v6, flow, BPF_ANY.into()),
        (false, Table::New) => CONNTRACK_NEW6.insert(v6, flow, BPF_ANY.into()),
    };
}

/// Forgets a flow.
#[inline(never)]
pub fn forget_flow(table: Table, key: &FlowKey) {
    let (v4, v6) = (&key.v4, &key.v6);
    let _ = match (key.is_v6 == 0, table) {
        (true, Table::Main) => CONNTRACK4.remove(v4),
        (true, Table::New) => CONNTRACK_NEW4.remove(v4),
        (false, Table::Main) => CONNTRACK6.remove(v6),
        (false, Table::New) => CONNTRACK_NEW6.remove(v6),
    };
}

/// How long a flow in a state is remembered, in nanoseconds.
#[inline(always)]
pub fn flow_timeout(state: u8) -> u64 {
    const NANOSECONDS_PER_MILLISECOND: u64 = 1_000_000;
    let index = usize::from(state).min(FlowState::COUNT - 1);
    // SAFETY: `Global` is as its content, and the index is in bounds. Volatile, because the loader may have changed it.
    let milliseconds = unsafe { (&raw const FLOW_TIMEOUTS).cast::<u32>().add(index).read_volatile() };
    u64::from(milliseconds) * NANOSECONDS_PER_MILLISECOND
}

/// What is known of the first fragment of a packet.
#[inline(always)]
pub fn fragment(key: &FragmentKey) -> Option<Fragment> {
    // SAFETY: the entry is copied at once, and every field is good for itself.
    unsafe { FRAGMENTS.get(key) }.copied()
}

/// Notes that the first fragment of a packet was admitted.
#[inline(always)]
pub fn put_fragment(key: &FragmentKey, fragment: &Fragment) {
    let _ = FRAGMENTS.insert(key, fragment, BPF_ANY.into());
}

/// Forgets the first fragment of a packet.
#[inline(always)]
pub fn forget_fragment(key: &FragmentKey) {
    let _ = FRAGMENTS.remove(key);
}
