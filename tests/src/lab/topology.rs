//! Topology files to be.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{
    Host, SecurityGroup,
    qos::QosPolicy,
    services::{DhcpOption, FloatingIp, Instance, Route, Router},
};

/// A topology file.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Topology {
    pub hosts: Vec<TopologyHost>,
    pub networks: Vec<Network>,
    pub ports: Vec<Port>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub security_groups: Vec<SecurityGroup>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub qos_policies: Vec<QosPolicy>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routers: Vec<Router>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub floating_ips: Vec<FloatingIp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<Instance>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trunks: Vec<Trunk>,
}

/// `[[hosts]]`
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct TopologyHost {
    pub name: String,
    pub local_ip: String,
    pub network_node: bool,
}

/// `[[networks]]`
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Network {
    pub id: String,
    pub name: String,
    pub network_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub physical_network: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segmentation_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos_policy_id: Option<String>,
    #[serde(rename = "router:external")]
    pub is_external: bool,
    pub subnets: Vec<Subnet>,
}

/// `[[networks.subnets]]`
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Subnet {
    pub cidr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_dhcp: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_nameservers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_address_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_ra_mode: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub host_routes: Vec<Route>,
}

/// `[[ports]]`
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Port {
    pub id: String,
    pub network_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    pub mac_address: String,
    pub fixed_ips: Vec<String>,
    pub device_owner: String,
    pub device_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_security_enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_groups: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos_policy_id: Option<String>,
    pub allowed_address_pairs: Vec<AddressPair>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_dhcp_opts: Vec<DhcpOption>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_port_xdp: Option<bool>,
}

/// `[[trunks]]`
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct Trunk {
    pub id: String,
    pub port_id: String,
    pub sub_ports: Vec<SubPort>,
}

/// `[[trunks.sub_ports]]`
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct SubPort {
    pub port_id: String,
    pub segmentation_type: String,
    pub segmentation_id: u16,
}

/// One of `allowed_address_pairs`.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct AddressPair {
    pub ip_address: String,
}

/// Where a crowd's addresses are, and what its port ids begin with.
const CROWD: &str = "172.16.0.0/12";
const CROWD_IDS: u32 = 0x8000_0000;

impl Topology {
    /// A topology that knows `hosts` and nothing else.
    pub fn of(hosts: &[Host]) -> Self {
        let host = |host: &Host| TopologyHost {
            name: host.name.clone(),
            local_ip: host.local_ip.to_string(),
            network_node: false,
        };
        Self { hosts: hosts.iter().map(host).collect(), ..Self::default() }
    }

    /// Adds a VXLAN network with an IPv4 and an IPv6 subnet of its own: 10.0.`vni`.0/24 and fd00:`vni`::/64.
    pub fn add_network(&mut self, vni: u8) -> Network {
        let network = Network { segmentation_id: Some(vni.into()), ..network(vni, "vxlan") };
        self.networks.push(network.clone());
        network
    }

    /// As `add_network`, untagged on a physical network.
    pub fn add_flat_network(&mut self, number: u8, physical_network: &str) -> Network {
        let network = Network { physical_network: Some(physical_network.to_owned()), ..network(number, "flat") };
        self.networks.push(network.clone());
        network
    }

    /// As `add_network`, on a physical network with a tag.
    pub fn add_vlan_network(&mut self, number: u8, physical_network: &str, vid: u16) -> Network {
        let physical_network = Some(physical_network.to_owned());
        let network = Network { physical_network, segmentation_id: Some(vid.into()), ..network(number, "vlan") };
        self.networks.push(network.clone());
        network
    }

    /// As `add_network`, on each host for itself.
    pub fn add_local_network(&mut self, number: u8) -> Network {
        self.networks.push(network(number, "local"));
        network(number, "local")
    }

