//! Whether routers, floating IPs and DHCP servers of a topology fit together.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{
    FloatingIp, Network, Port, Router,
    check::Checker,
    high_availability,
    joins::{Astray, Joins, Target},
    roles::Role,
};
use crate::model::{PortId, RouterId};

/// Subnets of IPv4 with longer prefixes have no address that stands for all of them.
const LONGEST_PREFIX_WITH_BROADCAST: u8 = 30;

pub(super) fn check(checker: &mut Checker<'_>) {
    let topology = checker.topology;
    checker.distinct("router id", topology.routers.iter().map(|router| (router.line, router.id)));
    checker.distinct("floating IP id", topology.floating_ips.iter().map(|floating| (floating.line, floating.id)));
    checker.distinct("instance id", topology.instances.iter().map(|instance| (instance.line, instance.id)));
    subnets(checker);
    dhcp_ports(checker);
    for router in &topology.routers {
        self::router(checker, router);
        high_availability::check(checker, router);
    }
    high_availability::check_network(checker);
    for port in
        topology.ports.iter().filter(|port| matches!(topology.role(port), Role::RouterInterface | Role::Gateway))
    {
        if topology.network_nodes().any(|host| port.is_on(host)) && topology.router_of(port).is_none() {
            let message =
                format!("device_id {:?} of a {} port is not among the routers", port.device_id, port.device_owner);
            checker.problem(port.line, message);
        }
    }
    addresses_used_twice(checker);
    let joins = Joins::of(topology);
    targets_used_twice(checker, &joins);
    for floating in &topology.floating_ips {
        floating_ip(checker, &joins, floating);
    }
}

fn subnets(checker: &mut Checker<'_>) {
    let topology = checker.topology;
    let ids =
        topology.networks.iter().flat_map(|network| network.subnets.iter().map(|subnet| (subnet.line, subnet.id)));
    checker.distinct("subnet id", ids);
    for network in &topology.networks {
        for (index, subnet) in network.subnets.iter().enumerate() {
            if let Some(other) = network.subnets[..index].iter().find(|other| overlap(&other.cidr, &subnet.cidr)) {
                let message = format!(
                    "subnet {} overlaps with {} of the same network, in line {}",
                    subnet.cidr, other.cidr, other.line
                );
                checker.problem(subnet.line, message);
            }
        }
    }
}

/// A host has one DHCP server for a network.
fn dhcp_ports(checker: &mut Checker<'_>) {
    let topology = checker.topology;
    let ports = || topology.ports.iter().filter(|port| topology.role(port) == Role::Dhcp);
    let places = ports().filter_map(|port| {
        let host = port.host.as_ref()?;
        Some((port.line, format!("on {host} for network {}", topology.network_name(port.network_id))))
    });
    checker.distinct("the DHCP server", places.collect::<Vec<_>>().into_iter());
    // It is by an address of its own that dnsmasq hears clients of IPv4, in whichever of the subnets.
    for port in ports().filter(|port| topology.network_nodes().any(|host| port.is_on(host))) {
        let Some(network) = topology.network_of(port) else { continue };
        let served = network.subnets.iter().find(|subnet| subnet.enable_dhcp && subnet.cidr.addr().is_ipv4());
        if let Some(subnet) = served.filter(|_| port.fixed_ips.iter().all(|address| address.is_ipv6())) {
            let message = format!(
                "a {} port without an IPv4 address, but subnet {} (line {}) of network {} has enable_dhcp: give the port an \
                 address in a subnet of IPv4",
                port.device_owner, subnet.cidr, subnet.line, network.name
            );
            checker.problem(port.line, message);
        }
    }
}

fn router(checker: &mut Checker<'_>, router: &Router) {
    let topology = checker.topology;
    let nodes: BTreeSet<&str> = topology.network_nodes().collect();
    for host in router.hosts.iter().filter(|host| !nodes.contains(host.as_str())) {
        let known: Vec<&str> = nodes.iter().copied().collect();
        let message = format!(
            "host {host:?} of router {} is not among the hosts with network_node = true: {}",
            router.name,
            known.join(", ")
        );
        checker.problem(router.line, message);
    }
    let ports: Vec<&Port> = topology.ports_of(router.id).collect();
    for port in &ports {
        // On several hosts, where it is follows from its router; naming one of them does no harm.
        if let Some(host) = port.host.as_ref().filter(|host| !router.hosts.is_empty() && !router.hosts.contains(host)) {
            let hosts = router.hosts.join(", ");
            checker.problem(port.line, format!("host {host:?}, but its router {} is on {hosts}", router.name));
        }
        if port.fixed_ips.is_empty() {
            checker.problem(port.line, format!("a port of router {} has no fixed_ips", router.name));
        }
    }
    let mut gateways = ports.iter().filter(|port| topology.role(port) == Role::Gateway);
    for gateway in gateways.clone() {
        if let Some(network) = topology.network_of(gateway).filter(|network| !network.is_external) {
            let message = format!(
                "network {} of the gateway of router {} is not external (router:external = true)",
                network.name, router.name
            );
            checker.problem(gateway.line, message);
        }
    }
    if let (Some(first), Some(second)) = (gateways.next(), gateways.next()) {
        let message = format!("router {} has its gateway in line {} already", router.name, first.line);
        checker.problem(second.line, message);
    }
    overlapping_subnets(checker, router, &ports);
    next_hops(checker, router, &ports);
}

