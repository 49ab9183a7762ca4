//! A port of this host, by the interface index of its tap.

use crate::map_types;

map_types! {
    /// Value of the `ports` map; the key is the interface index of the tap.
    pub struct Port: 20 {
        /// Local network index.
        pub network: u32,
        /// VXLAN Network Identifier of the network, 24 bits; 0 when it has no tunnels.
        pub vni: u32,
        /// MAC address of the port (the guest's, not the tap's).
        pub mac: [u8; 6],
        /// [`Port::RESPONDER`] or 0.
        pub flags: u16,
        /// The largest IP packet that its network takes, in bytes; 0 while nobody knows.
        pub mtu: u32,
    }
}

impl Port {
    /// Answer the port's ARP requests and neighbour solicitations from the `neighbors` map.
    pub const RESPONDER: u16 = 1;
}
