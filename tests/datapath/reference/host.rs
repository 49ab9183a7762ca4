//! A host whose maps are filled by the plan, as its agent does it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use overlane_abi::{DropReason, Fragment, FragmentKey, Hook, Member, Source, names};
use overlane_core::{
    action::{Action, DatapathAction, MapEntry, MapKey, SecurityEntry, SecurityKey},
    config::{ComputeTaps, Config, Control, FastPath, FlowConfig, LogConfig, QosConfig, ServiceConfig, UplinkLanes},
    desired::{Desired, LocalPort, Network},
    map_entry::member_key,
    model::{NetworkId, PortId, Segment},
    observed::{DatapathState, Link, LinkKind, Observed},
    plan,
    qos::Qos,
    security::{Direction, Groups, PortSecurity, Rulebook, model},
};
use overlane_tests::stories::frame;

use crate::{
    harness::{Datapath, IFINDEX, Load},
    network::v4,
};

const PORT: &str = "00000000-0000-4000-8000-000000000000";

pub(super) struct Host {
    datapath: Datapath,
    observed: Observed,
    port: Option<model::Port>,
    stories: u32,
}

impl Host {
    pub(super) fn load() -> Self {
        // What is admitted is left to the kernel, as it came.
        let datapath = Datapath::load_with(v4().local_vtep, Load { forwarding: false, ..Load::default() });
        let observed = Observed { datapath: Some(DatapathState::default()), ..Observed::default() };
        Self { datapath, observed, port: None, stories: 0 }
    }

    /// Begins a story: another port, on a network whose flows nobody remembers.
    pub(super) fn begin(&mut self, port: &model::Port) {
        self.stories += 1;
        // Fragments are remembered by interface, which every story has in common.
        for (key, _) in self.datapath.entries::<FragmentKey, Fragment>(names::FRAGMENTS) {
            self.datapath.remove::<_, Fragment>(names::FRAGMENTS, key);
        }
        self.port = Some(port.clone());
        let id = PortId(PORT.parse().expect("valid"));
        let bridge = self.network().bridge_name();
        let links = [(IFINDEX, id.tap_name(), LinkKind::Other("tun".to_owned())), (2, bridge, LinkKind::Bridge)];
        self.observed.kernel.links =
            links.into_iter().map(|(ifindex, name, kind)| (ifindex, link(ifindex, name, kind))).collect();
        self.observed.taken_over = Some(if port.takes_up { [IFINDEX].into() } else { BTreeSet::new() });
        // The bridge of every story is another one, and so is the network's number.
        let datapath = self.observed.datapath.as_mut().expect("it is on");
        if datapath.ports.remove(&IFINDEX).is_some() {
            self.datapath.remove::<_, overlane_abi::Port>(names::PORTS, IFINDEX);
        }
        let next = 1 + datapath.networks.values().map(|network| network.index).max().unwrap_or_default();
        datapath.networks =
            [(overlane_abi::NetworkKey::interface(2), overlane_abi::Network { index: next, vni: 0, flags: 0 })].into();
    }

    fn network(&self) -> NetworkId {
        NetworkId(format!("{:08x}-0000-4000-8000-000000000000", self.stories).parse().expect("valid"))
    }

    /// Has the maps follow a change of the groups, and returns whether connections are still taken up in mid-stream.
    pub(super) fn change(&mut self, groups: &Groups) -> bool {
        let port = self.port.clone().expect("a story has begun");
        let addresses = match &port.security {
            PortSecurity::Open => Vec::new(),
            PortSecurity::Enforced(filter) => {
                filter.sources.iter().filter(|source| source.is_fixed).map(|source| source.net.addr()).collect()
            }
        };
        let of_port = port.security.filter().and_then(|filter| filter.groups.clone());
        let local = LocalPort {
            mac: port.mac,
            addresses,
            admin_state_up: true,
            device_owner: String::new(),
            security: port.security,
            qos: Qos::default(),
            from_port_xdp: false,
        };
        let network = Network {
            name: "n".to_owned(),
            segment: Segment::Local,
            mtu: None,
            local_ports: [(PortId(PORT.parse().expect("valid")), local)].into(),
            remote_macs: BTreeMap::new(),
            moving_macs: [].into(),
            has_unknown_members: false,
            flood: Default::default(),
            neighbors: BTreeMap::new(),
        };
        let desired = Desired {
            complete: true,
            networks: [(self.network(), network)].into(),
            rulebook: Arc::new(Rulebook::new(groups.clone(), of_port)),
            ..Desired::default()
        };
        for action in plan::plan(&desired, &self.observed, &config()).actions {
            if let Action::Datapath(action) = action {
                self.apply(&action);
            }
        }
        let state = self.observed.datapath.as_ref().expect("it is on");
        state.ports.get(&IFINDEX).is_some_and(|port| port.flags & overlane_abi::Port::TAKE_UP != 0)
    }