/// Two interfaces of a router cannot lead to the same addresses.
fn overlapping_subnets(checker: &mut Checker<'_>, router: &Router, ports: &[&Port]) {
    let topology = checker.topology;
    let mut seen: Vec<(IpNet, &Port)> = Vec::new();
    for port in ports {
        for cidr in topology.subnets_of(port).map(|subnet| subnet.cidr) {
            let other = seen.iter().find(|(other, of)| of.id != port.id && overlap(other, &cidr));
            if let Some((other, of)) = other {
                let message = format!(
                    "{cidr} overlaps with {other} of port {} (line {}): both are interfaces of router {}",
                    of.id, of.line, router.name
                );
                checker.problem(port.line, message);
            }
            seen.push((cidr, port));
        }
    }
    // All of the external network is on the gateway's link, also what the router has no address in.
    let Some(gateway) = ports.iter().find(|port| topology.role(port) == Role::Gateway) else { return };
    let Some(network) = topology.network_of(gateway) else { return };
    let is_known = |cidr: &IpNet| seen.iter().any(|(known, port)| port.id == gateway.id && known == cidr);
    for subnet in network.subnets.iter().filter(|subnet| !is_known(&subnet.cidr)) {
        let other = seen.iter().find(|(other, of)| of.network_id != network.id && overlap(other, &subnet.cidr));
        if let Some((other, of)) = other {
            let message = format!(
                "{} of the external network {} overlaps with {other} of port {} (line {}): router {} leads to both",
                subnet.cidr, network.name, of.id, of.line, router.name
            );
            checker.problem(subnet.line, message);
        }
    }
}

/// A next hop is a neighbour, and what a router is connected to needs no route.
fn next_hops(checker: &mut Checker<'_>, router: &Router, ports: &[&Port]) {
    let topology = checker.topology;
    let is_near = |address: &IpAddr| {
        ports.iter().filter_map(|port| topology.network_of(port)).any(|network| network.has_address(*address))
    };
    for route in router.routes.iter().filter(|route| !is_near(&route.nexthop)) {
        let message = format!(
            "nexthop {} of the route to {} is in no network of router {}",
            route.nexthop, route.destination, router.name
        );
        checker.problem(router.line, message);
    }
    for route in &router.routes {
        let connected =
            |port: &&&Port| topology.subnets_of(port).any(|subnet| subnet.cidr.trunc() == route.destination);
        if let Some(port) = ports.iter().find(connected) {
            let message = format!(
                "a route to {} of router {}, which has an interface there: port {} (line {})",
                route.destination, router.name, port.id, port.line
            );
            checker.problem(router.line, message);
        }
    }
}

/// Floating IPs are addresses of their network like any port's.
fn addresses_used_twice(checker: &mut Checker<'_>) {
    let topology = checker.topology;
    let mut owners: HashMap<(crate::model::NetworkId, IpAddr), String> = HashMap::new();
    for port in &topology.ports {
        owners.extend(
            port.fixed_ips
                .iter()
                .map(|address| ((port.network_id, *address), format!("port {} (line {})", port.id, port.line))),
        );
    }
    for floating in &topology.floating_ips {
        let key = (floating.floating_network_id, floating.floating_ip_address);
        let owner = format!("floating IP {} (line {})", floating.id, floating.line);
        if let Some(other) = owners.insert(key, owner) {
            let message = format!("floating_ip_address {} is in use by {other}", floating.floating_ip_address);
            checker.problem(floating.line, message);
        }
    }
}

