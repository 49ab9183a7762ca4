//! What the metadata service of a network node serves, from its topology: it listens in the namespaces that machines ask.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{Assignment, FixedIp, Instance, Interface, Route, Socket, SocketKey, State};
use crate::{
    config::Config,
    model::{NetworkId, PortId},
    services::{
        FileSpec, METADATA_IPV4, METADATA_IPV6, NamespaceSpec, OWN_PROGRAM, OnChange, ProcessName, ProcessSpec,
    },
    topology::{self, Ipv6Mode, Role, Subnet, Topology, first_ipv4},
};

/// Where the requests to 169.254.169.254 end in a router (contract §5.2).
pub(crate) const ROUTER_PORT: u16 = 9697;
const HTTP_PORT: u16 = 80;
const FILE: &str = "state.json";

/// The process that serves `namespaces`, if there is anything to serve.
pub(crate) fn process(
    topology: &Topology,
    namespaces: &BTreeMap<String, NamespaceSpec>,
    config: &Config,
) -> Option<(ProcessName, ProcessSpec)> {
    let networks: HashMap<PortId, NetworkId> = topology.ports.iter().map(|port| (port.id, port.network_id)).collect();
    let sockets: Vec<Socket> =
        namespaces.iter().flat_map(|(name, namespace)| sockets(name, namespace, &networks)).collect();
    if sockets.is_empty() {
        return None;
    }
    let served: BTreeSet<NetworkId> = sockets.iter().flat_map(|socket| &socket.networks).copied().collect();
    let upstream = config.services.nova_metadata.clone();
    let state = State { upstream, instances: instances(topology, &served), sockets };
    let name = ProcessName { program: "metadata".to_owned(), of: config.host.clone() };
    let folder = config.services.state_path.join("metadata").join("service");
    let args = ["metadata".to_owned(), "--state".to_owned(), folder.join(FILE).display().to_string()];
    // It follows its file by itself, and the file holds what is nobody else's business.
    let text = state.to_json().unwrap_or_default();
    let file = FileSpec { text, on_change: OnChange::Nothing, is_secret: true };
    let files = [(FILE.to_owned(), file)].into();
    Some((name, ProcessSpec { program: OWN_PROGRAM.to_owned(), args: args.into(), folder, files }))
}

/// Where to listen in a namespace.
fn sockets(name: &str, namespace: &NamespaceSpec, networks: &HashMap<PortId, NetworkId>) -> Vec<Socket> {
    let network = |link: &super::super::LinkSpec| networks.get(&link.port).copied();
    let socket = |address: IpAddr, port, interface: Option<&String>, networks: Vec<NetworkId>| Socket {
        key: SocketKey { namespace: name.to_owned(), address, port, interface: interface.cloned() },
        networks,
    };
    let (ipv4, ipv6) = (IpAddr::from(METADATA_IPV4), IpAddr::from(METADATA_IPV6));
    let mut sockets = Vec::new();
    // Routers have machines behind these links only; what comes by the gateway is not led there.
    let inner: Vec<_> = namespace.links.iter().filter(|(link, _)| link.starts_with("qr-")).collect();
    if !inner.is_empty() {
        // A router may have several interfaces in one.
        let all: BTreeSet<NetworkId> = inner.iter().filter_map(|(_, link)| network(link)).collect();
        sockets.push(socket(Ipv4Addr::UNSPECIFIED.into(), ROUTER_PORT, None, all.into_iter().collect()));
        for (link, spec) in &inner {
            let one = network(spec).into_iter().collect();
            sockets.push(socket(Ipv6Addr::UNSPECIFIED.into(), ROUTER_PORT, Some(link), one));
        }
    }
    for (link, spec) in namespace.links.iter().filter(|(link, _)| link.starts_with("ns-")) {
        let has = |address: IpAddr| spec.addresses.iter().any(|own| own.addr() == address);
        let one: Vec<NetworkId> = network(spec).into_iter().collect();
        if has(ipv4) {
            sockets.push(socket(ipv4, HTTP_PORT, None, one.clone()));
        }
        if has(ipv6) {
            sockets.push(socket(ipv6, HTTP_PORT, Some(link), one));
        }
    }
    sockets
}

