//! Properties that hold whatever is desired and whatever is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU32,
};

use overlane_abi as abi;
use overlane_core::{
    desired::{Desired, LocalPort, Neighbor, Network, SubPort},
    model::{Mac, NetworkId, PortId, Segment, Vid, Vni, vlan_name, vxlan_name},
    observed::{DatapathState, FdbEntry, FdbTable, KernelState, Link, LinkKind, Observed, Path, Vlan, Vxlan},
    plan::unused_devices,
    qos::{Qos, RateLimit},
    security::PortSecurity,
};
use proptest::prelude::*;
use uuid::Uuid;

use crate::groups::any_security;
use crate::simulated::{link, local_ip, reconcile};

const UPLINK: u32 = 2;
const FOREIGN_BRIDGE: u32 = 3;
const FOREIGN_TAP: u32 = 4;
const NIC: u32 = 5;
const FIRST_OWN: u32 = 10;

/// The number of the network that is flat, and of the one that is a VLAN on the same NIC.
const FLAT: u8 = 2;
const VLAN: u8 = 3;

fn network_id(number: u8) -> NetworkId {
    NetworkId(Uuid::from_bytes([number; 16]))
}

fn port_id(number: u8) -> PortId {
    PortId(Uuid::from_bytes([0xf0 ^ number; 16]))
}

pub(crate) fn vtep(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 10, 10, 100 + number).into()
}

fn vni(network: u8) -> Vni {
    Vni::try_from(u32::from(network) + 10).expect("small")
}

fn vid() -> Vid {
    Vid::try_from(100).expect("valid")
}

/// The name of what leads from a network's bridge to the other hosts.
fn uplink_name(segment: &Segment) -> String {
    match segment {
        Segment::Vxlan(vni) => vxlan_name(*vni),
        Segment::Vlan { vid, .. } => vlan_name("ens224", *vid),
        Segment::Flat { .. } | Segment::Local => "ens224".to_owned(),
    }
}

/// Whether the host has no way of tagging for a network.
fn is_blocked(network: &Network, host: &Observed) -> bool {
    let has_device = || {
        let device = host.kernel.link_named(&uplink_name(&network.segment));
        device.is_some_and(|device| matches!(device.kind, LinkKind::Vlan(_)))
    };
    matches!(network.segment, Segment::Vlan { .. })
        && host.datapath.is_none()
        && !host.kernel.has_8021q
        && !has_device()
}

pub(crate) fn mac(number: u8) -> Mac {
    Mac([0xfa, 0x16, 0x3e, 0, 0, number])
}

/// Up to three networks with up to three ports here and three elsewhere, and perhaps a trunk between the ones here.
pub(crate) fn any_desired() -> impl Strategy<Value = Desired> {
    let ports = prop::collection::btree_set(0..9_u8, 0..3);
    let remote = prop::collection::btree_map(20..29_u8, 0..4_u8, 0..3);
    let mtu = prop::option::of(1000..1450_u16);
    let networks = prop::collection::btree_map(0..4_u8, (ports, remote, mtu), 0..3);
    let flags = (any::<bool>(), any::<bool>());
    (networks, flags, any_security()).prop_map(|(networks, (complete, has_trunk), security)| {
        let networks = networks.into_iter().map(|(number, spec)| (network_id(number), network(number, spec)));
        let networks: BTreeMap<NetworkId, Network> = networks.collect();
        let sub_ports = if has_trunk { trunk(&networks) } else { BTreeMap::new() };
        let vteps = (0..4).map(vtep).collect();
        security.apply(Desired { complete, networks, sub_ports, vteps, ..Desired::default() })
    })
}

/// A trunk of a port of the first network, with a subport in each of the others that have ports.
fn trunk(networks: &BTreeMap<NetworkId, Network>) -> BTreeMap<PortId, SubPort> {
    let mut ports = networks.values().filter_map(|network| network.local_ports.keys().next().copied());
    let Some(parent) = ports.next() else { return BTreeMap::new() };
    let tags = (200..).map(|vid| Vid::try_from(vid).expect("valid"));
    ports.zip(tags).map(|(port, vid)| (port, SubPort { parent, vid })).collect()
}

