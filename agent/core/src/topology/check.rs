//! Whether the parts of a topology fit together.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Display,
    hash::Hash,
    net::IpAddr,
};

use super::{Network, Port, SecurityGroupRule, Topology, check_services};
use crate::{
    config::Config,
    model::{AddressGroupId, NetworkId, SecurityGroupId, Segment},
    problem::Problem,
    security::Remote,
};

/// The security group of ports that name none.
pub(super) const DEFAULT_GROUP: &str = "default";
/// The least MTU of a network that carries IPv6 (RFC 8200 §5).
const IPV6_MTU_MIN: u16 = 1280;

pub(super) fn check(topology: &Topology) -> Vec<Problem> {
    let mut checker = Checker { topology, problems: Vec::new() };
    checker.hosts();
    checker.networks();
    checker.ports();
    checker.security_groups();
    checker.qos_policies();
    checker.trunks();
    check_services::check(&mut checker);
    checker.problems.sort_by_key(|problem| problem.line);
    checker.problems
}

/// What keeps networks that have a port on the configured host from working there.
pub(super) fn segments(topology: &Topology, config: &Config) -> Vec<Problem> {
    let mut checker = Checker { topology, problems: Vec::new() };
    let is_here = |network: &&Network| {
        let mut ports = topology.ports.iter().filter(|port| port.network_id == network.id);
        ports.any(|port| port.is_on(&config.host))
    };
    let networks: Vec<&Network> = topology.networks.iter().filter(is_here).collect();
    for network in &networks {
        if let Some(reason) = config.why_unusable(&network.segment) {
            let message = format!("network {} is {}: {reason}", network.name, network.segment);
            checker.problem(network.line, message);
        }
    }
    let devices = |network: &&Network| {
        let line = network.line;
        config.devices_of(network.id, &network.segment).into_iter().map(move |name| (line, name))
    };
    checker.distinct("device", networks.iter().flat_map(devices));
    checker.problems
}

pub(super) struct Checker<'a> {
    pub(super) topology: &'a Topology,
    problems: Vec<Problem>,
}

impl<'a> Checker<'a> {
    pub(super) fn problem(&mut self, line: usize, message: impl Display) {
        let file = self.topology.file.clone();
        self.problems.push(Problem { file, line: Some(line), message: message.to_string() });
    }

    /// Reports all but the first of those that have the same value.
    pub(super) fn distinct<T: Hash + Eq + Display>(&mut self, what: &str, values: impl Iterator<Item = (usize, T)>) {
        let mut first: HashMap<T, usize> = HashMap::new();
        for (line, value) in values {
            if let Some(first) = first.get(&value) {
                self.problem(line, format_args!("{what} {value} is used in line {first} already"));
            } else {
                first.insert(value, line);
            }
        }
    }

    fn hosts(&mut self) {
        let hosts = &self.topology.hosts;
        self.distinct("host name", hosts.iter().map(|host| (host.line, &host.name)));
        self.distinct("local_ip", hosts.iter().map(|host| (host.line, host.local_ip)));
        if let Some(first) = hosts.first() {
            for host in hosts.iter().filter(|host| host.local_ip.is_ipv4() != first.local_ip.is_ipv4()) {
                let message = format!(
                    "local_ip {} and {} of host {} are of different families; the underlay has one",
                    host.local_ip, first.local_ip, first.name
                );
                self.problem(host.line, message);
            }
        }
    }

    fn networks(&mut self) {
        let networks = &self.topology.networks;
        self.distinct("network id", networks.iter().map(|network| (network.line, network.id)));
        let vnis = networks.iter().filter_map(|network| Some((network.line, network.segment.vni()?)));
        self.distinct("segmentation_id", vnis);
        let flat = networks.iter().filter_map(|network| match &network.segment {
            Segment::Flat { physical_network } => Some((network.line, physical_network)),
            _ => None,
        });
        self.distinct("the untagged traffic of physical_network", flat);
        let vlans = networks.iter().filter_map(|network| match &network.segment {
            Segment::Vlan { physical_network, vid } => Some((network.line, format!("{vid} of {physical_network}"))),
            _ => None,
        });
        self.distinct("segmentation_id", vlans);
        let distinct_ids: BTreeMap<NetworkId, &Network> =
            networks.iter().map(|network| (network.id, network)).collect();
        let bridges = distinct_ids.values().map(|network| (network.line, network.id.bridge_name()));
        self.distinct("bridge name (the first 11 characters of the network id)", bridges);
        for network in networks {
            let has_ipv6 = network.subnets.iter().any(|subnet| subnet.cidr.addr().is_ipv6());
            if let Some(mtu) = network.mtu.filter(|mtu| has_ipv6 && *mtu < IPV6_MTU_MIN) {
                self.problem(network.line, format_args!("mtu {mtu}: IPv6 needs at least {IPV6_MTU_MIN}"));
            }
        }
    }

