//! How to reach a remote tunnel endpoint: a ready-made outer header.

use crate::map_types;

/// Bytes of outer header over IPv4: Ethernet 14, IPv4 20, UDP 8, VXLAN 8.
pub const HEADER_V4: usize = 50;
/// Bytes of outer header over IPv6: Ethernet 14, IPv6 40, UDP 8, VXLAN 8.
pub const HEADER_V6: usize = 70;
/// Room for the larger of the two, rounded up to whole words.
pub const HEADER_MAX: usize = 72;

map_types! {
    /// Value of the `vteps` map; the key is the [`crate::Address`] of the VTEP.
    ///
    /// Its presence makes the address a known VTEP, from which overlay packets are accepted. Aligned so that the header
    /// is copied in whole words.
    #[repr(align(8))]
    pub struct Vtep: 88 {
        /// Underlay interface that leads to the VTEP; 0 while the next hop has no link-layer address.
        pub ifindex: u32,
        /// IP packets up to this many bytes, outer headers included, fit the path.
        pub mtu: u32,
        /// [`HEADER_V4`] or [`HEADER_V6`].
        pub header_len: u16,
        /// [`Vtep::INHERIT_DSCP`], [`Vtep::SUPERPACKETS_BY_KERNEL`].
        pub flags: u16,
        /// Always zero.
        pub pad: u32,
        /// Outer Ethernet, IP, UDP and VXLAN headers as on the wire, with lengths, UDP source port, VNI, IPv4
        /// identification and ECN zero; the IPv4 checksum is the one of the header as it stands here.
        pub header: [u8; HEADER_MAX],
    }
}

impl Vtep {
    /// Copy the DSCP of the inner packet to the outer header.
    pub const INHERIT_DSCP: u16 = 1;
    /// Leave superpackets to the kernel's vxlan device.
    pub const SUPERPACKETS_BY_KERNEL: u16 = 2;
}
