//! The topology file: what a small cloud should look like, in Neutron's words and with its ids. Every agent may read
//! the same file; each takes out what concerns its host.

mod check;
mod check_services;
mod desired;
mod dhcp_options;
mod high_availability;
mod joins;
mod mtu;
mod parse;
mod qos;
mod roles;
mod security;
mod services;
mod subnet;
mod table;
mod trunks;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use uuid::Uuid;

pub use high_availability::HA_OWNER;
pub(crate) use high_availability::HA_SUBNET;
pub use joins::{Joins, Target};
pub use roles::{Role, first_ipv4};
pub use services::{FloatingIp, ForwardedProtocol, Instance, PortForwarding, Route, Router};
pub use subnet::{ExtraDhcpOption, Ipv6Mode, Subnet};

use crate::{
    config::Config,
    model::{AddressGroupId, Mac, NetworkId, PortId, QosPolicyId, SecurityGroupId, Segment, Vid},
    problem::{Problem, Problems},
    qos::Qos,
    security::{Log, Rule},
};

/// A valid topology.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// The file it came from.
    pub file: PathBuf,
    /// The hypervisors.
    pub hosts: Vec<Host>,
    /// The networks.
    pub networks: Vec<Network>,
    /// The ports of all networks.
    pub ports: Vec<Port>,
    /// The security groups; without any, ports are held to their addresses and to nothing else.
    pub security_groups: Vec<SecurityGroup>,
    /// The address groups.
    pub address_groups: Vec<AddressGroup>,
    /// The QoS policies.
    pub qos_policies: Vec<QosPolicy>,
    /// The routers.
    pub routers: Vec<Router>,
    /// The floating IPs.
    pub floating_ips: Vec<FloatingIp>,
    /// The machines, as far as the metadata service should describe them.
    pub instances: Vec<Instance>,
    /// The trunks.
    pub trunks: Vec<Trunk>,
}

/// `[[hosts]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Line in the file, from 1.
    pub line: usize,
    /// What `[DEFAULT] host` says on it.
    pub name: String,
    /// Its tunnel endpoint.
    pub local_ip: IpAddr,
    /// Whether Overlane makes the DHCP servers and routers there whose ports are bound to it.
    pub is_network_node: bool,
}

/// `[[networks]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Line in the file, from 1.
    pub line: usize,
    /// Its id.
    pub id: NetworkId,
    /// What people call it.
    pub name: String,
    /// `network_type`, with `segmentation_id` and `physical_network`.
    pub segment: Segment,
    /// Largest IP packet in bytes.
    pub mtu: Option<u16>,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
    /// `router:external`: whether routers have their gateways here, and floating IPs come from here.
    pub is_external: bool,
    /// The domain of its machines' names; `None` takes the configured one.
    pub dns_domain: Option<String>,
    /// What holds for ports that do not say it themselves.
    pub port_security_enabled: bool,
    /// The QoS policy of its ports that have none of their own.
    pub qos_policy_id: Option<QosPolicyId>,
}

/// `[[ports]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Line in the file, from 1.
    pub line: usize,
    /// Its id.
    pub id: PortId,
    /// The network it belongs to.
    pub network_id: NetworkId,
    /// The host it is bound to.
    pub host: Option<String>,
    /// The hosts of its router, when those are several: its tap is on each of them, and in use on one, which changes. It is bound to
    /// none then.
    pub replicated_on: Vec<String>,
    /// The guest's MAC address.
    pub mac_address: Mac,
    /// The guest's addresses.
    pub fixed_ips: Vec<IpAddr>,
    /// Whether it is switched on.
    pub admin_state_up: bool,
    /// Who uses it, such as `compute:nova` or `network:dhcp`; may be empty.
    pub device_owner: String,
    /// What uses it: a router's or an instance's id; may be empty.
    pub device_id: String,
    /// Its machine's host name.
    pub dns_name: Option<String>,
    /// What its DHCP server tells it besides.
    pub extra_dhcp_opts: Vec<ExtraDhcpOption>,
    /// Whether the guest is held to its addresses; `None` leaves it to the network.
    pub port_security_enabled: Option<bool>,
    /// Its security groups; `None` takes the one called `default`, if there is one.
    pub security_groups: Option<BTreeSet<SecurityGroupId>>,
    /// What the guest may use besides.
    pub allowed_address_pairs: Vec<AddressPair>,
    /// Its own QoS policy.
    pub qos_policy_id: Option<QosPolicyId>,
    /// Whether its machine completes its own checksums, so that what it sends may be taken at XDP.
    pub from_port_xdp: bool,
}

