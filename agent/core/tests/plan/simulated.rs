//! A host that does what actions say, as data.

use std::{net::IpAddr, time::Duration};

use overlane_abi as abi;
use overlane_core::{
    action::{Action, DatapathAction, KernelAction, MapEntry, MapKey, SecurityEntry, SecurityKey, Tagging, VlanSpec},
    config::{
        ComputeTaps, Config, Control, Dscp, FastPath, FlowConfig, LogConfig, PhysicalNetwork, QosConfig, ServiceConfig,
        UplinkLanes, VxlanConfig,
    },
    desired::Desired,
    model::{Mac, PortId},
    observed::{Link, LinkKind, Observed, SecurityState, Vlan, Vxlan},
    plan::{self, Plan},
    qos::{Qdisc, QdiscKind},
};

/// More passes than any host needs.
const PASSES_MAX: usize = 6;

pub(crate) fn local_ip() -> IpAddr {
    "10.10.10.11".parse().expect("valid")
}

pub(crate) fn config() -> Config {
    let vxlan = VxlanConfig {
        local_ip: local_ip(),
        udp_dstport: 4789,
        source_ports: None,
        ttl: None,
        dscp: Dscp::Fixed(0),
        arp_responder: true,
    };
    let interface = PhysicalNetwork { interface: Some("ens224".to_owned()), bridge: None };
    Config {
        host: "here".to_owned(),
        log: LogConfig::default(),
        environment: Vec::new(),
        control: Control::File("t.toml".into()),
        physical_networks: [("provider".to_owned(), interface)].into(),
        vxlan: Some(vxlan),
        multicast: None,
        unused_device_grace: Duration::from_secs(60),
        compute_taps: ComputeTaps::Auto,
        fast_path: FastPath::Auto,
        uplink_lanes: UplinkLanes::default(),
        flows: FlowConfig::default(),
        qos: QosConfig::default(),
        services: ServiceConfig::default(),
        bpffs: "/sys/fs/bpf".into(),
    }
}

/// A link as a fresh one is.
pub(crate) fn link(ifindex: u32, name: &str, kind: LinkKind) -> Link {
    Link {
        ifindex,
        name: name.to_owned(),
        kind,
        master: None,
        up: false,
        promiscuous: false,
        mtu: 1500,
        mac: Some(Mac([2, 0, 0, 0, 0, ifindex as u8])),
        made_for: None,
        made_for_trunk: None,
    }
}

/// Plans and applies until a plan is empty; returns how many passes it took.
pub(crate) fn reconcile(desired: &Desired, host: &mut Observed) -> usize {
    for pass in 0..PASSES_MAX {
        let Plan { actions, .. } = plan::plan(desired, host, &config());
        if actions.is_empty() {
            return pass;
        }
        for action in &actions {
            apply(host, action);
        }
    }
    panic!("still not done after {PASSES_MAX} passes: {:?}", plan::plan(desired, host, &config()).actions);
}

pub(crate) fn apply(host: &mut Observed, action: &Action) {
    match action {
        Action::Kernel(action) => apply_to_kernel(host, action),
        Action::Datapath(action) => apply_to_datapath(host, action),
    }
}