    fn apply(&mut self, action: &DatapathAction) {
        let state = self.observed.datapath.as_mut().expect("it is on");
        match action {
            DatapathAction::Put(MapEntry::Port(ifindex, port)) => {
                self.datapath.put(names::PORTS, *ifindex, *port);
                let before = state.ports.insert(*ifindex, *port);
                if before.is_some_and(|before| before.revision != port.revision) {
                    self.observed.taken_over = Some(BTreeSet::new());
                }
            }
            DatapathAction::Put(MapEntry::Security(entry)) => {
                put(&mut self.datapath, entry);
                state.security.put(entry);
            }
            DatapathAction::Delete(MapKey::Security(key)) => {
                delete(&mut self.datapath, key);
                state.security.delete(key);
            }
            // The programs that are asked here read no others.
            _ => (),
        }
    }

    /// What the program of a direction says about a packet.
    pub(super) fn judge(&mut self, direction: Direction, packet: &model::Packet) -> Result<(), DropReason> {
        let hook = if direction == Direction::Egress { Hook::FromPort } else { Hook::ToPort };
        self.datapath.judge(hook, &frame(packet, direction))
    }
}

fn link(ifindex: u32, name: String, kind: LinkKind) -> Link {
    let master = (ifindex == IFINDEX).then_some(2);
    Link { ifindex, name, kind, master, up: true, mtu: 1500, ..Link::default() }
}

fn config() -> Config {
    Config {
        host: "here".to_owned(),
        log: LogConfig::default(),
        environment: Vec::new(),
        control: Control::File(Path::new("t.toml").to_owned()),
        physical_networks: BTreeMap::new(),
        vxlan: None,
        multicast: None,
        compute_taps: ComputeTaps::Auto,
        unused_device_grace: Duration::from_secs(60),
        fast_path: FastPath::Auto,
        uplink_lanes: UplinkLanes::default(),
        flows: FlowConfig::default(),
        qos: QosConfig::default(),
        services: ServiceConfig::default(),
        bpffs: "/sys/fs/bpf".into(),
    }
}

fn put(datapath: &mut Datapath, entry: &SecurityEntry) {
    match *entry {
        SecurityEntry::Source(ifindex, source, flags) => {
            let value = Source { flags };
            match source.key(ifindex) {
                (key, None) => datapath.put(names::SOURCES, key, value),
                (key, Some(length)) => datapath.put_prefix(names::SOURCE_PREFIXES, length, key, value),
            }
        }
        SecurityEntry::Member(set, net, rule) => match member_key(set, &net) {
            (key, None) => datapath.put(names::MEMBERS, key, Member { rule }),
            (key, Some(length)) => datapath.put_prefix(names::MEMBER_PREFIXES, length, key, Member { rule }),
        },
        SecurityEntry::Rule(policy, service, rules) => {
            datapath.put_prefix(names::RULES, service.prefix_len, service.key(policy), rules);
        }
        SecurityEntry::Generation(generation) => {
            datapath.set(names::GENERATION, generation);
        }
        // For agents only.
        SecurityEntry::Set(..) | SecurityEntry::Policy(..) => (),
    }
}

fn delete(datapath: &mut Datapath, key: &SecurityKey) {
    match *key {
        SecurityKey::Source(ifindex, source) => match source.key(ifindex) {
            (key, None) => datapath.remove::<_, Source>(names::SOURCES, key),
            (key, Some(length)) => datapath.remove_prefix::<_, Source>(names::SOURCE_PREFIXES, length, key),
        },
        SecurityKey::Member(set, net) => match member_key(set, &net) {
            (key, None) => datapath.remove::<_, Member>(names::MEMBERS, key),
            (key, Some(length)) => datapath.remove_prefix::<_, Member>(names::MEMBER_PREFIXES, length, key),
        },
        SecurityKey::Rule(policy, service) => {
            let (key, length) = (service.key(policy), service.prefix_len);
            datapath.remove_prefix::<_, overlane_abi::RuleSet>(names::RULES, length, key);
        }
        SecurityKey::Set(_) | SecurityKey::Policy(_) | SecurityKey::Generation => (),
    }
}
