//! The connection table.
//!
//! The two directions of a flow share one entry, and so do its two ends when both are ports of this host. Which end is first in a
//! key is a matter of order, not of who began: the smaller pair of address (as bytes) and port comes first.

use crate::map_types;

/// The `rule` of a flow that is admitted to every port whatever its groups say: ICMPv6 that a port sends, above all.
pub const RULE_FIXED: u16 = 0xffff;

map_types! {
    /// Key of the `conntrack4` and `conntrack_new4` maps.
    pub struct FlowKey4: 20 {
        /// Local network index.
        pub zone: u32,
        /// Addresses in network byte order.
        pub addresses: [[u8; 4]; 2],
        /// Ports. ICMP echo: the identifier on the side that asks, 0 on the other; 0 for protocols without ports.
        pub ports: [u16; 2],
        /// IP protocol number.
        pub protocol: u8,
        /// Always zero.
        pub pad: [u8; 3],
    }

    /// Key of the `conntrack6` and `conntrack_new6` maps.
    pub struct FlowKey6: 44 {
        /// Local network index.
        pub zone: u32,
        /// Addresses in network byte order.
        pub addresses: [[u8; 16]; 2],
        /// As in [`FlowKey4`].
        pub ports: [u16; 2],
        /// IP protocol number.
        pub protocol: u8,
        /// Always zero.
        pub pad: [u8; 3],
    }

    /// Value of the four maps.
    pub struct Flow: 64 {
        /// When the flow is forgotten unless another packet comes: nanoseconds of the kernel's monotonic clock
        /// (`CLOCK_MONOTONIC`). An entry whose time is over counts as absent, even before it is overwritten.
        pub expires: u64,
        /// When its first packet came, by the same clock.
        pub created: u64,
        /// A [`FlowState`].
        pub state: u8,
        /// [`Flow::BEGUN_BY_SECOND`], [`Flow::ANSWERED`].
        pub flags: u8,
        /// Always zero.
        pub pad: [u8; 6],
        /// Who admitted it: the end that began it, then the other one.
        pub ends: [FlowEnd; 2],
    }

    /// One end of a flow, if it is a port of this host that has admitted the flow.
    pub struct FlowEnd: 20 {
        /// Interface index of the port's tap; 0: not, or not yet.
        pub ifindex: u32,
        /// The policy that the rule belongs to.
        pub policy: u32,
        /// `revision` of the port when it admitted the flow. If the port has another one, its rules are asked again.
        pub revision: u32,
        /// The `generation` when a set member's address admitted the flow, to be asked again when that changes; 0: members
        /// had no part in it.
        pub generation: u32,
        /// The rule, by its index in the policy, or [`RULE_FIXED`].
        pub rule: u16,
        /// [`FlowEnd::SOURCE_ALLOWED`] or 0.
        pub flags: u16,
    }

    /// Key of the `fragments` map: later fragments of a packet carry no ports.
    pub struct FragmentKey: 44 {
        /// The port.
        pub ifindex: u32,
        /// A [`crate::Direction`], so that a packet between two ports of one host is noted for each of them.
        pub direction: u8,
        /// IP protocol number.
        pub protocol: u8,
        /// Always zero.
        pub pad: [u8; 2],
        /// Source and destination.
        pub addresses: [crate::Address; 2],
        /// Identification: 16 bits in IPv4, 32 in IPv6.
        pub id: u32,
    }

    /// Value of the `fragments` map: the first fragment was admitted.
    pub struct Fragment: 16 {
        /// As in [`Flow`].
        pub expires: u64,
        /// Where the first fragment's data ended: bytes, counted from the end of the headers that every fragment has. Later
        /// fragments begin there or behind.
        pub first_end: u32,
        /// Always zero.
        pub pad: u32,
    }
}

impl Flow {
    /// The end that is second in the key began the flow.
    pub const BEGUN_BY_SECOND: u8 = 1;
    /// The other end has answered.
    pub const ANSWERED: u8 = 2;
}

impl FlowEnd {
    /// The port may use its end's address as a source: it has sent a packet of this flow from its own MAC address, and it was
    /// checked.
    pub const SOURCE_ALLOWED: u16 = 1;
}

/// How far a flow has come, which decides how long it is remembered. TCP's are those of the kernel's `nf_conntrack`; a value is ABI
/// and an index into [`crate::names::FLOW_TIMEOUTS`]: append, never renumber or reuse.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlowState {
    /// TCP: SYN seen.
    SynSent = 0,
    /// TCP: SYN seen from both sides, a simultaneous open.
    SynSent2 = 1,
    /// TCP: SYN answered.
    SynReceived = 2,
    /// TCP: handshake complete, or a connection met in mid-stream.
    Established = 3,
    /// TCP: one FIN seen.
    FinWait = 4,
    /// TCP: one FIN seen and acknowledged.
    CloseWait = 5,
    /// TCP: both FINs seen.
    LastAck = 6,
    /// TCP: both FINs seen and acknowledged.
    TimeWait = 7,
    /// TCP: reset.
    Close = 8,
    /// UDP.
    Udp = 9,
    /// UDP: more than a question and an answer.
    UdpStream = 10,
    /// ICMP and ICMPv6 echo.
    Echo = 11,
    /// Any other protocol.
    Other = 12,
}

impl FlowState {
    /// Every state, in the order of their values.
    pub const ALL: [Self; Self::COUNT] = [
        Self::SynSent,
        Self::SynSent2,
        Self::SynReceived,
        Self::Established,
        Self::FinWait,
        Self::CloseWait,
        Self::LastAck,
        Self::TimeWait,
        Self::Close,
        Self::Udp,
        Self::UdpStream,
        Self::Echo,
        Self::Other,
    ];

    /// How many there are.
    pub const COUNT: usize = 13;

    /// Default timeouts in milliseconds, in the order of the states: those of `nf_conntrack`
    /// (`Documentation/networking/nf_conntrack-sysctl.rst` of the kernel).
    pub const DEFAULT_TIMEOUTS: [u32; Self::COUNT] = [
        120_000,
        120_000,
        60_000,
        432_000_000,
        120_000,
        60_000,
        30_000,
        120_000,
        10_000,
        30_000,
        120_000,
        30_000,
        600_000,
    ];

    /// The name used in `show flows`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "syn-sent",
            Self::SynSent2 => "syn-sent2",
            Self::SynReceived => "syn-received",
            Self::Established => "established",
            Self::FinWait => "fin-wait",
            Self::CloseWait => "close-wait",
            Self::LastAck => "last-ack",
            Self::TimeWait => "time-wait",
            Self::Close => "close",
            Self::Udp => "udp",
            Self::UdpStream => "udp-stream",
            Self::Echo => "echo",
            Self::Other => "other",
        }
    }
}
