//! What the ARP/ND responder answers from.

use crate::{Address, map_types};

map_types! {
    /// Key of the `neighbors` map: who has `address` on `network`?
    pub struct NeighborKey: 20 {
        /// Local network index.
        pub network: u32,
        /// The address that is asked for.
        pub address: Address,
    }

    /// Value of the `neighbors` map. Addresses with more than one possible owner have no entry, so they are flooded.
    pub struct Neighbor: 8 {
        /// MAC address of the owner.
        pub mac: [u8; 6],
        /// [`Neighbor::ROUTER`] or 0.
        pub flags: u16,
    }
}

impl Neighbor {
    /// The owner is a router. A neighbour advertisement must say so: hosts drop a default router that stops saying it
    /// (RFC 4861 §7.2.5).
    pub const ROUTER: u16 = 1;
}
