//! A port of this host, by the interface index of its tap.

use crate::map_types;

map_types! {
    /// Value of the `ports` map; the key is the interface index of the tap.
    pub struct Port: 28 {
        /// Local network index.
        pub network: u32,
        /// VXLAN Network Identifier of the network, 24 bits; 0 when it has no tunnels.
        pub vni: u32,
        /// MAC address of the port (the guest's, not the tap's).
        pub mac: [u8; 6],
        /// [`Port::RESPONDER`] and the other flags.
        pub flags: u16,
        /// The rules of the port's security groups: the first half of keys of `rules`; 0 without [`Port::FILTERED`].
        pub policy: u32,
        /// Changes, always to a higher value, whenever a flow that was admitted before might not be any more: a rule, an
        /// address or a group was taken away. Flows admitted under another revision are judged again.
        pub revision: u32,
        /// The largest IP packet that its network takes, in bytes; 0 while nobody knows.
        pub mtu: u32,
    }
}

impl Port {
    /// Answer the port's ARP requests and neighbour solicitations from the `neighbors` map.
    pub const RESPONDER: u16 = 1;
    /// Port security: the port may only use the addresses in `sources` and `source_prefixes`, and must not act as a router or
    /// DHCP server.
    pub const SECURED: u16 = 2;
    /// Security groups: only what `policy` admits, and what belongs to it, may leave and reach the port. Only together with
    /// [`Port::SECURED`].
    pub const FILTERED: u16 = 4;
    /// The port has an IPv6 address, so router advertisements may reach it.
    pub const ROUTER_ADVERTISEMENTS: u16 = 8;
    /// TCP connections that are met in mid-stream are taken up if the rules would have admitted them from either side. For
    /// the time after the port has come from another filter, or another host.
    pub const TAKE_UP: u16 = 16;
    /// What security groups drop is written to the log.
    pub const LOG_DROPS: u16 = 32;
    /// What it sends is limited or marked: `qos` says how.
    pub const QOS: u16 = 64;
    /// Frames with certain tags are not its own, but those of subports: `vlans` has the tags.
    pub const TRUNK: u16 = 128;
    /// It is behind the tap of another port, with a tag: `vlan_devices` has it, unless the kernel's 8021q module adds it.
    pub const SUBPORT: u16 = 256;
}
