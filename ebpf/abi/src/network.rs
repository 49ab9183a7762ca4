//! How a packet that arrives from outside finds its network.

use crate::map_types;

map_types! {
    /// Key of the `networks` map.
    pub struct NetworkKey: 8 {
        /// [`NetworkKey::VNI`] or [`NetworkKey::INTERFACE`].
        pub kind: u32,
        /// The VNI, or the index of an interface of the network's: its bridge, its `vxlan-<vni>` device, its NIC.
        pub id: u32,
    }

    /// Value of the `networks` map.
    pub struct Network: 12 {
        /// Local network index: the first half of every `fdb` and `neighbors` key.
        pub index: u32,
        /// VXLAN Network Identifier, 24 bits; 0 for a network without tunnels.
        pub vni: u32,
        /// [`Network::LEARNS`] and [`Network::HAS_KNOWN_VTEPS`].
        pub flags: u32,
    }
}

impl Network {
    /// Who is behind which tunnel endpoint is learned by the kernel from what arrives, from any endpoint.
    pub const LEARNS: u32 = 1;
    /// But only from endpoints in `vteps`.
    pub const HAS_KNOWN_VTEPS: u32 = 2;
}

impl NetworkKey {
    /// `id` is a VXLAN Network Identifier.
    pub const VNI: u32 = 1;
    /// `id` is an interface index.
    pub const INTERFACE: u32 = 2;

    /// The key that `from_uplink` looks up.
    #[inline(always)]
    pub const fn vni(vni: u32) -> Self {
        Self { kind: Self::VNI, id: vni }
    }

    /// The key that `from_overlay` looks up, and `from_uplink` for a flat network.
    #[inline(always)]
    pub const fn interface(ifindex: u32) -> Self {
        Self { kind: Self::INTERFACE, id: ifindex }
    }
}
