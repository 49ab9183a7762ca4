//! Every map and every value set at load time, behind typed functions. Only this file and those below it name one.

mod counters;
mod events;
mod flows;
mod qos;
mod scratch;
mod security;
mod xdp;

use aya_ebpf::{
    Global,
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{Array, HashMap},
    macros::btf_map,
};
use overlane_abi::{
    Address, FdbEntry, FdbKey, Meta, Neighbor, NeighborKey, Network, NetworkKey, Port, Vlan, VlanId, Vtep, limits,
};

pub use counters::{count, count_drop};
pub use events::{event_budget, log_rate, put_event};
pub use flows::{
    FlowKey, Table, find_flow, flow, flow_timeout, forget_flow, forget_fragment, fragment, put_flow, put_fragment,
};
pub use qos::{draw, qos};
pub use scratch::{room_to_judge, scratch};
pub use security::{Lookup, count_hit, generation, member, rules, source};
pub use xdp::sends_by_xdp;

/// Memory follows the number of entries instead of the capacity.
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map(name = "ports")]
static PORTS: HashMap<u32, Port, { limits::PORTS_MAX }, ON_DEMAND> = HashMap::new();

#[btf_map(name = "networks")]
static NETWORKS: HashMap<NetworkKey, Network, { limits::NETWORKS_MAX }, ON_DEMAND> = HashMap::new();

#[btf_map(name = "fdb")]
static FDB: HashMap<FdbKey, FdbEntry, { limits::FDB_MAX }, ON_DEMAND> = HashMap::new();

#[btf_map(name = "vteps")]
static VTEPS: HashMap<Address, Vtep, { limits::VTEPS_MAX }, ON_DEMAND> = HashMap::new();

#[btf_map(name = "neighbors")]
static NEIGHBORS: HashMap<NeighborKey, Neighbor, { limits::NEIGHBORS_MAX }, ON_DEMAND> = HashMap::new();

#[btf_map(name = "vlans")]
static VLANS: HashMap<VlanId, Vlan, { limits::VLANS_MAX }, ON_DEMAND> = HashMap::new();

#[btf_map(name = "vlan_devices")]
static VLAN_DEVICES: HashMap<u32, VlanId, { limits::VLANS_MAX }, ON_DEMAND> = HashMap::new();

#[btf_map(name = "meta")]
static META: Array<Meta, 1> = Array::new();

#[unsafe(no_mangle)]
static LOCAL_VTEP: Global<[u8; 16]> = Global::new([0; 16]);
#[unsafe(no_mangle)]
static VXLAN_PORT: Global<u16> = Global::new(4789);
#[unsafe(no_mangle)]
static SOURCE_PORT_MIN: Global<u16> = Global::new(32768);
#[unsafe(no_mangle)]
static SOURCE_PORT_END: Global<u32> = Global::new(61000);

#[unsafe(no_mangle)]
static FORWARDING: Global<u8> = Global::new(1);
#[unsafe(no_mangle)]
static CLOSED: Global<u8> = Global::new(0);

/// This host's tunnel endpoint.
#[inline(always)]
pub fn local_vtep() -> Address {
    Address { octets: LOCAL_VTEP.load() }
}

/// UDP destination port of VXLAN.
#[inline(always)]
pub fn vxlan_port() -> u16 {
    VXLAN_PORT.load()
}

/// The UDP source port for a flow, by the kernel's own formula (`udp_flow_src_port` in `include/net/udp.h`), so that
/// both lanes take the same path through the underlay.
#[inline(always)]
pub fn source_port(flow_hash: u32) -> u16 {
    let (min, end) = (u32::from(SOURCE_PORT_MIN.load()), SOURCE_PORT_END.load());
    let hash = flow_hash ^ flow_hash << 16;
    (((u64::from(hash) * u64::from(end - min)) >> 32) as u32 + min) as u16
}

/// Whether packets that were admitted are forwarded here, rather than left to the bridge.
#[inline(always)]
pub fn is_forwarding() -> bool {
    FORWARDING.load() != 0
}

/// Whether taps without an entry are closed.
#[inline(always)]
pub fn is_closed() -> bool {
    CLOSED.load() != 0
}

/// The port behind a tap.
#[inline(always)]
pub fn port(ifindex: u32) -> Option<&'static Port> {
    // SAFETY: the agent replaces entries whole, and the place of one that is gone stays memory of this map for as long as programs run that
    // have found it, though another entry may be put there at once. Any bytes are a valid value: at worst this packet is treated as one of
    // another entry.
    unsafe { PORTS.get(ifindex) }
}

/// The network with a VNI, or behind a vxlan device.
#[inline(always)]
pub fn network(key: NetworkKey) -> Option<&'static Network> {
    // SAFETY: as in `port`.
    unsafe { NETWORKS.get(key) }
}

/// Who owns a MAC address on a network.
#[inline(always)]
pub fn fdb(network: u32, mac: [u8; 6]) -> Option<&'static FdbEntry> {
    // SAFETY: as in `port`.
    unsafe { FDB.get(FdbKey::new(network, mac)) }
}

/// Removes what is known of a MAC address on a network.
#[inline(always)]
pub fn forget(network: u32, mac: [u8; 6]) {
    let _ = FDB.remove(FdbKey::new(network, mac));
}

/// How to reach a tunnel endpoint; `None` means that it is not a known one.
#[inline(always)]
pub fn vtep(address: &Address) -> Option<&'static Vtep> {
    // SAFETY: as in `port`.
    unsafe { VTEPS.get(address) }
}

/// Whether an endpoint that is not known may be one that did not fit into the map.
#[inline(always)]
pub fn vteps_are_incomplete() -> bool {
    META.get(0).is_some_and(|meta| meta.flags & Meta::VTEPS_INCOMPLETE != 0)
}

/// What the responder may answer about an address.
#[inline(always)]
pub fn neighbor(network: u32, address: Address) -> Option<&'static Neighbor> {
    // SAFETY: as in `port`.
    unsafe { NEIGHBORS.get(NeighborKey { network, address }) }
}

/// The VLAN with this tag on a NIC.
#[inline(always)]
pub fn vlan(id: VlanId) -> Option<&'static Vlan> {
    // SAFETY: as in `port`.
    unsafe { VLANS.get(id) }
}

/// The VLAN that a `<nic>.<vid>` device stands for.
#[inline(always)]
pub fn vlan_device(ifindex: u32) -> Option<&'static VlanId> {
    // SAFETY: as in `port`.
    unsafe { VLAN_DEVICES.get(ifindex) }
}