/// Outside, a machine's address has one name.
fn targets_used_twice(checker: &mut Checker<'_>, joins: &Joins<'_>) {
    let mut first: HashMap<(RouterId, IpAddr), &FloatingIp> = HashMap::new();
    for floating in &checker.topology.floating_ips {
        let Some(Target { router, fixed }) = joins.target(floating) else { continue };
        if let Some(other) = first.get(&(router, fixed)) {
            let message = format!(
                "floating IP {} leads to {fixed}, which has {} already (line {})",
                floating.floating_ip_address, other.floating_ip_address, other.line
            );
            checker.problem(floating.line, message);
        } else {
            first.insert((router, fixed), floating);
        }
    }
}

fn floating_ip(checker: &mut Checker<'_>, joins: &Joins<'_>, floating: &FloatingIp) {
    let topology = checker.topology;
    let (line, address) = (floating.line, floating.floating_ip_address);
    let Some(network) = topology.networks.iter().find(|network| network.id == floating.floating_network_id) else {
        let message = format!(
            "floating_network_id {} is not among the networks, but floating IP {} ({address}) is in use",
            floating.floating_network_id, floating.id
        );
        checker.problem(line, message);
        return;
    };
    if !network.is_external {
        let message =
            format!("network {} of floating IP {address} is not external (router:external = true)", network.name);
        checker.problem(line, message);
    }
    if let Some(subnet) = network.subnets.iter().find(|subnet| subnet.gateway_ip == Some(address)) {
        let message = format!("floating_ip_address {address} is the gateway_ip of the subnet in line {}", subnet.line);
        checker.problem(line, message);
    }
    if let Some(what) = network.whole_subnet(address) {
        checker.problem(line, format!("floating IP {address} is {what}"));
    }
    if !network.has_address(address) {
        checker.problem(line, format!("floating IP {address} is in no subnet of network {}", network.name));
    }
    if let Some(id) = floating.router_id.filter(|id| topology.routers.iter().all(|router| router.id != *id)) {
        checker.problem(line, format!("router_id {id} is not among the routers"));
        return;
    }
    if let Some(port) = floating.port_id {
        target(checker, joins, floating, line, port, floating.fixed_ip_address);
    } else if let Some(fixed) = floating.fixed_ip_address {
        checker.problem(line, format!("fixed_ip_address {fixed} without a port_id"));
    }
    let mut first: BTreeMap<_, usize> = BTreeMap::new();
    for forwarding in &floating.port_forwardings {
        let key = (forwarding.protocol, forwarding.external_port);
        if let Some(other) = first.get(&key) {
            let (protocol, number) = key;
            let message = format!("{protocol} port {number} of {address} is forwarded in line {other} already");
            checker.problem(forwarding.line, message);
        } else {
            first.insert(key, forwarding.line);
        }
        let (line, port) = (forwarding.line, forwarding.internal_port_id);
        target(checker, joins, floating, line, port, forwarding.internal_ip_address);
    }
}

/// Whether a floating IP can lead to a port.
fn target(
    checker: &mut Checker<'_>,
    joins: &Joins<'_>,
    floating: &FloatingIp,
    line: usize,
    port: PortId,
    fixed: Option<IpAddr>,
) {
    let address = floating.floating_ip_address;
    let message = match joins.find(floating, port, fixed) {
        Ok(_) => return,
        Err(Astray::Port) => format!("port {port} of floating IP {address} is not among the ports"),
        Err(Astray::Address(fixed)) => format!("{fixed} is no address of port {port}"),
        Err(Astray::NoAddress) => format!("port {port} has no IPv4 address for a floating IP to lead to"),
        Err(Astray::Router(fixed)) => format!(
            "no router joins network {} of floating IP {address} and the subnet of {fixed}",
            checker.topology.network_name(floating.floating_network_id)
        ),
    };
    checker.problem(line, message);
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

impl Network {
    /// Whether an address is in one of the subnets.
    pub(crate) fn has_address(&self, address: IpAddr) -> bool {
        self.subnets.iter().any(|subnet| subnet.cidr.contains(&address))
    }

    /// What an address stands for when it is that of a subnet as a whole, or of everybody in it (RFC 1122 §3.2.1.3): IPv4 keeps the first
    /// and the last one for that, unless there are only two (RFC 3021).
    pub(super) fn whole_subnet(&self, address: IpAddr) -> Option<String> {
        let IpAddr::V4(address) = address else { return None };
        self.subnets.iter().find_map(|subnet| {
            let IpNet::V4(cidr) = subnet.cidr else { return None };
            let what = match address {
                _ if cidr.prefix_len() > LONGEST_PREFIX_WITH_BROADCAST => return None,
                _ if address == cidr.network() => "network",
                _ if address == cidr.broadcast() => "broadcast",
                _ => return None,
            };
            Some(format!("the {what} address of subnet {} (line {})", cidr.trunc(), subnet.line))
        })
    }
}
