//! Who owns a MAC address.

use crate::{Address, map_types};

map_types! {
    /// Key of the `fdb` map: who owns `mac` on `network`?
    pub struct FdbKey: 12 {
        /// Local network index.
        pub network: u32,
        /// The MAC address.
        pub mac: [u8; 6],
        /// The kernel hashes every byte of a key, so padding is a field and always zero.
        pub pad: [u8; 2],
    }

    /// Value of the `fdb` map: a port of this host, or the VTEP behind which the MAC lives.
    pub struct FdbEntry: 20 {
        /// Interface of the local port; 0 when the MAC is remote.
        pub ifindex: u32,
        /// The remote VTEP, a key of the `vteps` map; unspecified when the MAC is local.
        pub vtep: Address,
    }
}

impl FdbKey {
    /// The key of `mac` on the network with index `network`.
    #[inline(always)]
    pub const fn new(network: u32, mac: [u8; 6]) -> Self {
        Self { network, mac, pad: [0; 2] }
    }
}

impl FdbEntry {
    /// An entry for a port of this host.
    pub const fn local(ifindex: u32) -> Self {
        Self { ifindex, vtep: Address::UNSPECIFIED }
    }

    /// An entry for a port behind `vtep`.
    pub const fn remote(vtep: Address) -> Self {
        Self { ifindex: 0, vtep }
    }
}
