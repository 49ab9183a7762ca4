//! DHCP servers: for each network with a DHCP port on the host a namespace with the other end of the port's tap, and one
//! dnsmasq in it for all subnets, as Neutron's DHCP agent leaves them (contract §5.3).

mod arguments;
mod files;
mod hosts;
pub mod leases;
mod options;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use ipnet::IpNet;

pub use arguments::{parse_version, why_too_old};

use super::{
    LinkSpec, METADATA_IPV4, METADATA_IPV6, NamespaceSpec, NextHop, ProcessName, ProcessSpec, Reservations, RouteSpec,
};
use crate::{
    config::Config,
    model::{Mac, NetworkId, SubnetId},
    topology::{Ipv6Mode, Network, Port, Role, Subnet, Topology},
};

/// What it is called, as a program and in messages.
pub const PROGRAM: &str = "dnsmasq";
/// The oldest dnsmasq that can do what is asked of it: `--shared-network`, and addresses of IPv6 by `tag:dhcpv6`.
pub const VERSION_MIN: (u32, u32) = (2, 81);
/// The other end of a DHCP port's tap.
const LINK_PREFIX: &str = "ns-";
const METADATA_IPV6_PREFIX: u8 = 64;

/// Every address of either family.
const ANY_IPV4: IpNet = IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));
const ANY_IPV6: IpNet = IpNet::V6(ipnet::Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0));

/// One network's DHCP server on the configured host.
pub(super) struct Server<'a> {
    topology: &'a Topology,
    config: &'a Config,
    network: &'a Network,
    /// The server's own port.
    port: &'a Port,
    /// All of the network, its own among them.
    ports: &'a [&'a Port],
}

/// The namespace of each network whose DHCP server is on the configured host.
pub(super) fn namespaces(topology: &Topology, config: &Config) -> BTreeMap<String, NamespaceSpec> {
    let ports = topology.ports_by_network();
    let servers = servers(topology, config, &ports);
    servers.map(|server| (server.network.id.dhcp_namespace(), server.namespace())).collect()
}

fn servers<'a>(
    topology: &'a Topology,
    config: &'a Config,
    ports: &'a BTreeMap<NetworkId, Vec<&'a Port>>,
) -> impl Iterator<Item = Server<'a>> {
    let is_here =
        |port: &&Port| topology.role(port) == Role::Dhcp && port.host.as_deref() == Some(config.host.as_str());
    topology.networks.iter().filter_map(move |network| {
        let ports = ports.get(&network.id)?;
        let port = ports.iter().copied().find(is_here)?;
        let is_wanted = network.subnets.iter().any(|subnet| subnet.enable_dhcp);
        is_wanted.then_some(Server { topology, config, network, port, ports })
    })
}

impl Topology {
    fn ports_by_network(&self) -> BTreeMap<NetworkId, Vec<&Port>> {
        let mut ports: BTreeMap<NetworkId, Vec<&Port>> = BTreeMap::new();
        for port in &self.ports {
            ports.entry(port.network_id).or_default().push(port);
        }
        ports
    }
}

impl<'a> Server<'a> {
    fn namespace(&self) -> NamespaceSpec {
        let name = ProcessName { program: PROGRAM.to_owned(), of: self.network.id.to_string() };
        let link = LinkSpec {
            port: self.port.id,
            mac: self.port.mac_address,
            mtu: self.topology.mtu_of(self.network),
            addresses: self.addresses().collect(),
            moving: BTreeSet::new(),
            announces: false,
            // Clients read answers before the kernel that would forgive an unfinished checksum, above all the oldest of them.
            finishes_checksums: true,
        };
        let parameters = [("net/ipv4/ip_nonlocal_bind", "1"), ("net/ipv6/conf/default/accept_ra", "0")];
        NamespaceSpec {
            sysctls: parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            links: [(self.link_name(), link)].into(),
            routes: self.routes(),
            activity: None,
            ruleset: None,
            processes: [(name, self.process())].into(),
            reservations: Some(self.reservations()),
        }
    }

    fn process(&self) -> ProcessSpec {
        ProcessSpec {
            program: PROGRAM.to_owned(),
            args: self.arguments(),
            folder: self.folder(),
            files: self.files().into_iter().map(|(name, file)| (name.to_owned(), file)).collect(),
        }
    }

    fn folder(&self) -> PathBuf {
        self.config.services.state_path.join("dhcp").join(self.network.id.to_string())
    }

    fn link_name(&self) -> String {
        self.port.id.device_name(LINK_PREFIX)
    }

