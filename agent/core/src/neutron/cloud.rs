//! What the server has said about this host, and what follows for it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use uuid::Uuid;

use super::{groups::Groups, members::Members, policies::Policies, port::Port};
use crate::{
    desired::{Desired, LocalPort, Neighbor, Network, SubPort},
    model::{Mac, NetworkId, PortId, SecurityGroupId, Segment},
    qos::{Qos, is_under_network_policy},
    security::{Filter, PortSecurity, Rulebook, sources},
    update::EntryChange,
};

/// For how many deleted networks devices are looked for. Every network of the cloud is told of, and few have been here.
const DELETED_MAX: usize = 100;

/// The ports of this host, their networks and groups.
#[derive(Clone, Debug, Default)]
pub struct Cloud {
    /// Whether ports are filtered by their groups (`[securitygroup] firewall_driver` and `enable_security_group`).
    has_groups: bool,
    /// Whether QoS policies are carried out (`qos` in `[agent] extensions`).
    has_qos: bool,
    /// Whether the server tells who is in a network on other hosts (`l2_population`).
    pub has_members: bool,
    /// Ports that work here and whose taps are here.
    pub ports: BTreeMap<PortId, Port>,
    /// Networks of these ports.
    pub networks: BTreeMap<NetworkId, CloudNetwork>,
    /// Groups of these ports.
    pub groups: Groups,
    /// Their QoS policies.
    pub policies: Policies,
    /// The subports of these ports that are to have a device; `None` when trunks are somebody else's business.
    pub sub_ports: Option<BTreeMap<PortId, SubPort>>,
    /// Networks that have been deleted, the latest one last.
    deleted: VecDeque<NetworkId>,
    /// What ports were held to when that was last known. A port whose new groups or policy are yet to be asked for stays as it was.
    shown: BTreeMap<PortId, LocalPort>,
    rulebook: Arc<Rulebook>,
}

/// A network, beyond its ports.
#[derive(Clone, Debug, Default)]
pub struct CloudNetwork {
    /// What people call it.
    pub name: Option<String>,
    /// Whether the server has told what follows. Until then its ports stay as they are.
    pub is_known: bool,
    /// In bytes; `None` takes what the underlay leaves room for.
    pub mtu: Option<u16>,
    /// The QoS policy of ports that have none.
    pub qos_policy: Option<Uuid>,
    /// Who is on other hosts.
    pub members: Members,
}

impl Cloud {
    /// A cloud without ports.
    pub fn new(has_groups: bool, has_qos: bool) -> Self {
        Self { has_groups, has_qos, ..Self::default() }
    }

    /// Takes in a port.
    pub fn put(&mut self, id: PortId, port: Port) {
        self.networks.entry(port.network).or_default();
        self.ports.insert(id, port);
    }

    /// The port has left this host. With its last port, a network leaves as well. Its groups are known for as long as its tap is
    /// here, and are forgotten by [`Groups::forget`].
    pub fn remove(&mut self, id: PortId) -> Option<Port> {
        let port = self.ports.remove(&id)?;
        self.shown.remove(&id);
        if !self.ports.values().any(|other| other.network == port.network) {
            self.networks.remove(&port.network);
        }
        Some(port)
    }

    /// A network has been deleted. Its ports have to be removed one by one.
    pub fn delete_network(&mut self, id: NetworkId) {
        self.deleted.retain(|known| *known != id);
        self.deleted.push_back(id);
        if self.deleted.len() > DELETED_MAX {
            self.deleted.pop_front();
        }
    }

    /// Ports that are not held to anything yet, because their groups, or what these name, are not known.
    pub fn unknown_groups(&self) -> impl Iterator<Item = PortId> {
        let is_unknown = |(id, port): &(&PortId, &Port)| self.has_rules(port) && self.groups.of(**id).is_none();
        self.ports.iter().filter(is_unknown).map(|(id, _)| *id)
    }

    fn has_rules(&self, port: &Port) -> bool {
        self.has_groups && port.is_secured()
    }