fn apply_to_kernel(host: &mut Observed, action: &KernelAction) {
    let kernel = &mut host.kernel;
    let free = kernel.links.keys().max().map_or(1, |last| last + 1);
    let exists = |name: &str| kernel.links.values().any(|link| link.name == name);
    match action {
        KernelAction::CreateBridge { name, network } => {
            assert!(!exists(name), "{name} is there already");
            let made = Link { up: true, made_for: Some(*network), ..link(free, name, LinkKind::Bridge) };
            kernel.links.insert(free, made);
        }
        KernelAction::CreateVxlan { name, network, spec } => {
            assert!(!exists(name), "{name} is there already");
            let kind = LinkKind::Vxlan(Vxlan {
                vni: spec.vni,
                local: Some(spec.local),
                underlay: Some(spec.underlay),
                port: spec.port,
                group: spec.group,
                udp6_zero_checksum_rx: false,
            });
            let made = Link { up: true, mtu: spec.mtu, made_for: Some(*network), ..link(free, name, kind) };
            kernel.links.insert(free, made);
        }
        KernelAction::CreateVlan { name, network, spec } => {
            assert!(!exists(name), "{name} is there already");
            let kind = tagged(spec, kernel.has_8021q);
            let made = Link { up: true, mtu: spec.mtu, made_for: Some(*network), ..link(free, name, kind) };
            kernel.links.insert(free, made);
        }
        KernelAction::CreateSubPort { name, parent, spec } => {
            assert!(!exists(name), "{name} is there already");
            assert_eq!(kernel.links[&spec.nic].name, parent.tap_name());
            let kind = tagged(spec, kernel.has_8021q);
            let made = Link { mtu: spec.mtu, made_for_trunk: Some(*parent), ..link(free, name, kind) };
            kernel.links.insert(free, made);
        }
        KernelAction::SetPromiscuous { ifindex, .. } => existing(host, *ifindex).promiscuous = true,
        KernelAction::SetUp { ifindex, .. } => existing(host, *ifindex).up = true,
        KernelAction::SetDown { ifindex, .. } => existing(host, *ifindex).up = false,
        KernelAction::SetMtu { ifindex, mtu, .. } => existing(host, *ifindex).mtu = *mtu,
        KernelAction::SetMaster { ifindex, bridge, .. } => {
            assert_eq!(existing(host, *bridge).kind, LinkKind::Bridge);
            existing(host, *ifindex).master = Some(*bridge);
        }
        KernelAction::MoveIntoBridge { ifindex, bridge, .. } => {
            let addresses = kernel.addresses.remove(ifindex).unwrap_or_default();
            kernel.addresses.entry(*bridge).or_default().extend(addresses);
            existing(host, *ifindex).master = Some(*bridge);
        }
        KernelAction::GiveBack { ifindex, bridge, .. } => {
            let addresses = kernel.addresses.remove(bridge).unwrap_or_default();
            kernel.addresses.entry(*ifindex).or_default().extend(addresses);
            existing(host, *ifindex).master = None;
        }
        KernelAction::SetVxlanUnderlay { ifindex, underlay, .. } => match &mut existing(host, *ifindex).kind {
            LinkKind::Vxlan(vxlan) => vxlan.underlay = Some(*underlay),
            kind => panic!("{kind:?} has no underlay"),
        },
        KernelAction::DeleteLink { ifindex, .. } => {
            assert!(kernel.links.values().all(|link| link.master != Some(*ifindex)), "the bridge has ports");
            let is_ours = |link: Link| link.made_for.is_some() || PortId::is_tap_name(&link.name);
            assert!(kernel.links.remove(ifindex).is_some_and(is_ours), "{ifindex} is not ours");
            kernel.fdb.retain(|entry| entry.ifindex != *ifindex);
        }
        KernelAction::CreateGuard { released } => {
            assert!(kernel.released.replace(released.clone()).is_none(), "the guard is there already");
        }
        KernelAction::RemoveGuard => assert!(kernel.released.take().is_some(), "there is no guard"),
        KernelAction::Release { ifindex, .. } => {
            assert!(kernel.links.contains_key(ifindex), "{ifindex} is not there");
            assert!(kernel.released.as_mut().is_some_and(|released| released.insert(*ifindex)));
        }
        KernelAction::Close { ifindex, .. } => {
            assert!(kernel.released.as_mut().is_some_and(|released| released.remove(ifindex)));
        }
        KernelAction::SetLimit { ifindex, tbf, .. } => {
            assert!(kernel.links.contains_key(ifindex), "{ifindex} is not there");
            let limit = Qdisc { handle: Qdisc::OURS, kind: QdiscKind::Tbf(*tbf) };
            let before = kernel.qdiscs.insert(*ifindex, limit.clone());
            assert!(before != Some(limit), "{ifindex} is limited already");
        }
        KernelAction::RemoveLimit { ifindex, handle, .. } => {
            assert!(kernel.qdiscs.remove(ifindex).is_some_and(|qdisc| qdisc.handle == *handle), "no such limit");
        }
        KernelAction::AddFdb(entry) => {
            assert!(kernel.links.contains_key(&entry.ifindex));
            assert!(kernel.fdb.insert(*entry), "{entry} is there already");
        }
        KernelAction::DeleteFdb(entry) => assert!(kernel.fdb.remove(entry), "{entry} is not there"),
        KernelAction::ResolveNeighbor { uplink, address } => {
            for path in kernel.paths.values_mut().filter(|path| (path.uplink, path.next_hop) == (*uplink, *address)) {
                (path.is_kept, path.next_hop_mac) = (true, Some(Mac([2, 0, 0, 0, 0, 0xee])));
            }
        }
    }
}

