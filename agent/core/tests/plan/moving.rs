//! A MAC address that is on several hosts is followed to where bridges and vxlan devices learn it.

use std::net::IpAddr;

use overlane_abi as abi;
use overlane_core::{
    desired::{Desired, LocalPort, Network},
    model::{Mac, NetworkId, PortId, Segment, Vni},
    observed::{DatapathState, FdbEntry, FdbTable, KernelState, Learned, LinkKind, Observed},
    qos::Qos,
    security::PortSecurity,
};
use uuid::Uuid;

use crate::simulated::{link, local_ip, reconcile};

const UPLINK: u32 = 1;
const TAP: u32 = 4;
const ROUTER: Mac = Mac([2; 6]);

fn desired(segment: Segment) -> Desired {
    let port = LocalPort {
        mac: ROUTER,
        addresses: vec![IpAddr::from([10, 0, 0, 1])],
        admin_state_up: true,
        device_owner: "network:router_interface".to_owned(),
        security: PortSecurity::Open,
        qos: Qos::default(),
        from_port_xdp: false,
    };
    let network = Network {
        name: "net".to_owned(),
        segment,
        mtu: None,
        local_ports: [(PortId(Uuid::nil()), port)].into(),
        remote_macs: [].into(),
        moving_macs: [ROUTER].into(),
        has_unknown_members: false,
        flood: [there()].into(),
        neighbors: [].into(),
    };
    Desired { complete: true, networks: [(NetworkId(Uuid::nil()), network)].into(), ..Desired::default() }
}

fn there() -> IpAddr {
    [10, 10, 10, 12].into()
}

fn tunnelled() -> Segment {
    Segment::Vxlan(Vni::try_from(10).expect("24 bits"))
}

fn host() -> Observed {
    let uplink = link(UPLINK, "eth1", LinkKind::default());
    let tap = link(TAP, &PortId(Uuid::nil()).tap_name(), LinkKind::Other("veth".to_owned()));
    let kernel = KernelState {
        links: [(UPLINK, uplink), (TAP, tap)].into(),
        addresses: [(UPLINK, [local_ip()].into())].into(),
        ..KernelState::default()
    };
    Observed { kernel, datapath: Some(DatapathState::default()), ..Observed::default() }
}

/// Where the maps have it.
fn in_maps(host: &Observed) -> Option<abi::FdbEntry> {
    let maps = host.datapath.as_ref().expect("there is a fast lane");
    maps.fdb.iter().find(|(key, _)| key.mac == ROUTER.0).map(|(_, entry)| *entry)
}

fn port_of(host: &Observed, is_meant: impl Fn(&LinkKind) -> bool) -> u32 {
    host.kernel.links.values().find(|link| is_meant(&link.kind)).expect("it has been made").ifindex
}

/// The bridge hears of it at one of its ports, and perhaps a vxlan device of where.
fn learn(host: &mut Observed, port: u32, remote: Option<IpAddr>) {
    host.kernel.add_fdb(FdbEntry { ifindex: port, mac: ROUTER, table: FdbTable::BridgeLearned });
    if let Some(remote) = remote {
        host.kernel.add_fdb(FdbEntry { ifindex: port, mac: ROUTER, table: FdbTable::Learned { remote } });
    }
}

#[test]
fn a_network_with_an_address_that_moves_is_told_of_no_place_and_learns_from_known_endpoints() {
    let (desired, mut host) = (desired(tunnelled()), host());
    reconcile(&desired, &mut host);
    assert_eq!(in_maps(&host), None);
    assert!(host.kernel.fdb.iter().all(|entry| entry.mac != ROUTER), "{:?}", host.kernel.fdb);
    assert_eq!(desired.learned(false), Learned { from_tunnels: false, macs: [ROUTER].into() });
    let networks = &host.datapath.as_ref().expect("there is a fast lane").networks;
    let flags = abi::Network::LEARNS | abi::Network::HAS_KNOWN_VTEPS;
    assert!(networks.values().all(|network| network.flags == flags), "{networks:?}");
}

#[test]
fn the_fast_lane_follows_what_moves_between_this_host_and_another() {
    let (desired, mut host) = (desired(tunnelled()), host());
    reconcile(&desired, &mut host);
    let tunnel = port_of(&host, |kind| matches!(kind, LinkKind::Vxlan(_)));
    for _ in 0..2 {
        learn(&mut host, TAP, None);
        reconcile(&desired, &mut host);
        assert_eq!(in_maps(&host), Some(abi::FdbEntry::local(TAP)));
        // The vxlan device does not forget what it has learned when the bridge learns better.
        learn(&mut host, tunnel, Some(there()));
        reconcile(&desired, &mut host);
        assert_eq!(in_maps(&host), Some(abi::FdbEntry::remote(there().into())));
    }
    host.kernel.fdb.retain(|entry| entry.mac != ROUTER);
    reconcile(&desired, &mut host);
    assert_eq!(in_maps(&host), None, "nobody knows any more");
}

#[test]
fn on_a_physical_network_it_is_here_or_it_is_left_to_the_bridge() {
    let (desired, mut host) = (desired(Segment::Local), host());
    reconcile(&desired, &mut host);
    let bridge = port_of(&host, |kind| *kind == LinkKind::Bridge);
    let mut nic = link(99, "nic", LinkKind::default());
    nic.master = Some(bridge);
    host.kernel.links.insert(99, nic);
    for _ in 0..2 {
        learn(&mut host, TAP, None);
        reconcile(&desired, &mut host);
        assert_eq!(in_maps(&host), Some(abi::FdbEntry::local(TAP)));
        learn(&mut host, 99, None);
        reconcile(&desired, &mut host);
        assert_eq!(in_maps(&host), None);
    }
}

#[test]
fn a_bridge_forgets_where_an_address_was_and_other_bridges_do_not() {
    let mut host = host();
    for (ifindex, master) in [(5, 20), (6, 20), (7, 21)] {
        let port = overlane_core::observed::Link { master: Some(master), ..link(ifindex, "port", LinkKind::default()) };
        host.kernel.links.insert(ifindex, port);
    }
    for ifindex in [7, 5, 6] {
        learn(&mut host, ifindex, None);
    }
    let known: Vec<bool> = [5, 6, 7].map(|ifindex| host.kernel.is_learned_at(ifindex, ROUTER)).into();
    assert_eq!(known, [false, true, true]);
}