    /// The subnets that it serves.
    fn served(&self) -> impl Iterator<Item = &'a Subnet> {
        self.network.subnets.iter().filter(|subnet| subnet.enable_dhcp)
    }

    fn addresses(&self) -> impl Iterator<Item = IpNet> {
        let own = self.port.fixed_ips.iter().filter_map(|address| {
            let subnet = self.subnet_of(*address)?;
            IpNet::new(*address, subnet.cidr.prefix_len()).ok()
        });
        own.chain(self.metadata_addresses())
    }

    /// The addresses of the metadata service, if it is to be found here. Where there is a router it has that of IPv6.
    fn metadata_addresses(&self) -> Vec<IpNet> {
        let dhcp = &self.config.services.dhcp;
        let is_isolated = dhcp.has_isolated_metadata && self.served().any(|subnet| self.is_isolated(subnet));
        if !(is_isolated || dhcp.forces_metadata) {
            return Vec::new();
        }
        let has_router = self.ports.iter().any(|port| self.topology.role(port) == Role::RouterInterface);
        let ipv6 = IpNet::new(METADATA_IPV6.into(), METADATA_IPV6_PREFIX).ok().filter(|_| !has_router);
        [IpNet::from(IpAddr::from(METADATA_IPV4))].into_iter().chain(ipv6).collect()
    }

    /// Whether no router has the subnet's gateway address.
    fn is_isolated(&self, subnet: &Subnet) -> bool {
        let has_gateway = |port: &&&Port| {
            self.topology.role(port) == Role::RouterInterface
                && subnet.gateway_ip.is_some_and(|gateway| port.fixed_ips.contains(&gateway))
        };
        !self.ports.iter().any(|port| has_gateway(&port))
    }

    /// Out by the first gateway of each family, for questions to name servers; and to machines in subnets where the server
    /// itself has no address.
    fn routes(&self) -> BTreeMap<IpNet, RouteSpec> {
        let route = |via| RouteSpec { next_hops: BTreeSet::from([NextHop { via, link: self.link_name() }]) };
        let mut routes = BTreeMap::new();
        for subnet in &self.network.subnets {
            let any = if subnet.cidr.addr().is_ipv4() { ANY_IPV4 } else { ANY_IPV6 };
            if self.address_in(subnet).is_none() {
                if subnet.enable_dhcp {
                    routes.insert(subnet.cidr.trunc(), route(None));
                }
            } else if let Some(gateway) = subnet.gateway_ip.filter(|_| !routes.contains_key(&any)) {
                routes.insert(any, route(Some(gateway)));
            }
        }
        routes
    }

    /// The server's own address in a subnet.
    fn address_in(&self, subnet: &Subnet) -> Option<IpAddr> {
        self.port.fixed_ips.iter().copied().find(|address| subnet.cidr.contains(address))
    }

    fn subnet_of(&self, address: IpAddr) -> Option<&'a Subnet> {
        self.network.subnets.iter().find(|subnet| subnet.cidr.contains(&address))
    }

    /// The domain of the network's machines; may be empty.
    fn domain(&self) -> &str {
        let own = self.network.dns_domain.as_deref().map(|domain| domain.trim_end_matches('.'));
        own.unwrap_or(&self.config.services.dhcp.domain)
    }

    fn reservations(&self) -> Reservations {
        let servers = self.port.fixed_ips.iter().filter_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        Reservations {
            link: self.link_name(),
            servers: servers.collect(),
            leases: self.folder().join(files::LEASES),
            addresses: self.leases().collect(),
            subnets: self
                .served()
                .filter(|subnet| self.gives_out_addresses(subnet))
                .map(|subnet| subnet.cidr)
                .collect(),
            leases_max: self.leases_max(),
        }
    }

    /// The addresses that it gives out, and to whom.
    fn leases(&self) -> impl Iterator<Item = (Mac, IpAddr)> {
        self.hosts().flat_map(|host| host.leased().map(|address| (host.mac(), address)).collect::<Vec<_>>())
    }

    /// Whether it tells machines of a subnet what a router would tell them: only where there is none.
    fn advertises(&self, subnet: &Subnet) -> bool {
        let is_advertised = |port: &&&Port| {
            self.topology.role(port) == Role::RouterInterface
                && port.fixed_ips.iter().any(|address| subnet.cidr.contains(address))
        };
        subnet.ipv6_ra_mode.is_some() && !self.ports.iter().any(|port| is_advertised(&port))
    }
}

/// How machines of a subnet of IPv6 get what from DHCPv6; `None`: nothing.
fn dhcpv6_mode(subnet: &Subnet) -> Option<Ipv6Mode> {
    match (subnet.ipv6_address_mode, subnet.ipv6_ra_mode) {
        // As Neutron has it: what says nothing is served as it was before there were modes.
        (None, None) => Some(Ipv6Mode::DhcpStateful),
        (Some(Ipv6Mode::Slaac) | None, _) => None,
        (mode, _) => mode,
    }
}

fn tag_of(subnet: SubnetId) -> String {
    format!("subnet-{subnet}")
}