/// What a device for tagged frames is.
fn tagged(spec: &VlanSpec, has_8021q: bool) -> LinkKind {
    match spec.tagging {
        Tagging::Kernel => {
            assert!(has_8021q, "the kernel makes no VLAN devices");
            LinkKind::Vlan(Vlan { nic: Some(spec.nic), vid: spec.vid, is_8021ad: false })
        }
        Tagging::Programs => LinkKind::Other(LinkKind::IFB.to_owned()),
    }
}

fn existing(host: &mut Observed, ifindex: u32) -> &mut Link {
    host.kernel.links.get_mut(&ifindex).expect("the plan names links that exist")
}

fn apply_to_datapath(host: &mut Observed, action: &DatapathAction) {
    let links = &host.kernel.links;
    let datapath = host.datapath.as_mut().expect("planned only where there is a fast lane");
    match action {
        DatapathAction::Put(entry) => match *entry {
            MapEntry::Port(key, value) => {
                let security = &datapath.security;
                if value.policy != 0 {
                    let rules = security.rules.get(&value.policy);
                    let sets = rules.into_iter().flat_map(|rules| rules.values()).flat_map(|entry| entry.matches);
                    assert!(sets.clone().all(|found| found.set == 0 || security.sets.contains_key(&found.set)));
                    assert!(security.policies.contains_key(&value.policy), "half a rule set");
                }
                let before = datapath.ports.insert(key, value);
                assert!(before.is_none_or(|before| before.revision <= value.revision), "a revision went back");
            }
            MapEntry::Network(key, value) => drop(datapath.networks.insert(key, value)),
            MapEntry::Fdb(key, value) => drop(datapath.fdb.insert(key, value)),
            MapEntry::Vtep(key, value) => drop(datapath.vteps.insert(key, value)),
            MapEntry::Neighbor(key, value) => drop(datapath.neighbors.insert(key, value)),
            MapEntry::Security(entry) => put_security(&mut datapath.security, &entry),
            MapEntry::Vlan(key, value) => drop(datapath.vlans.insert(key, value)),
            MapEntry::Qos(key, value) => drop(datapath.qos.insert(key, value)),
            MapEntry::XdpDevice(key, value) => drop(datapath.xdp_devices.insert(key, value)),
            MapEntry::VlanDevice(key, value) => drop(datapath.vlan_devices.insert(key, value)),
        },
        DatapathAction::Delete(key) => {
            let was_there = match key {
                MapKey::Port(key) => datapath.ports.remove(key).is_some(),
                MapKey::Network(key) => datapath.networks.remove(key).is_some(),
                MapKey::Fdb(key) => datapath.fdb.remove(key).is_some(),
                MapKey::Vtep(key) => datapath.vteps.remove(key).is_some(),
                MapKey::Neighbor(key) => datapath.neighbors.remove(key).is_some(),
                MapKey::Security(key) => {
                    if let SecurityKey::Rule(policy, _) | SecurityKey::Policy(policy) = key {
                        assert!(datapath.ports.values().all(|port| port.policy != *policy), "{key} is in use");
                    }
                    delete_security(&mut datapath.security, key)
                }
                MapKey::Vlan(key) => datapath.vlans.remove(key).is_some(),
                MapKey::Qos(key) => {
                    let is_used = datapath.ports.get(key).is_some_and(|port| port.flags & abi::Port::QOS != 0);
                    assert!(!is_used, "{key} is in use");
                    datapath.qos.remove(key).is_some()
                }
                MapKey::XdpDevice(key) => datapath.xdp_devices.remove(key).is_some(),
                MapKey::VlanDevice(key) => datapath.vlan_devices.remove(key).is_some(),
            };
            assert!(was_there, "{key} is not there");
        }
        DatapathAction::Attach { hook, ifindex } => {
            assert!(links.contains_key(ifindex));
            assert!(datapath.attached.insert((*hook, *ifindex)));
        }
        DatapathAction::ForgetCounters { hook, ifindex } => assert!(datapath.counted.remove(&(*hook, *ifindex))),
        DatapathAction::Detach { hook, ifindex } => assert!(datapath.attached.remove(&(*hook, *ifindex))),
    }
}

fn put_security(security: &mut SecurityState, entry: &SecurityEntry) {
    match entry {
        SecurityEntry::Member(set, ..) => assert!(security.sets.contains_key(set), "a set without a name"),
        SecurityEntry::Generation(generation) => assert!(*generation > security.generation),
        _ => (),
    }
    security.put(entry);
}

fn delete_security(security: &mut SecurityState, key: &SecurityKey) -> bool {
    if let SecurityKey::Set(set) = key {
        assert!(!security.members.contains_key(set), "{key} has members");
    }
    security.delete(key)
}
