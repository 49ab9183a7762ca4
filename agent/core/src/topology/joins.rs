//! Which router joins which networks.

use std::{collections::HashMap, net::IpAddr};

use super::{FloatingIp, Port, PortForwarding, Role, Router, Topology, roles::first_ipv4};
use crate::model::{NetworkId, PortId, RouterId};

/// The ports of all routers, ready to be looked up.
pub struct Joins<'a> {
    topology: &'a Topology,
    ports: HashMap<PortId, &'a Port>,
    of_routers: HashMap<String, Vec<&'a Port>>,
}

/// What a floating IP leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The router that carries it out.
    pub router: RouterId,
    /// The machine's address.
    pub fixed: IpAddr,
}

/// Why a floating IP leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Astray {
    /// There is no such port.
    Port,
    /// The port does not have the address.
    Address(IpAddr),
    /// The port has no address of IPv4.
    NoAddress,
    /// No router has its gateway in the floating IP's network and an interface in the subnet of the address.
    Router(IpAddr),
}

impl<'a> Joins<'a> {
    /// Sorts the ports of a topology.
    pub fn of(topology: &'a Topology) -> Self {
        let mut of_routers: HashMap<String, Vec<&Port>> = HashMap::new();
        for port in &topology.ports {
            if matches!(topology.role(port), Role::RouterInterface | Role::Gateway) {
                of_routers.entry(port.device_id.clone()).or_default().push(port);
            }
        }
        Self { topology, ports: topology.ports.iter().map(|port| (port.id, port)).collect(), of_routers }
    }

    /// The ports of a router: interfaces and gateway.
    pub fn ports_of(&self, router: RouterId) -> &[&'a Port] {
        self.of_routers.get(&router.to_string()).map(Vec::as_slice).unwrap_or_default()
    }

    /// What a floating IP of one port leads to; `None` when it is nobody's.
    pub fn target(&self, floating: &FloatingIp) -> Option<Target> {
        self.find(floating, floating.port_id?, floating.fixed_ip_address).ok()
    }

    /// What one of its port forwardings leads to.
    pub fn forwarding_target(&self, floating: &FloatingIp, forwarding: &PortForwarding) -> Option<Target> {
        self.find(floating, forwarding.internal_port_id, forwarding.internal_ip_address).ok()
    }

    pub(super) fn find(&self, floating: &FloatingIp, port: PortId, fixed: Option<IpAddr>) -> Result<Target, Astray> {
        let port = self.ports.get(&port).ok_or(Astray::Port)?;
        let fixed = match fixed {
            Some(fixed) if !port.fixed_ips.contains(&fixed) => return Err(Astray::Address(fixed)),
            Some(fixed) if fixed.is_ipv6() => return Err(Astray::NoAddress),
            Some(fixed) => fixed,
            None => first_ipv4(port).ok_or(Astray::NoAddress)?,
        };
        let joins = |router: &&Router| {
            floating.router_id.is_none_or(|id| id == router.id)
                && self.has_gateway_in(router.id, floating.floating_network_id)
                && self.has_interface_at(router.id, port.network_id, fixed)
        };
        let router = self.topology.routers.iter().find(joins).ok_or(Astray::Router(fixed))?;
        Ok(Target { router: router.id, fixed })
    }

    fn has_gateway_in(&self, router: RouterId, network: NetworkId) -> bool {
        let is_gateway = |port: &&&Port| self.topology.role(port) == Role::Gateway;
        self.ports_of(router).iter().filter(is_gateway).any(|port| port.network_id == network)
    }

    fn has_interface_at(&self, router: RouterId, network: NetworkId, address: IpAddr) -> bool {
        let is_interface =
            |port: &&&Port| port.network_id == network && self.topology.role(port) == Role::RouterInterface;
        let mut subnets =
            self.ports_of(router).iter().filter(is_interface).flat_map(|port| self.topology.subnets_of(port));
        subnets.any(|subnet| subnet.cidr.contains(&address))
    }
}
