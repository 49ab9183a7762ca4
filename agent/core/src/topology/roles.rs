//! What ports are for, and who belongs to whom.

use std::net::IpAddr;

use super::{HA_OWNER, Host, Network, Port, Router, Subnet, Topology};
use crate::model::{NetworkId, RouterId};

/// What a port is for, as its `device_owner` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `network:dhcp`: a DHCP server's.
    Dhcp,
    /// `network:router_interface` and its relatives: a router's, towards machines.
    RouterInterface,
    /// `network:router_gateway`: a router's, towards the outside.
    Gateway,
    /// A router's, towards its other hosts.
    HighAvailability,
    /// A machine's, or anything else's.
    Other,
}

impl Topology {
    /// What a port is for.
    pub fn role(&self, port: &Port) -> Role {
        match port.device_owner.as_str() {
            "network:dhcp" => Role::Dhcp,
            "network:router_interface" | "network:ha_router_replicated_interface" => Role::RouterInterface,
            "network:router_gateway" => Role::Gateway,
            HA_OWNER => Role::HighAvailability,
            _ => Role::Other,
        }
    }

    /// Names of the hosts on which Overlane makes DHCP servers and routers.
    pub fn network_nodes(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().filter(|host| host.is_network_node).map(|host: &Host| host.name.as_str())
    }

    /// Whether a host is one of them.
    pub fn is_network_node(&self, host: &str) -> bool {
        self.network_nodes().any(|node| node == host)
    }

    /// The network that a port belongs to.
    pub fn network_of(&self, port: &Port) -> Option<&Network> {
        self.networks.iter().find(|network| network.id == port.network_id)
    }

    /// The name of a network, or its id when there is none.
    pub fn network_name(&self, id: NetworkId) -> String {
        let network = self.networks.iter().find(|network| network.id == id);
        network.map_or_else(|| id.to_string(), |network| network.name.clone())
    }

    /// The subnets that the addresses of a port are in.
    pub fn subnets_of(&self, port: &Port) -> impl Iterator<Item = &Subnet> {
        let subnets = self.network_of(port).map(|network| network.subnets.as_slice()).unwrap_or_default();
        subnets.iter().filter(|subnet| port.fixed_ips.iter().any(|address| subnet.cidr.contains(address)))
    }

    /// The ports of a router.
    pub fn ports_of(&self, router: RouterId) -> impl Iterator<Item = &Port> {
        let id = router.to_string();
        self.ports.iter().filter(move |port| port.device_id == id && self.is_of_router(port))
    }

    /// Whether a port is an interface or the gateway of a router.
    pub(super) fn is_of_router(&self, port: &Port) -> bool {
        matches!(self.role(port), Role::RouterInterface | Role::Gateway)
    }

    /// The router that a port belongs to.
    pub fn router_of(&self, port: &Port) -> Option<&Router> {
        let is_its = |router: &&Router| router.id.to_string() == port.device_id;
        self.routers.iter().find(is_its)
    }
}

/// The address that a floating IP leads to when it does not say which.
pub fn first_ipv4(port: &Port) -> Option<IpAddr> {
    port.fixed_ips.iter().find(|address| address.is_ipv4()).copied()
}
