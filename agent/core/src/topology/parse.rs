//! From the text to tables to values that hold by themselves; whether they fit together is `check`'s business.

use std::{net::IpAddr, path::Path, str::FromStr};

use ipnet::IpNet;
use uuid::Uuid;

use super::{
    AddressPair, Host, Network, Port, Topology, qos, security, services,
    subnet::{EXTRA_DHCP_OPTION, SUBNET, extra_dhcp_option, subnet},
    table::{Source, Table},
    trunks,
};
use crate::{
    config::is_domain_name,
    model::{Mac, NetworkId, PortId, QosPolicyId, SecurityGroupId, Segment, Vid, Vni},
    problem::Problem,
};

const VNI_MAX: u32 = (1 << 24) - 1;
/// The least that IPv4 asks of a link (RFC 791), and the most that an interface can be given.
const MTU_MIN: u32 = 68;
const MTU_MAX: u32 = 65_535;

pub(super) fn parse(file: &Path, text: &str) -> (Topology, Vec<Problem>) {
    let source = Source::new(file, text);
    let root = source.root();
    let root = Table::new(&source, root.get_ref(), 0, "topology", TOPOLOGY);
    let security_groups = root.tables("security_groups", "security group", security::SECURITY_GROUP);
    let address_groups = root.tables("address_groups", "address group", security::ADDRESS_GROUP);
    let qos_policies = root.tables("qos_policies", "QoS policy", qos::QOS_POLICY);
    let routers = root.tables("routers", "router", services::ROUTER);
    let floating_ips = root.tables("floating_ips", "floating IP", services::FLOATING_IP);
    let instances = root.tables("instances", "instance", services::INSTANCE);
    let topology = Topology {
        file: file.to_owned(),
        hosts: root.tables("hosts", "host", HOST).into_iter().filter_map(host).collect(),
        networks: root.tables("networks", "network", NETWORK).into_iter().filter_map(network).collect(),
        ports: root.tables("ports", "port", PORT).into_iter().filter_map(port).collect(),
        security_groups: security_groups.into_iter().filter_map(security::security_group).collect(),
        address_groups: address_groups.into_iter().filter_map(security::address_group).collect(),
        qos_policies: qos_policies.into_iter().filter_map(qos::qos_policy).collect(),
        routers: routers.into_iter().filter_map(services::router).collect(),
        floating_ips: floating_ips.into_iter().filter_map(services::floating_ip).collect(),
        instances: instances.into_iter().filter_map(services::instance).collect(),
        trunks: root.tables("trunks", "trunk", trunks::TRUNK).into_iter().filter_map(trunks::trunk).collect(),
    };
    (topology, source.into_problems())
}

const TOPOLOGY: &[&str] = &[
    "hosts",
    "networks",
    "ports",
    "security_groups",
    "address_groups",
    "qos_policies",
    "trunks",
    "routers",
    "floating_ips",
    "instances",
];
const HOST: &[&str] = &["name", "local_ip", "network_node"];

fn host(table: Table) -> Option<Host> {
    let name = table.required("name");
    let local_ip = table.required::<IpAddr>("local_ip").filter(|address| {
        let is_unicast = is_unicast(*address);
        if !is_unicast {
            table.problem("local_ip", format_args!("local_ip {address}: expected a unicast address"));
        }
        is_unicast
    });
    let is_network_node = table.boolean("network_node", false);
    Some(Host { line: table.line(), name: name?, local_ip: local_ip?, is_network_node })
}

const NETWORK: &[&str] = &[
    "id",
    "name",
    "network_type",
    "physical_network",
    "segmentation_id",
    "mtu",
    "subnets",
    "router:external",
    "dns_domain",
    "port_security_enabled",
    "qos_policy_id",
];

fn network(table: Table) -> Option<Network> {
    let id = table.required::<Uuid>("id").map(NetworkId);
    let name = table.optional("name");
    let segment = segment(table);
    let mtu = table.integer("mtu", MTU_MIN, MTU_MAX).and_then(|mtu| u16::try_from(mtu).ok());
    let subnets = table.tables("subnets", "subnet", SUBNET).into_iter().filter_map(|table| subnet(table, id)).collect();
    let id = id?;
    Some(Network {
        line: table.line(),
        id,
        name: name.unwrap_or_else(|| id.to_string()),
        segment: segment?,
        mtu,
        subnets,
        is_external: table.boolean("router:external", false),
        dns_domain: table.optional("dns_domain").filter(|domain: &String| is_domain(table, domain)),
        port_security_enabled: table.boolean("port_security_enabled", true),
        qos_policy_id: table.optional("qos_policy_id").map(QosPolicyId),
    })
}

