//! What became of a packet. Every packet that a program sees ends in exactly one outcome.

/// What became of a packet. A value is ABI: append, never renumber or reuse.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Dropped; the `drops` map says why.
    Dropped = 0,
    /// Redirected to a port of this host.
    Delivered = 1,
    /// Given an outer header, or a VLAN tag, and redirected to the underlay.
    Encapsulated = 2,
    /// Stripped of its outer header, or its VLAN tag, and redirected to a port of this host.
    Decapsulated = 3,
    /// Answered by the ARP/ND responder.
    Answered = 4,
    /// Let into the port (`to_port`).
    Admitted = 5,
    /// Left to the kernel: not for the overlay at all.
    NotOurs = 6,
    /// Left to the kernel: broadcast or multicast, which the bridge and the vxlan device flood.
    Flood = 7,
    /// Left to the kernel: nobody is known to own the destination MAC.
    UnknownDestination = 8,
    /// Left to the kernel: not IPv4 or IPv6 (ARP that is not answered here, VLAN tags, LLDP, …).
    OtherEthertype = 9,
    /// Left to the kernel: too long for one outer header, though its segments fit; or too big for network or path, and not
    /// to be answered.
    Oversize = 10,
    /// Left to the kernel: a superpacket, which only the kernel can decapsulate intact, or which it sends better over this NIC.
    Gso = 11,
    /// Left to the kernel: the underlay next hop has no link-layer address yet, or the endpoint did not fit into its map.
    UnresolvedVtep = 12,
    /// Left to the kernel: a kernel helper refused, for instance because the packet is already encapsulated.
    HelperRefused = 13,
    /// Left to the kernel: the interface has no entry in `ports` or `networks`.
    UnknownPort = 14,
    /// Left to the kernel: headers that do not hold together.
    Malformed = 15,
    /// Left to the kernel: VXLAN with a VNI that no network of this host has.
    UnknownNetwork = 16,
    /// Too big for its network or the path: answered with ICMP "fragmentation needed" or "packet too big".
    TooBig = 17,
    /// Left to the kernel, which learns from it where its sender is.
    UnknownSource = 18,
    /// Left to the kernel after it was admitted: forwarding is switched off (`fast_path = off`).
    ForwardingOff = 19,
}

impl Outcome {
    /// Every outcome, in the order of their values.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Dropped,
        Self::Delivered,
        Self::Encapsulated,
        Self::Decapsulated,
        Self::Answered,
        Self::Admitted,
        Self::NotOurs,
        Self::Flood,
        Self::UnknownDestination,
        Self::OtherEthertype,
        Self::Oversize,
        Self::Gso,
        Self::UnresolvedVtep,
        Self::HelperRefused,
        Self::UnknownPort,
        Self::Malformed,
        Self::UnknownNetwork,
        Self::TooBig,
        Self::UnknownSource,
        Self::ForwardingOff,
    ];

    /// How many there are.
    pub const COUNT: usize = 20;

    /// The name used in `show`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::Delivered => "delivered",
            Self::Encapsulated => "encapsulated",
            Self::Decapsulated => "decapsulated",
            Self::Answered => "answered",
            Self::Admitted => "admitted",
            Self::NotOurs => "not-ours",
            Self::Flood => "flood",
            Self::UnknownDestination => "unknown-destination",
            Self::OtherEthertype => "other-ethertype",
            Self::Oversize => "oversize",
            Self::Gso => "gso",
            Self::UnresolvedVtep => "unresolved-vtep",
            Self::HelperRefused => "helper-refused",
            Self::UnknownPort => "unknown-port",
            Self::Malformed => "malformed",
            Self::UnknownNetwork => "unknown-network",
            Self::TooBig => "too-big",
            Self::ForwardingOff => "forwarding-off",
            Self::UnknownSource => "unknown-source",
        }
    }
}
