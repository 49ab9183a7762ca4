//! Why a packet was dropped. Malformed overlay packets and unknown tunnel endpoints are, what port security and security
//! groups do not admit, and what is beyond a limit: whatever is merely not understood goes to the kernel.

/// Why a packet was dropped. A value is ABI: append, never renumber or reuse.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// VXLAN to this host from an address that is no known VTEP.
    UnknownVtep = 0,
    /// A VXLAN packet that ends before its inner Ethernet header does.
    TruncatedOverlay = 1,
    /// The outer header says "congestion experienced", the inner one cannot carry that (RFC 6040 §4.2).
    CongestedNotEct = 2,
    /// The kernel refused the last step after the packet had been rewritten, so the kernel lane cannot carry it either.
    RewriteFailed = 3,
    /// The tap has no entry in `ports`, and unknown taps are closed.
    ClosedPort = 4,
    /// A source MAC address that the port may not use.
    SpoofedMac = 5,
    /// A source IP address that the port may not use, or not with this MAC address.
    SpoofedIp = 6,
    /// ARP that claims an address which the port may not use, or that is not ARP for IPv4 over Ethernet.
    SpoofedArp = 7,
    /// Neighbour discovery that claims an address which the port may not use, or that cannot be checked.
    SpoofedNd = 8,
    /// A port acts as a DHCP server.
    RogueDhcpServer = 9,
    /// A port sends router advertisements.
    RogueRa = 10,
    /// A VLAN tag, from or to a port with port security; or of a subport, on a frame to the tap of its trunk that does not come from it.
    VlanTagged = 11,
    /// A frame to one of the addresses that bridges keep to themselves (01-80-C2-00-00-0X: spanning tree, pause, LLDP).
    LinkControl = 12,
    /// IP or transport headers that do not hold together, or more extension headers than are looked at.
    MalformedIp = 13,
    /// A later fragment whose first one was not admitted, or has not been seen.
    UnknownFragment = 14,
    /// A later fragment that begins inside the first one (RFC 5722).
    OverlappingFragment = 15,
    /// No rule lets the port send this.
    NoRuleEgress = 16,
    /// No rule lets this reach the port.
    NoRuleIngress = 17,
    /// TCP or ICMP that belongs to no flow, or not at this point of one, and that no rule admits; or TCP flags that nobody sends.
    InvalidState = 18,
    /// The port sends more than its QoS policy lets it.
    RateLimited = 19,
}

impl DropReason {
    /// Every reason, in the order of their values.
    pub const ALL: [Self; 20] = [
        Self::UnknownVtep,
        Self::TruncatedOverlay,
        Self::CongestedNotEct,
        Self::RewriteFailed,
        Self::ClosedPort,
        Self::SpoofedMac,
        Self::SpoofedIp,
        Self::SpoofedArp,
        Self::SpoofedNd,
        Self::RogueDhcpServer,
        Self::RogueRa,
        Self::VlanTagged,
        Self::LinkControl,
        Self::MalformedIp,
        Self::UnknownFragment,
        Self::OverlappingFragment,
        Self::NoRuleEgress,
        Self::NoRuleIngress,
        Self::InvalidState,
        Self::RateLimited,
    ];

    /// The name used in `show drops`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownVtep => "unknown-vtep",
            Self::TruncatedOverlay => "truncated-overlay",
            Self::CongestedNotEct => "congested-not-ect",
            Self::RewriteFailed => "rewrite-failed",
            Self::ClosedPort => "closed-port",
            Self::SpoofedMac => "spoofed-mac",
            Self::SpoofedIp => "spoofed-ip",
            Self::SpoofedArp => "spoofed-arp",
            Self::SpoofedNd => "spoofed-nd",
            Self::RogueDhcpServer => "rogue-dhcp-server",
            Self::RogueRa => "rogue-ra",
            Self::VlanTagged => "vlan-tagged",
            Self::LinkControl => "link-control",
            Self::MalformedIp => "malformed-ip",
            Self::UnknownFragment => "unknown-fragment",
            Self::OverlappingFragment => "overlapping-fragment",
            Self::NoRuleEgress => "no-rule-egress",
            Self::NoRuleIngress => "no-rule-ingress",
            Self::InvalidState => "invalid-state",
            Self::RateLimited => "rate-limited",
        }
    }

    /// What it means and where to look, for an operator.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::UnknownVtep => "VXLAN from an address that is no known host; is a host missing in the control plane?",
            Self::TruncatedOverlay => {
                "VXLAN packet shorter than its inner Ethernet header; is the underlay damaging packets?"
            }
            Self::CongestedNotEct => "outer header marked congested, inner traffic does not use ECN (RFC 6040)",
            Self::RewriteFailed => "the kernel refused to finish a rewritten packet; usually out of memory",
            Self::ClosedPort => {
                "nothing passes a tap that the agent has not announced; is the agent running, and does it know the port?"
            }
            Self::SpoofedMac => {
                "the machine sends from a MAC address that is not its own; is an allowed address pair missing?"
            }
            Self::SpoofedIp => {
                "the machine sends from an address that is not its own; is an allowed address pair missing?"
            }
            Self::SpoofedArp => {
                "the machine claims an address by ARP that is not its own; is an allowed address pair missing?"
            }
            Self::SpoofedNd => {
                "the machine claims an address by neighbour discovery that is not its own, or fragments its messages"
            }
            Self::RogueDhcpServer => "the machine answers DHCP requests; only network services may",
            Self::RogueRa => "the machine sends router advertisements; only network services may",
            Self::VlanTagged => {
                "VLAN-tagged frames neither leave nor reach a port with port security, nor does a subport's tag reach its trunk's \
                 tap but from the subport"
            }
            Self::LinkControl => "the machine speaks a protocol between bridges (spanning tree, LLDP, pause frames)",
            Self::MalformedIp => {
                "headers that do not hold together: damaged packets, or an attempt to get past the filter"
            }
            Self::UnknownFragment => "a fragment whose first one was not admitted, or came after it",
            Self::OverlappingFragment => {
                "a fragment that overwrites the one before it: an attempt to get past the filter"
            }
            Self::NoRuleEgress => "no rule of the port's security groups lets it send this",
            Self::NoRuleIngress => "no rule of the port's security groups lets this in",
            Self::InvalidState => "TCP or ICMP that does not fit the state of any connection",
            Self::RateLimited => "the machine sends more than the QoS policy of its port lets it",
        }
    }
}