    /// Adds a port on `host`, whose MAC and addresses end in `number`.
    pub fn add_port(&mut self, network: &Network, host: &str, number: u8) -> Port {
        let net = network.number();
        let port = Port {
            id: format!("{net:02x}{number:02x}0000-1111-4000-8000-{number:012x}"),
            network_id: network.id.clone(),
            host: host.to_owned(),
            mac_address: format!("fa:16:3e:00:{net:02x}:{number:02x}"),
            fixed_ips: vec![format!("10.0.{net}.{number}"), format!("fd00:{net}::{number}")],
            device_owner: "compute:nova".to_owned(),
            ..Port::default()
        };
        self.ports.push(port.clone());
        port
    }

    /// Gives a port a trunk with these subports, each with its tag.
    pub fn add_trunk(&mut self, port: &Port, sub_ports: &[(&Port, u16)]) {
        let sub_port = |(port, vid): &(&Port, u16)| SubPort {
            port_id: port.id.clone(),
            segmentation_type: "vlan".to_owned(),
            segmentation_id: *vid,
        };
        let sub_ports = sub_ports.iter().map(sub_port).collect();
        self.trunks.push(Trunk { id: port.id.replacen("1111", "3333", 1), port_id: port.id.clone(), sub_ports });
    }

    /// Adds `count` ports on `host`, with an IPv4 address each: more than `add_port` has numbers for.
    pub fn add_crowd(&mut self, network: &Network, host: &str, count: u32) {
        if let Some(network) = self.networks.iter_mut().find(|known| known.id == network.id) {
            network.subnets.push(Subnet::of(CROWD));
        }
        self.ports.extend((0..count).map(|number| {
            // The first address stands for the subnet.
            let [_, high, middle, low] = (number + 1).to_be_bytes();
            Port {
                id: format!("{:08x}-2222-4000-8000-000000000000", CROWD_IDS + number),
                network_id: network.id.clone(),
                host: host.to_owned(),
                mac_address: format!("fa:16:3f:{high:02x}:{middle:02x}:{low:02x}"),
                fixed_ips: vec![format!("172.{}.{middle}.{low}", 16 + high)],
                device_owner: "compute:nova".to_owned(),
                ..Port::default()
            }
        }));
    }

    /// Writes the file in one step, as a careful editor does.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self).context("writing TOML")?;
        let partial = path.with_extension("partial");
        std::fs::write(&partial, text).context("writing a topology")?;
        std::fs::rename(&partial, path).context("renaming a topology")
    }
}

fn network(number: u8, network_type: &str) -> Network {
    Network {
        id: format!("{number:08x}-0000-4000-8000-000000000000"),
        name: format!("net{number}"),
        network_type: network_type.to_owned(),
        subnets: [format!("10.0.{number}.0/24"), format!("fd00:{number}::/64")].map(|cidr| Subnet::of(&cidr)).into(),
        ..Network::default()
    }
}

impl Subnet {
    /// A subnet that says nothing else.
    pub fn of(cidr: &str) -> Self {
        Self { cidr: cidr.to_owned(), ..Self::default() }
    }
}

impl Network {
    /// The name of its bridge.
    pub fn bridge(&self) -> String {
        format!("brq{}", &self.id[..11])
    }

    /// The number that it was made with.
    pub(super) fn number(&self) -> u8 {
        u8::from_str_radix(&self.id[6..8], 16).expect("made by this file")
    }
}

impl Port {
    /// The name of its tap.
    pub fn tap(&self) -> String {
        format!("tap{}", &self.id[..11])
    }

    /// Its MAC address.
    ///
    /// # Panics
    /// When it has none: a mistake in the test.
    pub fn mac(&self) -> [u8; 6] {
        self.mac_address.parse::<overlane_core::model::Mac>().expect("the test's port has a MAC address").0
    }

    /// Its IPv4 address.
    ///
    /// # Panics
    /// When it has none: a mistake in the test.
    pub fn ipv4(&self) -> &str {
        self.fixed_ips.iter().find(|address| !address.contains(':')).expect("the test's port has an IPv4 address")
    }

    /// Its IPv6 address.
    ///
    /// # Panics
    /// When it has none: a mistake in the test.
    pub fn ipv6(&self) -> &str {
        self.fixed_ips.iter().find(|address| address.contains(':')).expect("the test's port has an IPv6 address")
    }
}