    /// The QoS policy of a port: its own, or its network's.
    fn policy(&self, port: &Port) -> Option<Uuid> {
        let of_network = || {
            let network = self.networks.get(&port.network).filter(|_| is_under_network_policy(&port.device_owner));
            network.and_then(|network| network.qos_policy)
        };
        port.qos_policy.or_else(of_network).filter(|_| self.has_qos)
    }

    /// Policies of ports that are neither known nor given up.
    pub fn unknown_policies(&self) -> impl Iterator<Item = Uuid> {
        let used = self.ports.values().filter_map(|port| self.policy(port));
        used.filter(|policy| self.policies.qos(*policy).is_none())
    }

    /// The policies of ports; others are forgotten.
    pub fn used_policies(&mut self) -> BTreeSet<Uuid> {
        let used = self.ports.values().filter_map(|port| self.policy(port)).collect();
        self.policies.keep(&used);
        used
    }

    /// What there is to say about the QoS policy of a port.
    pub fn trouble_with_policy(&self, port: PortId) -> Option<&str> {
        self.policies.trouble(self.policy(self.ports.get(&port)?)?)
    }

    /// Everything that this host should have.
    pub fn desired(&mut self, complete: bool) -> Desired {
        for (id, port) in &self.ports {
            if let Some(local) = self.local_port(*id, port) {
                self.shown.insert(*id, local);
            }
        }
        self.compile();
        let mut networks: BTreeMap<NetworkId, Network> = BTreeMap::new();
        for (id, port) in &self.ports {
            let Some(local) = self.shown.get(id) else { continue };
            let network = networks.entry(port.network).or_insert_with(|| self.network(port.network, &port.segment));
            network.local_ports.insert(*id, local.clone());
        }
        let vteps = networks.values().flat_map(|network| network.flood.iter().chain(network.remote_macs.values()));
        Desired {
            complete,
            deleted: self.deleted.iter().copied().collect(),
            vteps: vteps.copied().collect(),
            rulebook: Arc::clone(&self.rulebook),
            closed_by_default: self.has_groups,
            sub_ports: self.sub_ports.clone().unwrap_or_default(),
            networks,
        }
    }

    /// Compiles the rules of ports, if any of them is different.
    fn compile(&mut self) {
        let of_ports = self.shown.values().filter_map(|port| port.security.filter()?.groups.clone());
        let of_ports = of_ports.collect::<BTreeSet<BTreeSet<SecurityGroupId>>>();
        let rulebook = self.groups.rulebook(of_ports, &self.rulebook);
        if *self.rulebook != rulebook {
            self.rulebook = Arc::new(rulebook);
        }
    }

    /// The port as it should be; `None` while that is not known.
    fn local_port(&self, id: PortId, port: &Port) -> Option<LocalPort> {
        self.networks.get(&port.network).filter(|network| network.is_known)?;
        if port.is_sub_port() && self.sub_ports.as_ref().is_some_and(|known| !known.contains_key(&id)) {
            // Whose it is, and with which tag, remains to be seen.
            return None;
        }
        let groups = if self.has_rules(port) { Some(self.groups.of(id)?.clone()) } else { None };
        let qos = self.policy(port).map_or(Some(Qos::default()), |policy| self.policies.qos(policy))?;
        let security = if port.is_secured() {
            let sources = sources(port.mac, &port.addresses, port.pairs.iter().copied());
            PortSecurity::Enforced(Filter { sources, groups })
        } else {
            PortSecurity::Open
        };
        Some(LocalPort {
            mac: port.mac,
            addresses: port.addresses.clone(),
            admin_state_up: port.admin_state_up,
            device_owner: port.device_owner.clone(),
            security,
            qos,
            from_port_xdp: port.from_port_xdp,
        })
    }

