//! What tells an agent whether pinned maps speak its language.

use crate::map_types;

/// Version of everything in this crate that ends up in a pinned map. It is part of the pin path (`v2`): raise it with
/// every change of a key, a value, or the meaning of a field.
pub const ABI_VERSION: u32 = 2;

map_types! {
    /// The one entry of the `meta` map.
    pub struct Meta: 8 {
        /// [`ABI_VERSION`] of the agent that made the maps; 0 until it has.
        pub abi_version: u32,
        /// [`Meta::VTEPS_INCOMPLETE`], and what is known of the kernel's helpers.
        pub flags: u32,
    }
}

impl Meta {
    /// Some endpoints of other hosts did not fit into `vteps`, or have not been told yet: who is not in there may be one of them.
    pub const VTEPS_INCOMPLETE: u32 = 1;
    /// The kernel's `bpf_skb_adjust_room` has been tested, and these are true: [`Meta::MAKES_ROOM`],
    /// [`Meta::DECAP_L4_UDP`]. For user space only.
    pub const HELPERS_TESTED: u32 = 2;
    /// It makes room for outer headers, and leaves the rest of a packet as it is.
    pub const MAKES_ROOM: u32 = 4;
    /// It can make an ordinary superpacket of a tunnel's (`BPF_F_ADJ_ROOM_DECAP_L4_UDP`).
    pub const DECAP_L4_UDP: u32 = 8;
    /// All that is about helpers.
    pub const HELPERS: u32 = Self::HELPERS_TESTED | Self::MAKES_ROOM | Self::DECAP_L4_UDP;
}
