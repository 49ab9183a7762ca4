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
        /// [`Meta::VTEPS_INCOMPLETE`] or 0.
        pub flags: u32,
    }
}

impl Meta {
    /// Some endpoints of other hosts did not fit into `vteps`, or have not been told yet: who is not in there may be one of them.
    pub const VTEPS_INCOMPLETE: u32 = 1;
}