/// Some ports are limited in what they receive, some in what they send.
fn qos(port: u8) -> Qos {
    let limit = |wanted| (port % 3 == wanted).then_some(RateLimit { kbps: NonZeroU32::MIN, burst_kbit: 0 });
    Qos { ingress: limit(1), egress: limit(2), dscp: None }
}

fn network(number: u8, (ports, remote, mtu): (BTreeSet<u8>, BTreeMap<u8, u8>, Option<u16>)) -> Network {
    // A port belongs to one network: every network has ten numbers of its own.
    let own = |port: u8| number * 30 + port;
    let local_ports = ports.iter().map(|port| {
        let details = LocalPort {
            mac: mac(own(*port)),
            addresses: Vec::new(),
            admin_state_up: true,
            device_owner: String::new(),
            security: PortSecurity::Open,
            qos: qos(*port),
            from_port_xdp: false,
        };
        (port_id(own(*port)), details)
    });
    let tunnelled = if matches!(number, FLAT | VLAN) { BTreeMap::new() } else { remote };
    let neighbors = tunnelled.keys().map(|port| {
        let address = IpAddr::from(Ipv4Addr::new(10, 0, number, *port));
        (address, Neighbor { mac: mac(own(*port)), is_router: port % 2 == 0 })
    });
    Network {
        name: format!("net{number}"),
        // There is one physical network.
        segment: match number {
            FLAT => Segment::Flat { physical_network: "provider".to_owned() },
            VLAN => Segment::Vlan { physical_network: "provider".to_owned(), vid: vid() },
            _ => Segment::Vxlan(vni(number)),
        },
        mtu,
        local_ports: local_ports.collect(),
        moving_macs: [].into(),
        has_unknown_members: false,
        remote_macs: tunnelled.iter().map(|(port, host)| (mac(own(*port)), vtep(*host))).collect(),
        flood: tunnelled.values().map(|host| vtep(*host)).collect(),
        neighbors: neighbors.collect(),
    }
}

/// What may be left of anything: devices of networks in any state, stale entries, and things of others.
pub(crate) fn any_host() -> impl Strategy<Value = Observed> {
    let devices = prop::collection::vec((0..4_u8, 0..4_u8, any::<bool>(), any::<bool>()), 0..12);
    let stale = prop::collection::btree_set((0..3_u32, 0..9_u8, 0..4_u8), 0..6);
    let has_fast_lane = any::<bool>();
    let has_8021q = any::<bool>();
    (devices, stale, has_fast_lane, has_8021q).prop_map(|(devices, stale, has_fast_lane, has_8021q)| {
        let mut kernel = KernelState { has_8021q, ..underlay() };
        for (network, kind, up, enslaved) in devices {
            add_device(&mut kernel, network, kind, up, enslaved);
        }
        let datapath = has_fast_lane.then(|| stale_maps(&stale));
        for (device, address, host) in stale {
            let remote = vtep(host);
            let entry = FdbEntry { ifindex: FIRST_OWN + device, mac: mac(address), table: FdbTable::Vxlan { remote } };
            let is_vxlan = kernel.links.get(&entry.ifindex).is_some_and(|link| matches!(link.kind, LinkKind::Vxlan(_)));
            if is_vxlan {
                kernel.fdb.insert(entry);
            }
        }
        Observed { kernel, datapath, ..Observed::default() }
    })
}

fn underlay() -> KernelState {
    let mut kernel = KernelState::default();
    kernel.addresses.insert(UPLINK, [local_ip()].into());
    kernel.links.insert(NIC, link(NIC, "ens224", LinkKind::Other(String::new())));
    kernel.addresses.insert(NIC, [IpAddr::from([192, 0, 2, 1])].into());
    kernel.links.insert(UPLINK, link(UPLINK, "eth1", LinkKind::Other(String::new())));
    kernel.links.insert(FOREIGN_BRIDGE, link(FOREIGN_BRIDGE, "virbr0", LinkKind::Bridge));
    let mut tap = link(FOREIGN_TAP, "tapffffffff-ff", LinkKind::Other("tun".to_owned()));
    tap.master = Some(FOREIGN_BRIDGE);
    kernel.links.insert(FOREIGN_TAP, tap);
    kernel.fdb.insert(FdbEntry { ifindex: FOREIGN_TAP, mac: mac(200), table: FdbTable::Bridge });
    for number in 0..4 {
        let path = Path { uplink: UPLINK, next_hop: vtep(number), next_hop_mac: None, is_kept: false, mtu: 1500 };
        kernel.paths.insert(vtep(number), path);
    }
    kernel
}

