//! What the programs count: one entry per interface and hook, and one per interface and drop reason.

use crate::{map_types, outcome::Outcome};

/// Where a program is attached. A value is ABI: append, never renumber or reuse.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Ingress of a tap: what the port sends.
    FromPort = 0,
    /// Egress of a tap: what the port receives, whichever lane carried it.
    ToPort = 1,
    /// Ingress of a NIC that leads to other hosts.
    FromUplink = 2,
    /// Ingress of a kernel `vxlan-<vni>` device: what the kernel has decapsulated.
    FromOverlay = 3,
    /// Egress of a `<nic>.<vid>` device that is not the 8021q module's: what the NIC is to send with a tag.
    ToVlan = 4,
    /// XDP at a tap: what the port sends, as far as this lane carries it.
    FromPortXdp = 5,
    /// XDP at a NIC that leads to other hosts: what arrives, as far as this lane carries it.
    FromUplinkXdp = 6,
}

impl Hook {
    /// Every hook, in the order of their values.
    pub const ALL: [Self; 7] = [
        Self::FromPort,
        Self::ToPort,
        Self::FromUplink,
        Self::FromOverlay,
        Self::ToVlan,
        Self::FromPortXdp,
        Self::FromUplinkXdp,
    ];

    /// Room for every hook where there is a place for each.
    pub const ROOM: usize = 8;

    /// Whether it is an XDP hook, rather than a TC one.
    pub const fn is_xdp(self) -> bool {
        matches!(self, Self::FromPortXdp | Self::FromUplinkXdp)
    }

    /// The name of the hook, which is also the name of its program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromPort => "from_port",
            Self::ToPort => "to_port",
            Self::FromUplink => "from_uplink",
            Self::FromOverlay => "from_overlay",
            Self::ToVlan => "to_vlan",
            Self::FromPortXdp => "from_port_xdp",
            Self::FromUplinkXdp => "from_uplink_xdp",
        }
    }
}

map_types! {
    /// Key of the `counters` map.
    pub struct CounterKey: 8 {
        /// The interface that the program is attached to.
        pub ifindex: u32,
        /// A [`Hook`].
        pub hook: u32,
    }

    /// Value of the `counters` map, per CPU. The outcomes add up to `packets`.
    pub struct HookCounters: 176 {
        /// Frames seen by the program. A GSO superpacket counts as one.
        pub packets: u64,
        /// Their bytes, Ethernet header included, as seen on arrival.
        pub bytes: u64,
        /// Frames by [`Outcome`].
        pub outcomes: [u64; Outcome::COUNT],
    }

    /// Value of the `slot_counters` map, per CPU: what the programs at every hook of one interface have counted.
    pub struct SlotCounters: 1408 {
        /// By [`Hook`].
        pub hooks: [HookCounters; Hook::ROOM],
    }

    /// Key of the `drops` map.
    pub struct DropKey: 8 {
        /// The interface that the program is attached to; 0 gathers what a full map could not record by interface.
        pub ifindex: u32,
        /// A [`crate::DropReason`].
        pub reason: u32,
    }

    /// Value of the `drops` and `rule_hits` maps, per CPU.
    pub struct Tally: 16 {
        /// Frames that were dropped for the reason, or that the rule has admitted: the first of a flow, and every one of a
        /// stateless rule.
        pub packets: u64,
        /// Their bytes, Ethernet header included.
        pub bytes: u64,
    }
}
