//! What a topology asks of one host.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use super::{Network, Port, Topology, check::DEFAULT_GROUP};
use crate::{
    desired::{self, Desired, LocalPort, Neighbor},
    model::{AddressGroupId, Mac, SecurityGroupId},
    qos::{Qos, is_under_network_policy},
    security::{Filter, Groups, PortSecurity, Remote, Rulebook, SecurityGroup, sources},
};

/// Owners of ports that are the network's own, which nothing filters.
const NETWORK_OWNERS: &str = "network:";
/// Owners of ports that route: `network:router_interface`, `network:router_gateway` and their relatives.
const ROUTER_OWNERS: &str = "network:router";

impl Topology {
    /// What this host should have. A topology file tells everything at once, so the answer is complete.
    pub fn desired_for(&self, host: &str) -> Desired {
        let others: BTreeMap<&str, IpAddr> = self
            .hosts
            .iter()
            .filter(|other| other.name != host)
            .map(|other| (other.name.as_str(), other.local_ip))
            .collect();
        let networks = self.networks.iter().filter_map(|network| {
            let ports: Vec<&Port> = self.ports.iter().filter(|port| port.network_id == network.id).collect();
            let desired = self.network_for(network, &ports, host, &others);
            (!desired.local_ports.is_empty()).then_some((network.id, desired))
        });
        let networks: BTreeMap<_, desired::Network> = networks.collect();
        let ports = networks.values().flat_map(|network| network.local_ports.values());
        let of_ports: BTreeSet<_> = ports.filter_map(|port| port.security.filter()?.groups.clone()).collect();
        let used = of_ports.iter().flatten().copied().collect();
        Desired {
            complete: true,
            deleted: BTreeSet::new(),
            vteps: others.values().copied().collect(),
            rulebook: Arc::new(Rulebook::new(self.groups(&used), of_ports)),
            closed_by_default: !self.security_groups.is_empty(),
            sub_ports: self.sub_ports_on(host),
            networks,
        }
    }

    /// Whether a port is held to its addresses and, where there are groups, to their rules.
    pub(super) fn has_port_security(&self, port: &Port) -> bool {
        let network = self.networks.iter().find(|network| network.id == port.network_id);
        let of_network = network.is_none_or(|network| network.port_security_enabled);
        !port.is_of_the_network() && port.port_security_enabled.unwrap_or(of_network)
    }

    fn security_of(&self, port: &Port) -> PortSecurity {
        if !self.has_port_security(port) {
            return PortSecurity::Open;
        }
        let sources = sources(port.mac_address, &port.fixed_ips, port.pairs());
        PortSecurity::Enforced(Filter { sources, groups: self.groups_of(port) })
    }

    /// The groups of a port that has port security; `None` when the file has none for it to have.
    fn groups_of(&self, port: &Port) -> Option<BTreeSet<SecurityGroupId>> {
        let default = || self.security_groups.iter().find(|group| group.name == DEFAULT_GROUP);
        port.security_groups.clone().or_else(|| Some([default()?.id].into()))
    }

    /// Groups with their rules, and the members of those that the rules name.
    fn groups(&self, used: &BTreeSet<SecurityGroupId>) -> Groups {
        let mut groups = Groups::default();
        let mut address_groups: BTreeSet<AddressGroupId> = BTreeSet::new();
        for group in self.security_groups.iter().filter(|group| used.contains(&group.id)) {
            let rules: BTreeSet<_> = group.rules.iter().map(|rule| rule.rule).collect();
            for rule in &rules {
                match rule.remote {
                    Remote::Group(id) => drop(groups.security.entry(id).or_default()),
                    Remote::AddressGroup(id) => drop(address_groups.insert(id)),
                    Remote::Any | Remote::Prefix(_) => (),
                }
            }
            let (is_stateful, log) = (group.is_stateful, group.log);
            let group_of_host = SecurityGroup { is_stateful, log, rules, ..SecurityGroup::default() };
            groups.security.insert(group.id, group_of_host);
        }
        for group in &self.security_groups {
            if let Some(known) = groups.security.get_mut(&group.id) {
                known.name.clone_from(&group.name);
            }
        }
        for port in self.ports.iter().filter(|port| self.has_port_security(port)) {
            for id in self.groups_of(port).into_iter().flatten() {
                if let Some(group) = groups.security.get_mut(&id) {
                    group.members.extend(port.fixed_ips.iter().map(|address| IpNet::from(*address)));
                    group.members.extend(port.allowed_address_pairs.iter().map(|pair| pair.ip_address.trunc()));
                }
            }
        }
        let known = self.address_groups.iter().filter(|group| address_groups.contains(&group.id));
        groups.address = known.map(|group| (group.id, group.addresses.clone())).collect();
        groups
    }

