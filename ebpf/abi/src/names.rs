//! Names of maps, which are also the names of their pins, and of the values set when the programs are loaded.

/// Tap interface index to [`crate::Port`].
pub const PORTS: &str = "ports";
/// [`crate::NetworkKey`] to [`crate::Network`].
pub const NETWORKS: &str = "networks";
/// [`crate::FdbKey`] to [`crate::FdbEntry`].
pub const FDB: &str = "fdb";
/// [`crate::Address`] to [`crate::Vtep`].
pub const VTEPS: &str = "vteps";
/// [`crate::NeighborKey`] to [`crate::Neighbor`].
pub const NEIGHBORS: &str = "neighbors";
/// [`crate::VlanId`] to [`crate::Vlan`].
pub const VLANS: &str = "vlans";
/// Interface index of a `<nic>.<vid>` device to [`crate::VlanId`].
pub const VLAN_DEVICES: &str = "vlan_devices";
/// [`crate::CounterKey`] to [`crate::HookCounters`], per CPU.
pub const COUNTERS: &str = "counters";
/// [`crate::DropKey`] to [`crate::Tally`], per CPU.
pub const DROPS: &str = "drops";
/// One [`crate::Meta`].
pub const META: &str = "meta";

/// Every map.
pub const MAPS: [&str; 10] = [PORTS, NETWORKS, FDB, VTEPS, NEIGHBORS, VLANS, VLAN_DEVICES, COUNTERS, DROPS, META];

/// Load-time value: this host's tunnel endpoint, a `[u8; 16]` with the octets of an [`crate::Address`].
pub const LOCAL_VTEP: &str = "LOCAL_VTEP";
/// Load-time value: UDP destination port of VXLAN, a `u16` in host byte order.
pub const VXLAN_PORT: &str = "VXLAN_PORT";
/// Load-time value: first UDP source port of encapsulated packets, a `u16` in host byte order.
pub const SOURCE_PORT_MIN: &str = "SOURCE_PORT_MIN";
/// Load-time value: first UDP source port past the range, a `u32`.
pub const SOURCE_PORT_END: &str = "SOURCE_PORT_END";
