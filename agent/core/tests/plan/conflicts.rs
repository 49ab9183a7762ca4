//! Two of one thing, and things of others: one network or port is blocked, with a reason, and the rest is planned.

use overlane_core::{
    config::{Config, PhysicalNetwork},
    desired::{Desired, LocalPort, Network},
    model::{Mac, NetworkId, PortId, Segment},
    observed::{KernelState, Link, LinkKind, Observed, Vxlan},
    plan::{self, Plan},
    qos::Qos,
    security::PortSecurity,
};
use uuid::Uuid;

use crate::simulated::{config, link, local_ip};

/// Ids that differ in their last digit only, so that device names made of them do not differ.
fn id(number: u128) -> Uuid {
    Uuid::from_u128(0x1111_1111_1111_4000_8000_0000_0000_0000 + number)
}

fn network(name: &str, segment: Segment, port: u128) -> Network {
    let details = LocalPort {
        mac: Mac([2; 6]),
        addresses: Vec::new(),
        admin_state_up: true,
        device_owner: String::new(),
        security: PortSecurity::Open,
        qos: Qos::default(),
        from_port_xdp: false,
    };
    Network {
        name: name.to_owned(),
        segment,
        mtu: None,
        local_ports: [(PortId(Uuid::from_u128(port << 96)), details)].into(),
        remote_macs: [].into(),
        moving_macs: [].into(),
        has_unknown_members: false,
        flood: [].into(),
        neighbors: [].into(),
    }
}

fn vxlan(vni: u32) -> Segment {
    Segment::Vxlan(vni.try_into().expect("small"))
}

fn tunnel_with(vni: u32) -> LinkKind {
    LinkKind::Vxlan(Vxlan {
        vni: vni.try_into().expect("small"),
        local: None,
        underlay: None,
        port: 4789,
        group: None,
        udp6_zero_checksum_rx: false,
    })
}

fn flat(label: &str) -> Segment {
    Segment::Flat { physical_network: label.to_owned() }
}

fn desired(networks: Vec<(Uuid, Network)>) -> Desired {
    let networks = networks.into_iter().map(|(id, network)| (NetworkId(id), network)).collect();
    Desired { complete: true, networks, ..Desired::default() }
}

fn host(devices: &[Link]) -> Observed {
    let mut kernel = KernelState::default();
    kernel.addresses.insert(2, [local_ip()].into());
    let nics = [link(2, "eth1", LinkKind::Other(String::new())), link(5, "ens224", LinkKind::Other(String::new()))];
    kernel.links.extend(nics.iter().chain(devices).map(|link| (link.ifindex, link.clone())));
    Observed { kernel, ..Observed::default() }
}

/// The plan for `networks`: what is blocked, and whether there is a step about the network that is in nobody's way.
fn obstacles(config: &Config, mut networks: Vec<(Uuid, Network)>, host: &Observed) -> Vec<String> {
    let bystander = NetworkId(Uuid::from_u128(u128::MAX));
    networks.push((bystander.0, network("bystander", vxlan(77), 0x77)));
    let Plan { actions, obstacles, .. } = plan::plan(&desired(networks), host, config);
    for expected in [bystander.bridge_name(), "vxlan-77".to_owned()] {
        let is_planned = actions.iter().any(|action| action.to_string().contains(&expected));
        assert!(is_planned, "{expected} is held back: {actions:?}");
    }
    obstacles.iter().map(ToString::to_string).collect()
}

#[test]
fn of_two_networks_that_want_one_device_the_second_is_blocked() {
    let (first, second) = (id(1), Uuid::from_u128(0x22 << 120));
    let interface = |name: &str| PhysicalNetwork { interface: Some(name.to_owned()), bridge: None };
    let bridge = |name: String| PhysicalNetwork { interface: None, bridge: Some(name) };
    let by_labels = |devices: [PhysicalNetwork; 2]| Config {
        physical_networks: ["a", "b"].map(str::to_owned).into_iter().zip(devices).collect(),
        ..config()
    };
    let brq = NetworkId(first).bridge_name();
    let nic_twice = by_labels([interface("ens224"), interface("ens224")]);
    let crossed = by_labels([interface("ens224"), bridge(brq.clone())]);
    for (config, segments, ids, device) in [
        (config(), [vxlan(10), vxlan(10)], [first, second], "vxlan-10"),
        (config(), [vxlan(10), vxlan(11)], [first, id(2)], brq.as_str()),
        (config(), [flat("provider"), flat("provider")], [first, second], "ens224"),
        (nic_twice, [flat("a"), flat("b")], [first, second], "ens224"),
        (crossed, [flat("a"), flat("b")], [first, second], brq.as_str()),
    ] {
        let networks = ids.iter().zip(segments).enumerate();
        let networks = networks.map(|(index, (id, segment))| (*id, network("one of two", segment, index as u128 + 1)));
        let expected = format!(
            "network {}: {device} is for network one of two ({first}): two networks cannot share it",
            NetworkId(ids[1])
        );
        assert_eq!(obstacles(&config, networks.collect(), &host(&[])), [expected]);
    }
}