/// One of `allowed_address_pairs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPair {
    /// An address or a range of them.
    pub ip_address: IpNet,
    /// The MAC address to use it with; the port's own when not given.
    pub mac_address: Option<Mac>,
}

/// `[[security_groups]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityGroup {
    /// Line in the file, from 1.
    pub line: usize,
    /// Its id.
    pub id: SecurityGroupId,
    /// What people call it.
    pub name: String,
    /// Whether its rules admit answers as well.
    pub is_stateful: bool,
    /// Which flows are logged.
    pub log: Log,
    /// Its rules.
    pub rules: Vec<SecurityGroupRule>,
}

/// `[[security_groups.rules]]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecurityGroupRule {
    /// Line in the file, from 1.
    pub line: usize,
    /// What it says.
    pub rule: Rule,
}

/// `[[address_groups]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressGroup {
    /// Line in the file, from 1.
    pub line: usize,
    /// Its id.
    pub id: AddressGroupId,
    /// Its addresses, of both families.
    pub addresses: BTreeSet<IpNet>,
}

/// `[[qos_policies]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QosPolicy {
    /// Line in the file, from 1.
    pub line: usize,
    /// Its id.
    pub id: QosPolicyId,
    /// What people call it.
    pub name: String,
    /// What its rules come to.
    pub qos: Qos,
}

/// `[[trunks]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trunk {
    /// Line in the file, from 1.
    pub line: usize,
    /// Its id.
    pub id: Uuid,
    /// The port whose tap it is behind.
    pub port_id: PortId,
    /// The ports that are behind that tap as well.
    pub sub_ports: Vec<SubPort>,
}

/// `[[trunks.sub_ports]]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubPort {
    /// Line in the file, from 1.
    pub line: usize,
    /// The port.
    pub port_id: PortId,
    /// `segmentation_id`: the tag of its frames.
    pub vid: Vid,
}

impl Topology {
    /// Reads a topology.
    ///
    /// # Errors
    /// [`Problems`]: all of them, each with its line.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Problems> {
        let (mut topology, mut problems) = parse::parse(file, text);
        // Cross-references of half-read tables would only complain about what is missing already.
        if problems.is_empty() {
            problems = check::check(&topology);
        }
        topology.place_sub_ports();
        topology.place_router_ports();
        if problems.is_empty() { Ok(topology) } else { Err(Problems(problems)) }
    }

    /// Checks that the file is about the host that an agent runs on.
    ///
    /// # Errors
    /// [`Problems`] when the host is not in the file, or has another address there than `local_ip`, the
    /// configured one.
    pub fn check_host(&self, host: &str, local_ip: Option<IpAddr>) -> Result<(), Problems> {
        let problem = |line, message| Problems(vec![Problem { file: self.file.clone(), line, message }]);
        let Some(found) = self.hosts.iter().find(|candidate| candidate.name == host) else {
            let names: Vec<&str> = self.hosts.iter().map(|host| host.name.as_str()).collect();
            let message = format!("this host, {host:?}, is not among the hosts: {}", names.join(", "));
            return Err(problem(None, message));
        };
        if let Some(local_ip) = local_ip.filter(|local_ip| *local_ip != found.local_ip) {
            let message =
                format!("host {host} has local_ip {} here, but {local_ip} in [vxlan] local_ip", found.local_ip);
            return Err(problem(Some(found.line), message));
        }
        Ok(())
    }

    /// Checks that the networks of a host can work with its configuration, whatever the host looks like. The agent reports
    /// those that cannot, and goes on with the others.
    ///
    /// # Errors
    /// [`Problems`]: all of them, each with its line.
    pub fn check_segments(&self, config: &Config) -> Result<(), Problems> {
        let problems = check::segments(self, config);
        if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
    }
}
