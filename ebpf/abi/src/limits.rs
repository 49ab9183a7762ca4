//! Capacities of the maps. A full map is an alarm, never a loss: the kernel lane carries what has no entry.

/// Ports on one host.
pub const PORTS_MAX: usize = 8_192;
/// Keys of the `networks` map: three per network.
pub const NETWORKS_MAX: usize = 16_384;
/// MAC addresses, local and remote, over all networks.
pub const FDB_MAX: usize = 262_144;
/// Addresses that the responder knows, over all networks.
pub const NEIGHBORS_MAX: usize = 262_144;
/// Remote tunnel endpoints.
pub const VTEPS_MAX: usize = 16_384;
/// VLANs, over all NICs.
pub const VLANS_MAX: usize = 16_384;
/// Interface and hook pairs: two per port, one per vxlan device, one per uplink.
pub const COUNTERS_MAX: usize = 32_768;
/// Interface and reason pairs that have dropped something.
pub const DROPS_MAX: usize = 16_384;
