//! Capacities of the maps. A full map of the forwarding side is an alarm, never a loss: the kernel lane carries what has no
//! entry. A full map of the security side closes: what has no entry is not admitted. The connection table forgets what has
//! been silent longest.

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
/// Interface and hook pairs: two per port, and one more if it uses XDP; one per vxlan device; two per uplink.
pub const COUNTERS_MAX: usize = 32_768;
/// Interfaces that count in an array, where a place is found without a search; the others count in `counters`. A power of two.
pub const COUNTER_SLOTS: usize = 256;
/// Interface and reason pairs that have dropped something.
pub const DROPS_MAX: usize = 65_536;

/// Devices that XDP may send by: taps and uplinks.
pub const XDP_DEVICES_MAX: usize = 8_192;

/// Single source addresses over all secured ports.
pub const SOURCES_MAX: usize = 131_072;
/// Source prefixes over all secured ports.
pub const SOURCE_PREFIXES_MAX: usize = 65_536;
/// Entries of all policies.
pub const RULES_MAX: usize = 1_048_576;
/// Policies.
pub const POLICIES_MAX: usize = 16_384;
/// Sets of remote addresses.
pub const SETS_MAX: usize = 65_536;
/// Single addresses in all sets.
pub const MEMBERS_MAX: usize = 524_288;
/// Prefixes in all sets.
pub const MEMBER_PREFIXES_MAX: usize = 524_288;
/// Rules that have admitted something.
pub const RULE_HITS_MAX: usize = 131_072;
/// Flows of each family. Allocated at once; a load-time choice (`[overlane] flows_max`).
pub const CONNTRACK_MAX: usize = 262_144;
/// Flows of each family that have not shown both of their ends yet.
pub const CONNTRACK_NEW_MAX: usize = 65_536;
/// Fragmented packets on their way.
pub const FRAGMENTS_MAX: usize = 8_192;
/// Bytes of the event ring buffer; a power of two and a multiple of the page size.
pub const EVENTS_BYTES: usize = 262_144;