/// The machines with ports in the networks that are served: those that the topology describes, and what can be said of the others.
fn instances(topology: &Topology, served: &BTreeSet<NetworkId>) -> Vec<Instance> {
    let mut ports: BTreeMap<String, Vec<&topology::Port>> = BTreeMap::new();
    for port in topology.ports.iter().filter(|port| topology.role(port) == Role::Other) {
        let owner = if port.device_id.is_empty() { port.id.to_string() } else { port.device_id.clone() };
        ports.entry(owner).or_default().push(port);
    }
    ports.retain(|_, ports| ports.iter().any(|port| served.contains(&port.network_id)));
    let described: HashMap<String, &topology::Instance> =
        topology.instances.iter().map(|instance| (instance.id.to_string(), instance)).collect();
    let floating = floating_ips(topology);
    let groups: HashMap<_, &String> = topology.security_groups.iter().map(|group| (group.id, &group.name)).collect();
    let instance = |(id, ports): (String, Vec<&topology::Port>)| {
        let known = described.get(&id);
        let hostname = ports.iter().find_map(|port| port.dns_name.clone());
        let of_ports = ports.iter().flat_map(|port| port.security_groups.iter().flatten());
        let names: BTreeSet<String> = of_ports.filter_map(|group| Some((*groups.get(group)?).clone())).collect();
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Instance {
            hostname: hostname.or_else(|| Some(known?.name.clone())).unwrap_or_else(|| format!("host-{id}")),
            name: known.map(|known| known.name.clone()),
            project_id: known.and_then(|known| text(&known.project_id)),
            availability_zone: known.map(|known| known.availability_zone.clone()),
            keys: known.map(|known| known.public_keys.clone()).unwrap_or_default(),
            user_data: known.and_then(|known| known.user_data.clone()),
            meta: known.map(|known| known.meta.clone()).unwrap_or_default(),
            vendor_data: None,
            security_groups: names.into_iter().collect(),
            interfaces: ports.iter().filter_map(|port| interface(topology, port, &floating)).collect(),
            id,
        }
    };
    ports.into_iter().map(instance).collect()
}

/// The floating IPs that lead to an address of a port.
fn floating_ips(topology: &Topology) -> HashMap<(PortId, IpAddr), IpAddr> {
    let ports: HashMap<PortId, &topology::Port> = topology.ports.iter().map(|port| (port.id, port)).collect();
    let leads = topology.floating_ips.iter().filter_map(|floating| {
        let port = ports.get(&floating.port_id?)?;
        let fixed = floating.fixed_ip_address.or_else(|| first_ipv4(port))?;
        Some(((port.id, fixed), floating.floating_ip_address))
    });
    leads.collect()
}

fn interface(
    topology: &Topology,
    port: &topology::Port,
    floating: &HashMap<(PortId, IpAddr), IpAddr>,
) -> Option<Interface> {
    let network = topology.network_of(port)?;
    let fixed_ip = |address: &IpAddr| {
        let subnet = network.subnets.iter().find(|subnet| subnet.cidr.contains(address))?;
        let route = |route: &topology::Route| Route { destination: route.destination, nexthop: route.nexthop };
        Some(FixedIp {
            address: *address,
            prefix_len: subnet.cidr.prefix_len(),
            assignment: assignment(subnet),
            gateway: subnet.gateway_ip,
            routes: subnet.host_routes.iter().map(route).collect(),
            dns_nameservers: subnet.dns_nameservers.clone(),
            floating_ip: floating.get(&(port.id, *address)).copied(),
        })
    };
    Some(Interface {
        port_id: port.id,
        network_id: network.id,
        mac: port.mac_address,
        mtu: u16::try_from(topology.mtu_of(network)).ok(),
        fixed_ips: port.fixed_ips.iter().filter_map(fixed_ip).collect(),
    })
}

fn assignment(subnet: &Subnet) -> Assignment {
    match (subnet.cidr.addr(), subnet.ipv6_address_mode) {
        (_, Some(Ipv6Mode::Slaac)) => Assignment::Slaac,
        (_, Some(Ipv6Mode::DhcpStateless)) => Assignment::Dhcpv6Stateless,
        (_, Some(Ipv6Mode::DhcpStateful)) => Assignment::Dhcpv6Stateful,
        (IpAddr::V4(_), None) if subnet.enable_dhcp => Assignment::Dhcp,
        _ => Assignment::Static,
    }
}
