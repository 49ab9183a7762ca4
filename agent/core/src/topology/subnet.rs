//! Subnets of a topology file, and the options of DHCP.

use std::{net::IpAddr, str::FromStr};

use ipnet::IpNet;
use uuid::Uuid;

use super::{
    dhcp_options,
    services::{Route, routes},
    table::Table,
};
use crate::model::{NetworkId, SubnetId};

/// `[[networks.subnets]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Line in the file, from 1.
    pub line: usize,
    /// Its id; made of the network's and the addresses when the file has none.
    pub id: SubnetId,
    /// The addresses.
    pub cidr: IpNet,
    /// The router's address.
    pub gateway_ip: Option<IpAddr>,
    /// Whether the DHCP servers of the network serve it.
    pub enable_dhcp: bool,
    /// What machines ask for names; the DHCP servers themselves when there are none.
    pub dns_nameservers: Vec<IpAddr>,
    /// Routes that machines are told.
    pub host_routes: Vec<Route>,
    /// How machines get their IPv6 addresses (`ipv6_address_mode`).
    pub ipv6_address_mode: Option<Ipv6Mode>,
    /// What routers advertise (`ipv6_ra_mode`); `None`: nothing.
    pub ipv6_ra_mode: Option<Ipv6Mode>,
}

/// Neutron's three ways of giving machines IPv6 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6Mode {
    /// Machines make their own of the advertised prefix.
    Slaac,
    /// The same, and DHCPv6 tells them everything else.
    DhcpStateless,
    /// DHCPv6 gives them out.
    DhcpStateful,
}

/// One of `[[ports]] extra_dhcp_opts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraDhcpOption {
    /// Its name as dnsmasq knows it, or its number.
    pub opt_name: String,
    /// Its value as dnsmasq reads it.
    pub opt_value: String,
    /// Whether it is for DHCPv6.
    pub is_ipv6: bool,
}

pub(super) const SUBNET: &[&str] = &[
    "id",
    "name",
    "cidr",
    "gateway_ip",
    "enable_dhcp",
    "dns_nameservers",
    "host_routes",
    "ipv6_address_mode",
    "ipv6_ra_mode",
];
pub(super) const EXTRA_DHCP_OPTION: &[&str] = &["opt_name", "opt_value", "ip_version"];

pub(super) fn subnet(table: Table, network: Option<NetworkId>) -> Option<Subnet> {
    let id = table.optional("id").map(SubnetId);
    table.optional::<String>("name");
    let cidr: Option<IpNet> = table.required("cidr");
    let gateway_ip: Option<IpAddr> = table.optional("gateway_ip");
    if let (Some(cidr), Some(gateway)) = (cidr, gateway_ip)
        && !cidr.contains(&gateway)
    {
        table.problem("gateway_ip", format_args!("gateway_ip {gateway} is not in {cidr}"));
    }
    let (ipv6_address_mode, ipv6_ra_mode) = (table.optional("ipv6_address_mode"), table.optional("ipv6_ra_mode"));
    let cidr = cidr?;
    for key in ["ipv6_address_mode", "ipv6_ra_mode"] {
        if table.has(key) && cidr.addr().is_ipv4() {
            table.problem(key, format_args!("{key} of a subnet of IPv4"));
        }
    }
    // As Neutron has it: both say the same where both say something.
    if let (Some(address), Some(ra)) = (ipv6_address_mode, ipv6_ra_mode)
        && address != ra
    {
        table.problem("ipv6_ra_mode", "ipv6_ra_mode and ipv6_address_mode must be the same where both are given");
    }
    Some(Subnet {
        line: table.line(),
        id: id.or_else(|| network.map(|network| id_of(network, cidr)))?,
        cidr,
        gateway_ip,
        enable_dhcp: table.boolean("enable_dhcp", true),
        dns_nameservers: table.list("dns_nameservers"),
        host_routes: routes(table, "host_routes"),
        ipv6_address_mode,
        ipv6_ra_mode,
    })
}

pub(super) fn extra_dhcp_option(table: Table) -> Option<ExtraDhcpOption> {
    let opt_name = table.required("opt_name");
    let opt_value: Option<String> = table.required("opt_value");
    let is_ipv6 = table.has("ip_version") && table.integer("ip_version", 4, 6) == Some(6);
    // Each becomes a line of a file that dnsmasq reads.
    let opt_name = opt_name.filter(|name: &String| {
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let is_known = is_name && dhcp_options::is_known(name, is_ipv6);
        if !is_known {
            let message = format_args!(
                "opt_name {name:?}: expected dnsmasq's name of an option (dnsmasq --help dhcp{}), or its number",
                if is_ipv6 { "6" } else { "" }
            );
            table.problem("opt_name", message);
        }
        is_known
    });
    let opt_value = opt_value.filter(|value| {
        let is_line = !value.chars().any(char::is_control);
        // This one stands between commas with what else makes a reservation.
        let is_field = opt_name.as_deref() != Some(dhcp_options::CLIENT_ID) || !value.contains([',', ' ']);
        if !is_line {
            table.problem("opt_value", "opt_value: expected one line");
        } else if !is_field {
            table.problem("opt_value", format_args!("opt_value {value:?}: a client-id has no commas and no blanks"));
        }
        is_line && is_field
    });
    Some(ExtraDhcpOption { opt_name: opt_name?, opt_value: opt_value?, is_ipv6 })
}

/// The id of a subnet that has none in the file: the same on every host, and after every edit of anything else.
fn id_of(network: NetworkId, cidr: IpNet) -> SubnetId {
    SubnetId(Uuid::new_v5(&network.0, cidr.trunc().to_string().as_bytes()))
}

impl FromStr for Ipv6Mode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "slaac" => Ok(Self::Slaac),
            "dhcpv6-stateless" => Ok(Self::DhcpStateless),
            "dhcpv6-stateful" => Ok(Self::DhcpStateful),
            _ => Err("expected slaac, dhcpv6-stateless or dhcpv6-stateful"),
        }
    }
}