    fn network(&self, id: NetworkId, segment: &Segment) -> Network {
        let known = self.networks.get(&id);
        // Only tunnels need to be told where the others are, and only there is it known who they are.
        let members = known.map(|known| &known.members).filter(|_| segment.vni().is_some());
        let answers = Answers::of(self, id);
        let moving_macs = self.moving_macs(id);
        let remote_macs =
            members.into_iter().flat_map(|members| members.macs()).filter(|(mac, _)| !moving_macs.contains(mac));
        let elsewhere = members.into_iter().flat_map(Members::addresses).map(|(address, _)| address);
        let addresses: BTreeSet<IpAddr> = answers.own.keys().copied().chain(elsewhere).collect();
        let neighbor = |address: IpAddr| Some((address, answers.about(address)?));
        Network {
            name: known.and_then(|known| known.name.clone()).unwrap_or_else(|| id.to_string()),
            segment: segment.clone(),
            mtu: known.and_then(|known| known.mtu),
            local_ports: BTreeMap::new(),
            remote_macs: remote_macs.map(|(mac, vtep)| (*mac, *vtep)).collect(),
            moving_macs,
            has_unknown_members: self.has_members && members.is_some_and(|members| !members.are_known()),
            flood: members.map(|members| members.flood().clone()).unwrap_or_default(),
            neighbors: addresses.into_iter().filter_map(neighbor).collect(),
        }
    }

    /// MAC addresses of ports that are here and on other hosts as well. l2population does not tell where they are in use.
    fn moving_macs(&self, network: NetworkId) -> BTreeSet<Mac> {
        let ports = self.ports.values().filter(|port| port.network == network && port.moves);
        ports.map(|port| port.mac).collect()
    }

    /// The entries of a network as they are now.
    pub fn entries(&self, network: NetworkId, macs: &BTreeSet<Mac>, addresses: &BTreeSet<IpAddr>) -> Vec<EntryChange> {
        let members = self.networks.get(&network).map(|network| &network.members);
        let moving = self.moving_macs(network);
        let vtep = |mac: &Mac| members.filter(|_| !moving.contains(mac))?.macs().get(mac).copied();
        let macs = macs.iter().map(|mac| EntryChange::RemoteMac(network, *mac, vtep(mac)));
        let answers = Answers::of(self, network);
        let addresses =
            addresses.iter().map(|address| EntryChange::Neighbor(network, *address, answers.about(*address)));
        macs.chain(addresses).collect()
    }
}

/// What may be answered about the addresses of a network.
///
/// Whether a port of another host routes is nowhere to be seen, and a neighbour advertisement has to say so: IPv6 questions about
/// these ports are flooded, as are those about addresses that more than one port may use. A port that is on several hosts answers
/// itself where it is in use, and is found by that.
struct Answers<'a> {
    groups: &'a Groups,
    members: Option<&'a Members>,
    own: BTreeMap<IpAddr, Neighbor>,
    moving: BTreeSet<Mac>,
    pairs: BTreeSet<IpNet>,
}

impl<'a> Answers<'a> {
    fn of(cloud: &'a Cloud, network: NetworkId) -> Self {
        let ports = || cloud.ports.values().filter(|port| port.network == network && port.segment.vni().is_some());
        let own = ports().filter(|port| !port.moves).flat_map(|port| {
            let neighbor = Neighbor { mac: port.mac, is_router: port.is_router() };
            port.addresses.iter().map(move |address| (*address, neighbor))
        });
        Self {
            groups: &cloud.groups,
            members: cloud.networks.get(&network).map(|network| &network.members),
            own: own.collect(),
            moving: cloud.moving_macs(network),
            pairs: ports().flat_map(|port| &port.pairs).map(|(_, net)| *net).collect(),
        }
    }

    fn about(&self, address: IpAddr) -> Option<Neighbor> {
        if self.groups.is_shared(address) || self.pairs.iter().any(|net| net.contains(&address)) {
            return None;
        }
        let elsewhere = || {
            let mac = self.members?.owner(address).filter(|mac| address.is_ipv4() && !self.moving.contains(mac))?;
            Some(Neighbor { mac, is_router: false })
        };
        self.own.get(&address).copied().or_else(elsewhere)
    }
}
