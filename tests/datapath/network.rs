//! The network that the datapath tests are about: a port here, a port on another host, over IPv4 or IPv6.

use std::net::IpAddr;

use overlane_abi::{FdbEntry, FdbKey, HEADER_MAX, Hook, Neighbor, NeighborKey, Network, NetworkKey, Port, Vtep, names};
use overlane_core::{
    config::{Dscp, VxlanConfig},
    model::Mac,
    plan::header::{self, Hop},
};
use overlane_tests::packet::{ETHERNET, Ends, Frame, Vxlan};

use crate::harness::{Datapath, IFINDEX};

pub(crate) const VNI: u32 = 0x01_02_03;
pub(crate) const INDEX: u32 = 7;
pub(crate) const MTU: u32 = 1500;
/// An interface that is not the one that test runs happen on.
pub(crate) const OTHER_IFINDEX: u32 = 4_000_000;
/// The interface that leads to the other host.
pub(crate) const UPLINK: u32 = 3;

pub(crate) const HERE: [u8; 6] = [0xfa, 0x16, 0x3e, 0, 0, 1];
pub(crate) const NEIGHBOUR: [u8; 6] = [0xfa, 0x16, 0x3e, 0, 0, 2];
pub(crate) const THERE: [u8; 6] = [0xfa, 0x16, 0x3e, 0, 0, 3];
pub(crate) const NOBODY: [u8; 6] = [0xfa, 0x16, 0x3e, 0, 0, 9];

const UPLINK_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
const NEXT_HOP_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x12];

/// Addresses of a family.
#[derive(Clone, Copy)]
pub(crate) struct Family {
    pub(crate) local_vtep: IpAddr,
    pub(crate) remote_vtep: IpAddr,
    pub(crate) here: IpAddr,
    pub(crate) there: IpAddr,
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().expect("the test has valid addresses")
}

pub(crate) fn v4() -> Family {
    Family {
        local_vtep: address("10.10.10.11"),
        remote_vtep: address("10.10.10.12"),
        here: address("10.0.0.1"),
        there: address("10.0.0.3"),
    }
}

pub(crate) fn v6() -> Family {
    Family {
        local_vtep: address("fd10::11"),
        remote_vtep: address("fd10::12"),
        here: address("fd00::1"),
        there: address("fd00::3"),
    }
}

/// Outer and inner families in every combination.
pub(crate) fn families() -> [(Family, Family); 4] {
    [(v4(), v4()), (v4(), v6()), (v6(), v4()), (v6(), v6())]
}

pub(crate) fn vxlan_config(outer: Family) -> VxlanConfig {
    VxlanConfig {
        local_ip: outer.local_vtep,
        udp_dstport: 4789,
        source_ports: None,
        ttl: None,
        dscp: Dscp::Fixed(0),
        arp_responder: true,
    }
}

/// A host with the network, as its agent would fill the maps.
pub(crate) fn host(outer: Family) -> Datapath {
    host_with(outer, &vxlan_config(outer))
}

pub(crate) fn host_with(outer: Family, config: &VxlanConfig) -> Datapath {
    let mut datapath = Datapath::load(outer.local_vtep);
    limit(&mut datapath, 0);
    datapath.put(names::NETWORKS, NetworkKey::vni(VNI), Network { index: INDEX, vni: VNI, flags: 0 });
    datapath.put(names::FDB, FdbKey::new(INDEX, HERE), FdbEntry::local(IFINDEX));
    datapath.put(names::FDB, FdbKey::new(INDEX, NEIGHBOUR), FdbEntry::local(OTHER_IFINDEX));
    datapath.put(names::FDB, FdbKey::new(INDEX, THERE), FdbEntry::remote(outer.remote_vtep.into()));
    let hop = Hop { uplink: UPLINK, source: Mac(UPLINK_MAC), destination: Mac(NEXT_HOP_MAC), mtu: MTU };
    let vtep = header::vtep(config, outer.remote_vtep, &hop).expect("one family");
    datapath.put(names::VTEPS, overlane_abi::Address::from(outer.remote_vtep), vtep);
    for family in [v4(), v6()] {
        let key = NeighborKey { network: INDEX, address: family.there.into() };
        datapath.put(names::NEIGHBORS, key, Neighbor { mac: THERE, flags: 0 });
    }
    datapath
}

/// As `host`, where the interface that test runs happen on is the network's vxlan device, or a flat network's NIC.
pub(crate) fn host_at_its_segment(outer: Family) -> Datapath {
    let mut datapath = host(outer);
    datapath.put(names::NETWORKS, NetworkKey::interface(IFINDEX), Network { index: INDEX, vni: VNI, flags: 0 });
    datapath
}

/// Says what the network takes, in bytes of IP; 0 for "nobody knows".
pub(crate) fn limit(datapath: &mut Datapath, mtu: u32) {
    let port = Port { network: INDEX, vni: VNI, mac: HERE, flags: Port::RESPONDER, policy: 0, revision: 0, mtu };
    datapath.put(names::PORTS, IFINDEX, port);
}

/// Makes the remote endpoint one whose next hop is not known.
pub(crate) fn unresolve(datapath: &mut Datapath, outer: Family) {
    let vtep = Vtep { ifindex: 0, mtu: 0, header_len: 0, flags: 0, pad: 0, header: [0; HEADER_MAX] };
    datapath.put(names::VTEPS, overlane_abi::Address::from(outer.remote_vtep), vtep);
}

/// Leaves superpackets for the remote endpoint to the kernel.
pub(crate) fn leave_superpackets(datapath: &mut Datapath, outer: Family) {
    let address = overlane_abi::Address::from(outer.remote_vtep);
    for (key, vtep) in datapath.entries::<overlane_abi::Address, Vtep>(names::VTEPS) {
        if key == address {
            datapath.put(names::VTEPS, key, Vtep { flags: vtep.flags | Vtep::SUPERPACKETS_BY_KERNEL, ..vtep });
        }
    }
}

/// From the port here to the one there.
pub(crate) fn outbound(inner: Family) -> Ends {
    Ends { source_mac: HERE, destination_mac: THERE, source: inner.here, destination: inner.there, traffic_class: 0 }
}

/// What carries a packet from here to there; the source port is the datapath's choice.
pub(crate) fn tunnel(outer: Family) -> Vxlan {
    let outer = Ends {
        source_mac: UPLINK_MAC,
        destination_mac: NEXT_HOP_MAC,
        source: outer.local_vtep,
        destination: outer.remote_vtep,
        traffic_class: 0,
    };
    Vxlan { outer, source_port: 0, port: 4789, vni: VNI, has_checksum: false }
}

/// What carries a packet from there to here.
pub(crate) fn tunnel_back(outer: Family) -> Vxlan {
    let tunnel = tunnel(outer);
    Vxlan { outer: tunnel.outer.reversed(), source_port: 45_678, ..tunnel }
}

/// Every hook.
pub(crate) const HOOKS: [Hook; 7] = Hook::ALL;

/// A packet from there to here, in its tunnel.
pub(crate) fn inbound(outer: Family, inner: Family) -> (Vxlan, Frame) {
    (tunnel_back(outer), outbound(inner).reversed().udp(64))
}

/// The shortest frame of a family that `BPF_PROG_TEST_RUN` takes: one with a whole IP header.
pub(crate) fn shortest(family: Family) -> usize {
    ETHERNET + if family.here.is_ipv4() { 20 } else { 40 }
}
