//! Which source addresses a port may use.

use crate::{Address, map_types};

map_types! {
    /// Key of the `sources` map, and of `source_prefixes` behind a prefix length in bits: may this port send from this
    /// pair of addresses?
    ///
    /// Single addresses are in `sources`. `source_prefixes` is searched when they do not match, so only real prefixes
    /// belong there; their length is [`SourceKey::prefix_len`].
    pub struct SourceKey: 28 {
        /// Interface index of the port's tap.
        pub ifindex: u32,
        /// Source MAC address.
        pub mac: [u8; 6],
        /// [`SourceKey::V4`], [`SourceKey::V6`], or [`SourceKey::MAC`] with an unspecified address.
        pub family: u16,
        /// Source address.
        pub address: Address,
    }

    /// Value of the `sources` and `source_prefixes` maps.
    pub struct Source: 4 {
        /// [`Source::FIXED`] or 0.
        pub flags: u32,
    }
}

impl SourceKey {
    /// The entry says only that the port may use the MAC address, with frames that are neither IP nor ARP. The port's own MAC
    /// address needs no such entry.
    pub const MAC: u16 = 0;
    /// The address is an IPv4 address.
    pub const V4: u16 = 4;
    /// The address is an IPv6 address. (Without saying so, `::/0` would cover every IPv4-mapped address as well.)
    pub const V6: u16 = 6;

    /// Bits in front of the address.
    pub const ADDRESS_OFFSET: u32 = 96;

    /// How many bits of a key count for a prefix of `length` bits in the address's own family.
    pub const fn prefix_len(family: u16, length: u32) -> u32 {
        let mapped = if family == Self::V4 { 96 } else { 0 };
        Self::ADDRESS_OFFSET + mapped + length
    }
}

impl Source {
    /// The address is one of the port's fixed IPs: a DHCP server may answer to it.
    pub const FIXED: u32 = 1;
}
