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
/// Place to the interface index of its owner, 0 for nobody's: [`crate::limits::COUNTER_SLOTS`] of them, and an interface can only have the
/// one that its index falls on.
pub const COUNTER_SLOTS: &str = "counter_slots";
/// Place to [`crate::SlotCounters`], per CPU.
pub const SLOT_COUNTERS: &str = "slot_counters";
/// [`crate::DropKey`] to [`crate::Tally`], per CPU.
pub const DROPS: &str = "drops";
/// One [`crate::Meta`].
pub const META: &str = "meta";
/// [`crate::SourceKey`] to [`crate::Source`].
pub const SOURCES: &str = "sources";
/// Prefixes of [`crate::SourceKey`] to [`crate::Source`], a longest-prefix-match trie.
pub const SOURCE_PREFIXES: &str = "source_prefixes";
/// Prefixes of [`crate::RuleKey`] to [`crate::RuleSet`], a longest-prefix-match trie.
pub const RULES: &str = "rules";
/// [`crate::MemberKey`] to [`crate::Member`].
pub const MEMBERS: &str = "members";
/// Prefixes of [`crate::MemberKey`] to [`crate::Member`], a longest-prefix-match trie.
pub const MEMBER_PREFIXES: &str = "member_prefixes";
/// Number of a set to [`crate::SetName`]; for user space only.
pub const SETS: &str = "sets";
/// Number of a policy to [`crate::PolicyName`]; for user space only.
pub const POLICIES: &str = "policies";
/// One `u32`, never 0: raised after a member has left any set, so that the flows that members have admitted are judged again.
pub const GENERATION: &str = "generation";
/// [`crate::RuleHitKey`] to [`crate::Tally`], per CPU.
pub const RULE_HITS: &str = "rule_hits";
/// [`crate::FlowKey4`] to [`crate::Flow`].
pub const CONNTRACK4: &str = "conntrack4";
/// [`crate::FlowKey6`] to [`crate::Flow`].
pub const CONNTRACK6: &str = "conntrack6";
/// As `conntrack4`, for flows that have not shown both of their ends yet.
pub const CONNTRACK_NEW4: &str = "conntrack_new4";
/// As `conntrack6`, for flows that have not shown both of their ends yet.
pub const CONNTRACK_NEW6: &str = "conntrack_new6";
/// [`crate::FragmentKey`] to [`crate::Fragment`].
pub const FRAGMENTS: &str = "fragments";
/// A ring buffer of [`crate::FlowEvent`].
pub const EVENTS: &str = "events";
/// One [`crate::EventBudget`], per CPU.
pub const EVENT_BUDGET: &str = "event_budget";
/// Tap interface index to [`crate::Qos`].
pub const QOS: &str = "qos";
/// Tap interface index to how much of its limit a port has used.
pub const BUCKETS: &str = "buckets";
/// Interface index of a device that XDP may send by to that device, and to the program that admits what goes there.
pub const XDP_DEVICES: &str = "xdp_devices";

/// Every map.
pub const MAPS: [&str; 31] = [
    PORTS,
    NETWORKS,
    FDB,
    VTEPS,
    NEIGHBORS,
    VLANS,
    VLAN_DEVICES,
    COUNTERS,
    DROPS,
    META,
    SOURCES,
    SOURCE_PREFIXES,
    RULES,
    MEMBERS,
    MEMBER_PREFIXES,
    SETS,
    POLICIES,
    GENERATION,
    RULE_HITS,
    CONNTRACK4,
    CONNTRACK6,
    CONNTRACK_NEW4,
    CONNTRACK_NEW6,
    FRAGMENTS,
    EVENTS,
    EVENT_BUDGET,
    QOS,
    BUCKETS,
    XDP_DEVICES,
    COUNTER_SLOTS,
    SLOT_COUNTERS,
];

/// Load-time value: this host's tunnel endpoint, a `[u8; 16]` with the octets of an [`crate::Address`].
pub const LOCAL_VTEP: &str = "LOCAL_VTEP";
/// Load-time value: UDP destination port of VXLAN, a `u16` in host byte order.
pub const VXLAN_PORT: &str = "VXLAN_PORT";
/// Load-time value: first UDP source port of encapsulated packets, a `u16` in host byte order.
pub const SOURCE_PORT_MIN: &str = "SOURCE_PORT_MIN";
/// Load-time value: first UDP source port past the range, a `u32`.
pub const SOURCE_PORT_END: &str = "SOURCE_PORT_END";
/// Load-time value: 0 if `from_port` leaves every packet that it admits to the bridge (`fast_path = off`), a `u8`.
pub const FORWARDING: &str = "FORWARDING";
/// Load-time value: 1 if taps without an entry in `ports` are closed, 0 if they are left to the kernel, a `u8`.
pub const CLOSED: &str = "CLOSED";
/// Load-time value: how long flows are remembered, a `[u32; FlowState::COUNT]` of milliseconds.
pub const FLOW_TIMEOUTS: &str = "FLOW_TIMEOUTS";
/// Load-time value: events per second and CPU that are written to the log, a `u32`; 0 switches it off.
pub const LOG_RATE: &str = "LOG_RATE";