    /// What the policy of a port, or else of its network, comes to.
    fn qos_of(&self, port: &Port, network: &Network) -> Qos {
        let of_network = || network.qos_policy_id.filter(|_| is_under_network_policy(&port.device_owner));
        let policy = port.qos_policy_id.or_else(of_network);
        let known = self.qos_policies.iter().find(|known| Some(known.id) == policy);
        known.map(|policy| policy.qos).unwrap_or_default()
    }

    fn network_for(
        &self,
        network: &Network,
        ports: &[&Port],
        host: &str,
        others: &BTreeMap<&str, IpAddr>,
    ) -> desired::Network {
        let local = ports.iter().filter(|port| port.is_on(host));
        let local_port = |port: &Port| LocalPort {
            mac: port.mac_address,
            addresses: port.fixed_ips.clone(),
            admin_state_up: port.admin_state_up,
            device_owner: port.device_owner.clone(),
            security: self.security_of(port),
            qos: self.qos_of(port, network),
            from_port_xdp: port.from_port_xdp,
        };
        let local_ports = local.map(|port| (port.id, local_port(port))).collect();
        desired::Network { local_ports, ..network_of_all(network, ports, others) }
    }
}

impl Port {
    /// Whether its tap belongs on a host.
    pub fn is_on(&self, host: &str) -> bool {
        self.host.as_deref() == Some(host) || self.replicated_on.iter().any(|other| other == host)
    }

    /// Whether it is a router's, a DHCP server's or the like.
    pub(super) fn is_of_the_network(&self) -> bool {
        self.device_owner.starts_with(NETWORK_OWNERS)
    }

    /// Allowed address pairs with the MAC address that each is for.
    fn pairs(&self) -> impl Iterator<Item = (Mac, IpNet)> {
        self.allowed_address_pairs.iter().map(|pair| (pair.mac_address.unwrap_or(self.mac_address), pair.ip_address))
    }
}

/// A network without its ports on this host.
fn network_of_all(network: &Network, ports: &[&Port], others: &BTreeMap<&str, IpAddr>) -> desired::Network {
    // Only tunnels need to be told where the others are; the rest is learned.
    let is_tunnelled = network.segment.vni().is_some();
    let elsewhere = ports.iter().filter(|_| is_tunnelled);
    let remote = elsewhere.clone().filter_map(|port| Some((port, *others.get(port.host.as_deref()?)?)));
    let is_replicated = |port: &&&Port| !port.replicated_on.is_empty();
    // Who has something for them floods it to all of their hosts, until one of them is known to be the right one.
    let replicated_there = elsewhere.filter(is_replicated).flat_map(|port| &port.replicated_on);
    let replicated_there = replicated_there.filter_map(|host| others.get(host.as_str()).copied());
    // What else there is on a physical network is not known, so nothing is answered in its name.
    let bound = ports.iter().filter(|port| is_tunnelled && port.host.is_some());
    // An address that any port may claim by an allowed address pair has no owner that could be known here.
    let pairs: Vec<IpNet> =
        ports.iter().flat_map(|port| &port.allowed_address_pairs).map(|pair| pair.ip_address).collect();
    let is_shared = |address: &IpAddr| pairs.iter().any(|pair| pair.contains(address));
    let neighbors = bound.flat_map(|port| {
        let is_router = port.device_owner.starts_with(ROUTER_OWNERS);
        let neighbor = Neighbor { mac: port.mac_address, is_router };
        port.fixed_ips.iter().filter(|address| !is_shared(address)).map(move |address| (*address, neighbor))
    });
    desired::Network {
        name: network.name.clone(),
        segment: network.segment.clone(),
        mtu: network.mtu,
        local_ports: BTreeMap::new(),
        remote_macs: remote.clone().map(|(port, vtep)| (port.mac_address, vtep)).collect(),
        moving_macs: ports.iter().filter(is_replicated).map(|port| port.mac_address).collect(),
        has_unknown_members: false,
        flood: remote.map(|(_, vtep)| vtep).chain(replicated_there).collect(),
        neighbors: neighbors.collect(),
    }
}
