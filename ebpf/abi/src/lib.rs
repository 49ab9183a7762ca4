//! The bytes that Overlane's eBPF programs and its agent agree on: map keys and values, outcomes, drop reasons,
//! capacities and names. Both sides compile this one definition; `bpftool map dump` prints its field names.
//!
//! Multi-byte integers are in host byte order unless a type or a field name says otherwise (`_be`).
#![cfg_attr(not(feature = "user"), no_std)]

mod address;
mod counters;
mod drop_reason;
mod event;
mod fdb;
mod flow;
mod meta;
mod neighbor;
mod network;
mod outcome;
mod policy;
mod port;
mod probe;
mod qos;
mod security;
mod vlan;
mod vtep;

pub mod limits;
pub mod names;

pub use address::Address;
pub use counters::{CounterKey, DropKey, Hook, HookCounters, SlotCounters, Tally};
pub use drop_reason::DropReason;
pub use event::{EventBudget, FlowEvent};
pub use fdb::{FdbEntry, FdbKey};
pub use flow::{Flow, FlowEnd, FlowKey4, FlowKey6, FlowState, Fragment, FragmentKey, RULE_FIXED};
pub use meta::{ABI_VERSION, Meta};
pub use neighbor::{Neighbor, NeighborKey};
pub use network::{Network, NetworkKey};
pub use outcome::Outcome;
pub use policy::{Direction, MATCHES_MAX, Match, Member, MemberKey, PolicyName, RuleHitKey, RuleKey, RuleSet, SetName};
pub use port::Port;
pub use probe::Probe;
pub use qos::Qos;
pub use security::{Source, SourceKey};
pub use vlan::{Vlan, VlanId};
pub use vtep::{HEADER_MAX, HEADER_V4, HEADER_V6, Vtep};

/// Declares types that are map keys or values: a fixed layout, proven free of padding in user space.
///
/// `repr(C)` and the size assertion pin the layout for both sides; zerocopy's derives refuse hidden padding, which
/// is what makes `aya::Pod` sound and what keeps the kernel from hashing uninitialised bytes.
macro_rules! map_types {
    ($($(#[$attr:meta])* pub struct $name:ident: $size:literal { $($(#[$field_attr:meta])* pub $field:ident: $type:ty,)* })*) => {$(
        $(#[$attr])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(
            feature = "user",
            derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
        )]
        pub struct $name { $($(#[$field_attr])* pub $field: $type,)* }

        const _: () = assert!(size_of::<$name>() == $size);

        // SAFETY: `IntoBytes` proves that there is no padding, `FromBytes` that any bytes are a valid value.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $name {}
    )*};
}
pub(crate) use map_types;