fn add_device(kernel: &mut KernelState, network: u8, kind: u8, up: bool, enslaved: bool) {
    let ifindex = kernel.links.keys().max().map_or(FIRST_OWN, |last| (last + 1).max(FIRST_OWN));
    let vni = vni(network);
    let (name, kind) = match kind {
        0 => (network_id(network).bridge_name(), LinkKind::Bridge),
        1 if network == VLAN && kernel.has_8021q => {
            let device = LinkKind::Vlan(Vlan { nic: Some(NIC), vid: vid(), is_8021ad: false });
            (vlan_name("ens224", vid()), device)
        }
        1 if network == VLAN => (vlan_name("ens224", vid()), LinkKind::Other(LinkKind::IFB.to_owned())),
        1 => {
            let local = Some(local_ip());
            let vxlan =
                Vxlan { vni, local, underlay: Some(UPLINK), port: 4789, group: None, udp6_zero_checksum_rx: false };
            (vxlan_name(vni), LinkKind::Vxlan(vxlan))
        }
        port => (port_id(network * 30 + port).tap_name(), LinkKind::Other("tun".to_owned())),
    };
    if kernel.link_named(&name).is_some() {
        return;
    }
    let bridge = kernel.link_named(&network_id(network).bridge_name()).map(|bridge| bridge.ifindex);
    let mut device = link(ifindex, &name, kind);
    device.up = up;
    // Nobody else makes these.
    device.made_for = (device.kind == LinkKind::Other(LinkKind::IFB.to_owned())).then(|| network_id(network));
    device.master = bridge.filter(|_| enslaved && device.kind != LinkKind::Bridge);
    kernel.links.insert(ifindex, device);
}

fn stale_maps(stale: &BTreeSet<(u32, u8, u8)>) -> DatapathState {
    let mut maps = DatapathState::default();
    for (index, address, host) in stale {
        let entry = if host % 2 == 0 {
            abi::FdbEntry::remote(vtep(*host).into())
        } else {
            abi::FdbEntry::local(FIRST_OWN + index)
        };
        maps.fdb.insert(abi::FdbKey::new(*index, mac(*address).0), entry);
        let vni = 10 + index;
        maps.networks.insert(abi::NetworkKey::vni(vni), abi::Network { index: *index, vni, flags: 0 });
        maps.attached.insert((abi::Hook::FromPort, FIRST_OWN + index));
        maps.counted.insert((abi::Hook::ToPort, FIRST_OWN + index));
        let port = abi::Port { network: *index, vni, mac: mac(*address).0, flags: 0, policy: 0, revision: 0, mtu: 0 };
        maps.ports.insert(500 + index, port);
        maps.qos.insert(500 + index, abi::Qos { flags: 0, rate_kbps: 0, burst_kbit: 0, dscp: 0 });
    }
    maps
}