    fn ports(&mut self) {
        let ports = &self.topology.ports;
        self.distinct("port id", ports.iter().map(|port| (port.line, port.id)));
        let distinct_ids: BTreeMap<_, &Port> = ports.iter().map(|port| (port.id, port)).collect();
        let taps = distinct_ids.values().map(|port| (port.line, port.id.tap_name()));
        self.distinct("tap name (the first 11 characters of the port id)", taps);
        for network in &self.topology.networks {
            let members = || ports.iter().filter(|port| port.network_id == network.id);
            self.distinct("mac_address", members().map(|port| (port.line, port.mac_address)));
            let addresses = members().flat_map(|port| port.fixed_ips.iter().map(|address| (port.line, *address)));
            self.distinct("fixed IP", addresses);
        }
        let hosts: BTreeSet<&str> = self.topology.hosts.iter().map(|host| host.name.as_str()).collect();
        for port in ports {
            self.port(port, &hosts);
        }
    }

    fn port(&mut self, port: &'a Port, hosts: &BTreeSet<&str>) {
        if let Some(host) = port.host.as_deref().filter(|host| !hosts.contains(host)) {
            let known: Vec<&str> = hosts.iter().copied().collect();
            self.problem(port.line, format_args!("host {host:?} is not among the hosts: {}", known.join(", ")));
        }
        self.port_groups(port);
        let Some(network) = self.topology.networks.iter().find(|network| network.id == port.network_id) else {
            let (network, id) = (port.network_id, port.id);
            self.problem(
                port.line,
                format_args!("network_id {network} is not among the networks, but port {id} is in it"),
            );
            return;
        };
        // A network without subnets says nothing about addresses.
        let is_inside = |address: &IpAddr| network.subnets.iter().any(|subnet| subnet.cidr.contains(address));
        for address in port.fixed_ips.iter().filter(|address| !network.subnets.is_empty() && !is_inside(address)) {
            self.problem(port.line, format_args!("fixed IP {address} is in no subnet of network {}", network.name));
        }
        for address in &port.fixed_ips {
            if let Some(what) = network.whole_subnet(*address) {
                self.problem(port.line, format_args!("fixed IP {address} is {what}"));
            }
        }
    }

    fn port_groups(&mut self, port: &'a Port) {
        let Some(groups) = &port.security_groups else { return };
        let known: BTreeSet<SecurityGroupId> = self.topology.security_groups.iter().map(|group| group.id).collect();
        for group in groups.difference(&known) {
            self.problem(port.line, format_args!("security group {group} is not among the security_groups"));
        }
        if !groups.is_empty() && !self.topology.has_port_security(port) {
            let reason = if port.is_of_the_network() { "network: ports are open" } else { "its port security is off" };
            self.problem(port.line, format_args!("security_groups of a port that is not filtered: {reason}"));
        }
    }

    fn qos_policies(&mut self) {
        let policies = &self.topology.qos_policies;
        self.distinct("QoS policy id", policies.iter().map(|policy| (policy.line, policy.id)));
        let networks = self.topology.networks.iter().map(|network| (network.line, network.qos_policy_id));
        let ports = self.topology.ports.iter().map(|port| (port.line, port.qos_policy_id));
        for (line, id) in networks.chain(ports) {
            if let Some(id) = id.filter(|id| policies.iter().all(|policy| policy.id != *id)) {
                self.problem(line, format_args!("qos_policy_id {id} is not among the qos_policies"));
            }
        }
    }

    fn security_groups(&mut self) {
        let (groups, address_groups) = (&self.topology.security_groups, &self.topology.address_groups);
        self.distinct("security group id", groups.iter().map(|group| (group.line, group.id)));
        self.distinct("address group id", address_groups.iter().map(|group| (group.line, group.id)));
        // It applies to ports that name none, so there can be only one.
        let defaults = groups.iter().filter(|group| group.name == DEFAULT_GROUP);
        self.distinct("security group name", defaults.map(|group| (group.line, &group.name)));
        let known: BTreeSet<SecurityGroupId> = groups.iter().map(|group| group.id).collect();
        let known_addresses: BTreeSet<AddressGroupId> = address_groups.iter().map(|group| group.id).collect();
        for SecurityGroupRule { line, rule } in groups.iter().flat_map(|group| &group.rules) {
            match rule.remote {
                Remote::Group(id) if !known.contains(&id) => {
                    self.problem(*line, format_args!("remote_group_id {id} is not among the security_groups"));
                }
                Remote::AddressGroup(id) if !known_addresses.contains(&id) => {
                    self.problem(*line, format_args!("remote_address_group_id {id} is not among the address_groups"));
                }
                _ => (),
            }
        }
    }
}
