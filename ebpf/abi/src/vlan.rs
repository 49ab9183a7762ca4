//! VLANs: which network the frames with a tag belong to, and which tag the frames of a device get.

use crate::map_types;

map_types! {
    /// A VLAN on a NIC, or a subport on the tap of its trunk: key of the `vlans` map, and value of `vlan_devices`, whose key is
    /// the interface index of a device that the programs tag for.
    pub struct VlanId: 8 {
        /// Interface index of the NIC or tap.
        pub nic: u32,
        /// VLAN identifier, 1 to 4094.
        pub vid: u16,
        /// The kernel hashes every byte of a key, so padding is a field and always zero.
        pub pad: u16,
    }

    /// Value of the `vlans` map.
    pub struct Vlan: 8 {
        /// Local network index; 0 for a subport, whose device has an entry in `ports`.
        pub network: u32,
        /// The device that frames enter without their tag: those from a NIC when they are not for a port of this host, those
        /// from a tap always. 0 where the kernel's 8021q module takes them there.
        pub device: u32,
    }
}

impl VlanId {
    /// The VLAN `vid` on the NIC with interface index `nic`.
    #[inline(always)]
    pub const fn new(nic: u32, vid: u16) -> Self {
        Self { nic, vid, pad: 0 }
    }
}
