//! What the programs tell user space as it happens.

use crate::{Address, map_types};

map_types! {
    /// An entry of the `events` ring buffer: a flow that a logged rule has admitted, or a packet that a logged port has
    /// dropped.
    pub struct FlowEvent: 72 {
        /// Nanoseconds of the kernel's monotonic clock (`CLOCK_MONOTONIC`).
        pub time: u64,
        /// Events that the rate limit has suppressed on the same CPU since the one before.
        pub suppressed: u64,
        /// Interface index of the port's tap.
        pub ifindex: u32,
        /// The port's policy.
        pub policy: u32,
        /// The rule that admitted the flow, by its index in the policy, or [`crate::RULE_FIXED`]; 0 when dropped.
        pub rule: u16,
        /// [`FlowEvent::ADMITTED`], or a [`crate::DropReason`].
        pub reason: u16,
        /// A [`crate::Direction`].
        pub direction: u8,
        /// IP protocol number.
        pub protocol: u8,
        /// TCP, UDP and others with ports: the destination port; ICMP: type and code. Host byte order.
        pub service: u16,
        /// Source port, where there is one.
        pub source_port: u16,
        /// Always zero.
        pub pad: [u8; 6],
        /// Source address.
        pub source: Address,
        /// Destination address.
        pub destination: Address,
    }

    /// The one entry of the `event_budget` map, per CPU: how much of this second's allowance is used up.
    pub struct EventBudget: 24 {
        /// Which second of the monotonic clock.
        pub second: u64,
        /// Events in it so far.
        pub used: u64,
        /// Events not written since the last one that was.
        pub suppressed: u64,
    }
}

impl FlowEvent {
    /// The flow was admitted.
    pub const ADMITTED: u16 = 0xffff;
}