proptest! {
    #[test]
    fn plans_lead_to_what_is_desired_and_leave_nothing_to_do(desired in any_desired(), mut host in any_host()) {
        let passes = reconcile(&desired, &mut host);
        prop_assert!(passes <= 4, "took {} passes", passes);
        for (id, network) in desired.networks.iter().filter(|(_, network)| !is_blocked(network, &host)) {
            let bridge = host.kernel.link_named(&id.bridge_name()).expect("made or adopted");
            let uplink = uplink_name(&network.segment);
            let uplink = host.kernel.link_named(&uplink).expect("made, adopted, or there before");
            prop_assert!(bridge.up && uplink.up && uplink.master == Some(bridge.ifindex));
            if uplink.ifindex == NIC {
                prop_assert!(!host.kernel.addresses.contains_key(&NIC), "the NIC has kept its addresses");
                prop_assert!(host.kernel.addresses.contains_key(&bridge.ifindex));
            }
            if let (Segment::Vlan { .. }, Some(maps)) = (&network.segment, &host.datapath) {
                let is_ours = !matches!(uplink.kind, LinkKind::Vlan(_));
                let id = abi::VlanId::new(NIC, vid().get());
                prop_assert_eq!(maps.vlans[&id].device, if is_ours { uplink.ifindex } else { 0 });
                prop_assert_eq!(maps.vlan_devices.get(&uplink.ifindex), is_ours.then_some(&id));
                prop_assert!(maps.attached.contains(&(abi::Hook::FromUplink, NIC)));
                prop_assert_eq!(maps.attached.contains(&(abi::Hook::ToVlan, uplink.ifindex)), is_ours);
                prop_assert!(host.kernel.links[&NIC].promiscuous || !is_ours);
            }
            for (mac, remote) in &network.remote_macs {
                let entry = FdbEntry { ifindex: uplink.ifindex, mac: *mac, table: FdbTable::Vxlan { remote: *remote } };
                prop_assert!(host.kernel.fdb.contains(&entry), "{} is missing", entry);
            }
            for (port, details) in &network.local_ports {
                // What its device is, and where, is a matter of its trunk's: see `trunks`.
                if desired.sub_ports.contains_key(port) {
                    continue;
                }
                let Some(tap) = host.kernel.link_named(&port.tap_name()) else { continue };
                let is_released = host.kernel.released.as_ref().is_none_or(|taps| taps.contains(&tap.ifindex));
                if details.security.has_rules() && host.datapath.is_none() {
                    prop_assert!(!is_released || tap.master.is_some(), "connected without a filter");
                    continue;
                }
                prop_assert!(is_released);
                prop_assert!(tap.up && tap.master == Some(bridge.ifindex) && tap.mtu == network.mtu.map_or(uplink.mtu, u32::from));
                prop_assert_eq!(host.kernel.qdiscs.contains_key(&tap.ifindex), details.qos.ingress.is_some());
                let Some(maps) = &host.datapath else { continue };
                prop_assert_eq!(maps.qos.contains_key(&tap.ifindex), details.qos.needs_programs());
                prop_assert!(maps.attached.contains(&(abi::Hook::FromPort, tap.ifindex)));
                let port = maps.ports[&tap.ifindex];
                prop_assert_eq!(port.mtu, tap.mtu);
                let key = abi::FdbKey::new(port.network, details.mac.0);
                prop_assert_eq!(maps.fdb.get(&key), Some(&abi::FdbEntry::local(tap.ifindex)));
            }
        }
    }

    #[test]
    fn what_others_made_stays_as_it_is(desired in any_desired(), mut host in any_host()) {
        let foreign = |host: &Observed| {
            let links: Vec<_> = [UPLINK, FOREIGN_BRIDGE, FOREIGN_TAP].map(|ifindex| host.kernel.links[&ifindex].clone()).into();
            let fdb: Vec<_> = host.kernel.fdb.iter().filter(|entry| entry.ifindex == FOREIGN_TAP).copied().collect();
            (links, fdb)
        };
        let before = foreign(&host);
        reconcile(&desired, &mut host);
        prop_assert_eq!(foreign(&host), before);
        let is_closed = host.kernel.released.as_ref().is_some_and(|released| !released.contains(&FOREIGN_TAP));
        prop_assert!(!is_closed, "the guard has closed a tap in somebody else's bridge");
    }

    #[test]
    fn nothing_is_deleted_before_the_control_plane_has_told_everything(
        mut desired in any_desired(),
        mut host in any_host(),
    ) {
        desired.complete = false;
        let before = host.clone();
        reconcile(&desired, &mut host);
        prop_assert!(before.kernel.fdb.is_subset(&host.kernel.fdb));
        if let (Some(maps), Some(after)) = (&before.datapath, &host.datapath) {
            for (key, entry) in &maps.fdb {
                let device_was_gone = entry.ifindex != 0 && !before.kernel.links.contains_key(&entry.ifindex);
                prop_assert!(device_was_gone || after.fdb.contains_key(key), "{:?} is gone", key);
            }
        }
    }

    #[test]
    fn once_everything_is_told_the_maps_hold_nothing_stale(mut desired in any_desired(), mut host in any_host()) {
        desired.complete = true;
        reconcile(&desired, &mut host);
        let Some(maps) = &host.datapath else { return Ok(()) };
        for ifindex in maps.ports.keys().chain(maps.attached.iter().map(|(_, ifindex)| ifindex)) {
            prop_assert!(host.kernel.links.contains_key(ifindex), "interface {} is gone", ifindex);
        }
        prop_assert!(maps.qos.keys().all(|tap| maps.ports[tap].flags & abi::Port::QOS != 0));
        prop_assert!(maps.counted.is_subset(&maps.attached));
        let remote: usize = desired.networks.values().map(|network| network.remote_macs.len()).sum();
        prop_assert_eq!(maps.fdb.len(), remote + maps.ports.len());
        let neighbors: usize = desired.networks.values().map(|network| network.neighbors.len()).sum();
        prop_assert_eq!(maps.neighbors.len(), neighbors);
        let identified_by_vni = desired.networks.values().filter(|network| network.segment.vni().is_some()).count();
        prop_assert_eq!(maps.networks.len(), 2 * desired.networks.len() + identified_by_vni);
    }

    #[test]
    fn a_network_keeps_its_index_when_others_come_and_go(
        first in any_desired(),
        second in any_desired(),
        mut host in any_host(),
    ) {
        reconcile(&first, &mut host);
        let Some(before) = host.datapath.clone() else { return Ok(()) };
        reconcile(&second, &mut host);
        let after = host.datapath.expect("it was there before");
        for (key, network) in &before.networks {
            if let Some(kept) = after.networks.get(key) {
                prop_assert_eq!(kept.index, network.index);
            }
        }
        let mut indices: Vec<u32> = after.networks.values().map(|network| network.index).collect();
        indices.sort_unstable();
        indices.dedup();
        // A network is known by its VNI, or else by its bridge.
        let is_bridge = |ifindex| host.kernel.links.get(&ifindex).is_some_and(|link| link.kind == LinkKind::Bridge);
        let identity = |(key, network): (&abi::NetworkKey, &abi::Network)| match network.vni {
            0 => is_bridge(key.id).then_some((0, key.id)),
            vni => Some((vni, 0)),
        };
        let known: BTreeSet<(u32, u32)> = after.networks.iter().filter_map(identity).collect();
        prop_assert_eq!(indices.len(), known.len(), "two networks share an index");
    }

    #[test]
    fn after_the_grace_period_nothing_of_ours_is_left_and_the_nic_has_everything_back(
        desired in any_desired(),
        mut host in any_host(),
    ) {
        reconcile(&Desired { complete: true, ..desired }, &mut host);
        let nothing = Desired { complete: true, ..Desired::default() };
        host.retired = unused_devices(&nothing, &host.kernel);
        let is_made = |link: &Link| link.made_for.is_some() || link.made_for_trunk.is_some();
        let adopted = |host: &Observed| host.kernel.links.values().filter(|link| !is_made(link)).count();
        let before = adopted(&host);
        reconcile(&nothing, &mut host);
        prop_assert_eq!(adopted(&host), before);
        for bridge in host.kernel.links.values().filter(|link| is_made(link)) {
            // Only a bridge that something else is still part of.
            let ports: Vec<_> = host.kernel.links.values().filter(|link| link.master == Some(bridge.ifindex)).collect();
            prop_assert!(ports.iter().any(|port| port.ifindex != NIC), "{} is left", bridge.name);
        }
        if host.kernel.links[&NIC].master.is_none() {
            prop_assert!(host.kernel.addresses.contains_key(&NIC), "the NIC has lost its addresses");
        }
    }
}