#[test]
fn the_network_that_has_a_device_keeps_it() {
    let (first, second) = (id(1), Uuid::from_u128(0x22 << 120));
    let mut bridge = link(7, &NetworkId(second).bridge_name(), LinkKind::Bridge);
    bridge.made_for = Some(NetworkId(second));
    let nic = Link { master: Some(7), ..link(5, "ens224", LinkKind::Other(String::new())) };
    let networks = [first, second].map(|id| (id, network("flat", flat("provider"), id.as_u128() >> 120)));
    let blocked = obstacles(&config(), networks.into(), &host(&[bridge, nic]));
    let expected = format!("network {first}: ens224 is for network flat ({second}): two networks cannot share it");
    assert_eq!(blocked, [expected]);
}

#[test]
fn of_two_ports_with_one_tap_name_the_second_is_blocked() {
    let [first, second] = [1, 2].map(|number| {
        let mut network = network("net", vxlan(number), 0);
        let details = network.local_ports.pop_first().expect("it has one").1;
        network.local_ports.insert(PortId(id(number.into())), details);
        (Uuid::from_u128(u128::from(number) << 120), network)
    });
    let tap = link(8, &PortId(id(1)).tap_name(), LinkKind::Other("tun".to_owned()));
    let blocked = obstacles(&config(), vec![first, second], &host(&[tap]));
    assert_eq!(blocked, [format!("port {}: tap11111111-11 is for port {}: two ports cannot share it", id(2), id(1))]);
}

#[test]
fn a_device_that_is_somebody_elses_blocks_only_what_needs_it() {
    let network_id = NetworkId(id(1));
    let brq = network_id.bridge_name();
    let made_for_another = Link { made_for: Some(NetworkId(id(2))), ..link(7, &brq, LinkKind::Bridge) };
    let other_vni = tunnel_with(99);
    let tunnel = Link { master: Some(7), ..link(8, "theirs", other_vni) };
    let tap = PortId(Uuid::from_u128(1 << 96)).tap_name();
    for (devices, subject, expected) in [
        (vec![made_for_another], "network", format!("{brq} has been made for network {}: delete it", id(2))),
        (
            vec![link(7, &brq, LinkKind::Bridge), tunnel],
            "network",
            format!("{brq} carries another network, with VNI 99 by theirs: take that out"),
        ),
        (
            vec![link(7, &brq, LinkKind::Other("veth".to_owned()))],
            "network",
            format!("{brq} is a veth, but the name is needed for the bridge"),
        ),
        (vec![link(7, &tap, LinkKind::Bridge)], "port", format!("{tap} is a bridge, not a tap: rename it")),
    ] {
        let networks = vec![(network_id.0, network("net", vxlan(10), 1))];
        let blocked = obstacles(&config(), networks, &host(&devices));
        assert!(blocked.len() == 1 && blocked[0].starts_with(subject) && blocked[0].contains(&expected), "{blocked:?}");
    }
}

#[test]
fn a_tunnel_that_was_the_networks_own_before_its_vni_changed_goes_and_blocks_nothing() {
    let id = NetworkId(id(1));
    let own = |link: Link| Link { made_for: Some(id), up: true, ..link };
    let bridge = own(link(7, &id.bridge_name(), LinkKind::Bridge));
    let tunnel = Link { master: Some(7), ..own(link(8, "vxlan-9", tunnel_with(9))) };
    let networks = desired(vec![(id.0, network("net", vxlan(10), 1))]);
    let Plan { actions, obstacles, .. } = plan::plan(&networks, &host(&[bridge, tunnel]), &config());
    let actions: Vec<String> = actions.iter().map(ToString::to_string).collect();
    assert_eq!(obstacles, []);
    assert!(actions.contains(&"delete vxlan-9".to_owned()), "{actions:?}");
    assert!(actions.iter().any(|action| action.starts_with("create vxlan device vxlan-10")), "{actions:?}");
}
