//! Routers, floating IPs, DHCP servers and instances of topology files to be.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Network, Port, Topology};

/// `[[routers]]`
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Router {
    pub id: String,
    pub name: String,
    pub hosts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin_state_up: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_snat: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
}

/// A route of a router, or one that a subnet tells its machines.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Route {
    pub destination: String,
    pub nexthop: String,
}

/// `[[floating_ips]]`
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct FloatingIp {
    pub id: String,
    pub floating_network_id: String,
    pub floating_ip_address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed_ip_address: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub port_forwardings: Vec<PortForwarding>,
}

/// `[[floating_ips.port_forwardings]]`
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct PortForwarding {
    pub protocol: String,
    pub external_port: u16,
    pub internal_port_id: String,
    pub internal_port: u16,
}

/// `[[instances]]`
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Instance {
    pub id: String,
    pub name: String,
    pub project_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
    pub public_keys: BTreeMap<String, String>,
    pub meta: BTreeMap<String, String>,
}

/// One of `[[ports]] extra_dhcp_opts`.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct DhcpOption {
    pub opt_name: String,
    pub opt_value: String,
    pub ip_version: u8,
}

impl Topology {
    /// Has Overlane make DHCP servers and routers on a host.
    ///
    /// # Panics
    /// When there is no such host: a mistake in the test.
    pub fn make_network_node(&mut self, host: &str) {
        let known = self.hosts.iter_mut().find(|known| known.name == host);
        known.expect("a host of the topology").network_node = true;
    }

    /// Adds the port of a DHCP server on `host`, whose addresses end in `number`.
    pub fn add_dhcp(&mut self, network: &Network, host: &str, number: u8) -> Port {
        self.add_network_port(network, host, number, "network:dhcp", "")
    }

    /// Adds a router on network nodes.
    pub fn add_router(&mut self, number: u8, hosts: &[&str]) -> Router {
        let router = Router {
            id: format!("{number:08x}-5555-4000-8000-000000000000"),
            name: format!("router{number}"),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            ..Router::default()
        };
        self.routers.push(router.clone());
        router
    }

    /// Adds an interface of a router, whose addresses end in 1, and makes it the gateway of the network's subnets.
    pub fn add_interface(&mut self, router: &Router, network: &Network) -> Port {
        let port = self.add_network_port(network, &only(router), 1, "network:router_interface", &router.id);
        self.set_gateway_ips(network, 1);
        port
    }

    /// Gives a router its gateway in an external network, with addresses that end in `number`; beyond is `outside`.
    pub fn add_gateway(&mut self, router: &Router, network: &Network, number: u8, outside: u8) -> Port {
        let port = self.add_network_port(network, &only(router), number, "network:router_gateway", &router.id);
        self.set_gateway_ips(network, outside);
        let known = self.networks.iter_mut().find(|known| known.id == network.id);
        known.expect("a network of the topology").is_external = true;
        port
    }

    /// Adds a floating IP that ends in `number`, for a port or for nobody.
    pub fn add_floating_ip(&mut self, network: &Network, number: u8, port: Option<&Port>) -> FloatingIp {
        let floating = FloatingIp {
            id: format!("{number:08x}-6666-4000-8000-000000000000"),
            floating_network_id: network.id.clone(),
            floating_ip_address: format!("10.0.{}.{number}", network.number()),
            port_id: port.map(|port| port.id.clone()),
            ..FloatingIp::default()
        };
        self.floating_ips.push(floating.clone());
        floating
    }

    fn add_network_port(&mut self, network: &Network, host: &str, number: u8, owner: &str, device: &str) -> Port {
        self.add_port(network, host, number);
        let port = self.ports.last_mut().expect("just added");
        (port.device_owner, port.device_id) = (owner.to_owned(), device.to_owned());
        port.clone()
    }

    fn set_gateway_ips(&mut self, network: &Network, number: u8) {
        let known = self.networks.iter_mut().find(|known| known.id == network.id);
        for subnet in &mut known.expect("a network of the topology").subnets {
            let (net, _) =
                subnet.cidr.split_once("0/").or_else(|| subnet.cidr.split_once('/')).expect("a prefix length");
            subnet.gateway_ip = Some(format!("{net}{number}"));
        }
    }
}

/// The host of a router, if it has one; the ports of a router that moves have none.
fn only(router: &Router) -> String {
    match router.hosts.as_slice() {
        [only] => only.clone(),
        _ => String::new(),
    }
}