fn segment(table: Table) -> Option<Segment> {
    let network_type: String = table.required("network_type")?;
    let refuse = |key: &str| {
        if table.has(key) {
            table.problem(key, format_args!("a network of type {network_type} has no {key}"));
        }
    };
    match network_type.as_str() {
        "vxlan" => {
            refuse("physical_network");
            table.require("segmentation_id");
            let vni = table.integer("segmentation_id", 0, VNI_MAX);
            vni.and_then(|number| Vni::try_from(number).ok()).map(Segment::Vxlan)
        }
        "flat" => {
            refuse("segmentation_id");
            Some(Segment::Flat { physical_network: table.required("physical_network")? })
        }
        "vlan" => {
            let physical_network = table.required("physical_network");
            table.require("segmentation_id");
            let vid = table.integer("segmentation_id", Vid::MIN.get().into(), Vid::MAX.get().into());
            let vid = vid.and_then(|number| Vid::try_from(number).ok())?;
            Some(Segment::Vlan { physical_network: physical_network?, vid })
        }
        "local" => {
            refuse("segmentation_id");
            refuse("physical_network");
            Some(Segment::Local)
        }
        _ => {
            let message = format_args!("network_type {network_type:?}: expected vxlan, flat, vlan or local");
            table.problem("network_type", message);
            None
        }
    }
}

const PORT: &[&str] = &[
    "id",
    "name",
    "network_id",
    "host",
    "mac_address",
    "fixed_ips",
    "admin_state_up",
    "device_owner",
    "device_id",
    "dns_name",
    "extra_dhcp_opts",
    "port_security_enabled",
    "security_groups",
    "allowed_address_pairs",
    "qos_policy_id",
    "from_port_xdp",
];
const ADDRESS_PAIR: &[&str] = &["ip_address", "mac_address"];

fn port(table: Table) -> Option<Port> {
    let id = table.required::<Uuid>("id").map(PortId);
    let network_id = table.required::<Uuid>("network_id").map(NetworkId);
    let host = table.optional("host");
    let mac_address = table.required::<Mac>("mac_address").filter(|mac| is_usable(table, *mac));
    let fixed_ips: Vec<IpAddr> = table.list("fixed_ips");
    for address in fixed_ips.iter().filter(|address| !is_unicast(**address)) {
        table.problem("fixed_ips", format_args!("fixed_ips {address}: expected a unicast address"));
    }
    let options = table.tables("extra_dhcp_opts", "DHCP option", EXTRA_DHCP_OPTION);
    let pairs = table.tables("allowed_address_pairs", "allowed address pair", ADDRESS_PAIR);
    let allowed_address_pairs = pairs.into_iter().filter_map(address_pair).collect();
    Some(Port {
        replicated_on: Vec::new(),
        line: table.line(),
        id: id?,
        network_id: network_id?,
        host,
        mac_address: mac_address?,
        fixed_ips,
        admin_state_up: table.boolean("admin_state_up", true),
        device_owner: table.optional("device_owner").unwrap_or_default(),
        device_id: table.optional("device_id").unwrap_or_default(),
        dns_name: table.optional("dns_name").filter(|name: &String| is_host_name(table, name)),
        extra_dhcp_opts: options.into_iter().filter_map(extra_dhcp_option).collect(),
        port_security_enabled: table.has("port_security_enabled").then(|| table.boolean("port_security_enabled", true)),
        security_groups: table
            .has("security_groups")
            .then(|| table.list("security_groups").into_iter().map(SecurityGroupId).collect()),
        allowed_address_pairs,
        qos_policy_id: table.optional("qos_policy_id").map(QosPolicyId),
        from_port_xdp: table.boolean("from_port_xdp", false),
    })
}

/// Whether a name is one label of a domain name (RFC 1123 §2.1): it goes into dnsmasq's files.
fn is_host_name(table: Table, name: &str) -> bool {
    let is_label = (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if !is_label {
        let message =
            format_args!("dns_name {name:?}: expected a host name of letters, digits and hyphens, 63 at most");
        table.problem("dns_name", message);
    }
    is_label
}

/// Whether a text is a domain name, with or without a dot behind it.
fn is_domain(table: Table, domain: &str) -> bool {
    let is_domain = is_domain_name(domain.trim_end_matches('.'));
    if !is_domain {
        table.problem("dns_domain", format_args!("dns_domain {domain:?}: expected a domain name"));
    }
    is_domain
}

fn address_pair(table: Table) -> Option<AddressPair> {
    let ip_address = table.required::<AddressOrRange>("ip_address");
    let mac_address = table.optional("mac_address").filter(|mac| is_usable(table, *mac));
    Some(AddressPair { ip_address: ip_address?.0, mac_address })
}

fn is_usable(table: Table, mac: Mac) -> bool {
    let is_usable = !mac.is_group() && mac != Mac::ZERO;
    if !is_usable {
        table.problem("mac_address", format_args!("mac_address {mac}: expected the address of one interface"));
    }
    is_usable
}

/// A single address counts as the range that holds only itself.
pub(super) struct AddressOrRange(pub(super) IpNet);

impl FromStr for AddressOrRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        range.map(Self).map_err(|_| "expected an address or a range such as 10.0.0.0/24")
    }
}

fn is_unicast(address: IpAddr) -> bool {
    !address.is_multicast() && !address.is_unspecified()
}
