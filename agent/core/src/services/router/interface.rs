//! A router's interfaces and its gateway.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::topology::{Joins, Network, Port, Role, Router, Subnet, Topology};

/// One port of a router.
pub(super) struct Interface<'a> {
    /// The port.
    pub(super) port: &'a Port,
    /// Its network.
    pub(super) network: &'a Network,
    /// The name of its link in the namespace.
    pub(super) link: String,
    /// Whether it leads to the outside.
    pub(super) is_gateway: bool,
}

/// All of a router that are switched on.
pub(super) fn of_router<'a>(topology: &'a Topology, joins: &Joins<'a>, router: &Router) -> Vec<Interface<'a>> {
    let ports = joins.ports_of(router.id).iter().filter(|port| port.admin_state_up);
    let interface = |port: &&'a Port| {
        let is_gateway = topology.role(port) == Role::Gateway;
        let link = port.id.device_name(if is_gateway { "qg-" } else { "qr-" });
        Some(Interface { port, network: topology.network_of(port)?, link, is_gateway })
    };
    ports.filter_map(interface).collect()
}

impl<'a> Interface<'a> {
    /// The subnets that it has an address in.
    pub(super) fn subnets(&self) -> impl Iterator<Item = &'a Subnet> {
        let fixed_ips = &self.port.fixed_ips;
        let is_its = move |subnet: &&Subnet| fixed_ips.iter().any(|address| subnet.cidr.contains(address));
        self.network.subnets.iter().filter(is_its)
    }

    /// The subnets of its network that it has none in.
    pub(super) fn other_subnets(&self) -> impl Iterator<Item = &'a Subnet> {
        let fixed_ips = &self.port.fixed_ips;
        let is_its = move |subnet: &&Subnet| fixed_ips.iter().any(|address| subnet.cidr.contains(address));
        self.network.subnets.iter().filter(move |subnet| !is_its(subnet))
    }

    /// Its addresses, each with the length of its subnet's prefix.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpNet> {
        self.port.fixed_ips.iter().map(|address| {
            let mut subnets = self.network.subnets.iter();
            let subnet = subnets.find(|subnet| subnet.cidr.contains(address));
            subnet.map_or_else(|| IpNet::from(*address), |subnet| with_prefix_of(*address, subnet))
        })
    }

    /// The routers of its subnets, besides itself.
    pub(super) fn gateway_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let others = self.subnets().filter_map(|subnet| subnet.gateway_ip);
        others.filter(|address| !self.port.fixed_ips.contains(address))
    }
}

fn with_prefix_of(address: IpAddr, subnet: &Subnet) -> IpNet {
    IpNet::new_assert(address, subnet.cidr.prefix_len())
}
