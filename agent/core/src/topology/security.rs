//! Security groups and address groups of a topology file, from tables to rules that hold by themselves.

use std::{collections::BTreeSet, str::FromStr};

use ipnet::IpNet;
use uuid::Uuid;

use super::{AddressGroup, SecurityGroup, SecurityGroupRule, parse::AddressOrRange, table::Table};
use crate::{
    model::{AddressGroupId, SecurityGroupId},
    security::{Direction, Ethertype, Log, PortRange, Protocol, Remote, Rule, Traffic, UnknownProtocol},
};

pub(super) const SECURITY_GROUP: &[&str] = &["id", "name", "description", "stateful", "log", "rules"];
const RULE: &[&str] = &[
    "id",
    "description",
    "direction",
    "ethertype",
    "protocol",
    "port_range_min",
    "port_range_max",
    "remote_ip_prefix",
    "remote_group_id",
    "remote_address_group_id",
];
pub(super) const ADDRESS_GROUP: &[&str] = &["id", "name", "description", "addresses"];

/// The largest ICMP type or code.
const ICMP_MAX: u32 = 255;
/// Neutron has no port 0: no packet of a flow goes there.
const PORT_MIN: u32 = 1;
const PORT_MAX: u32 = 65_535;

pub(super) fn security_group(table: Table) -> Option<SecurityGroup> {
    let id = table.required::<Uuid>("id").map(SecurityGroupId);
    table.optional::<String>("description");
    let name = table.optional("name");
    let is_stateful = table.boolean("stateful", true);
    let log = table.optional("log").unwrap_or_default();
    let rules = table.tables("rules", "security group rule", RULE).into_iter().filter_map(rule).collect();
    let id = id?;
    let name = name.unwrap_or_else(|| id.to_string());
    Some(SecurityGroup { line: table.line(), id, name, is_stateful, log, rules })
}

pub(super) fn address_group(table: Table) -> Option<AddressGroup> {
    let id = table.required::<Uuid>("id").map(AddressGroupId);
    table.optional::<String>("name");
    table.optional::<String>("description");
    let addresses: BTreeSet<IpNet> =
        table.list::<AddressOrRange>("addresses").into_iter().map(|AddressOrRange(net)| net.trunc()).collect();
    Some(AddressGroup { line: table.line(), id: id?, addresses })
}

fn rule(table: Table) -> Option<SecurityGroupRule> {
    table.optional::<Uuid>("id");
    table.optional::<String>("description");
    let direction: Option<Direction> = table.required("direction");
    // As in Neutron, IPv4 unless it says otherwise.
    let ethertype = if table.has("ethertype") { table.optional("ethertype") } else { Some(Ethertype::IPv4) };
    let traffic = ethertype.and_then(|ethertype| traffic(table, ethertype));
    let remote = ethertype.and_then(|ethertype| remote(table, ethertype));
    let rule = Rule { direction: direction?, ethertype: ethertype?, traffic: traffic?, remote: remote? };
    Some(SecurityGroupRule { line: table.line(), rule })
}

fn traffic(table: Table, ethertype: Ethertype) -> Option<Traffic> {
    let has_range = table.has("port_range_min") || table.has("port_range_max");
    let AnyProtocol(protocol) = if table.has("protocol") { table.optional("protocol")? } else { AnyProtocol(None) };
    let Some(protocol) = protocol else {
        if has_range {
            table.problem("protocol", "port_range_min and port_range_max need a protocol that has ports, such as tcp");
            return None;
        }
        return Some(Traffic::Any);
    };
    // In an IPv6 rule Neutron's `icmp` means ICMPv6.
    let protocol = if protocol == Protocol::ICMP { ethertype.icmp() } else { protocol };
    if protocol.is_ipv6_only() && ethertype == Ethertype::IPv4 {
        table.problem("protocol", format_args!("protocol {protocol} needs ethertype = \"IPv6\""));
        return None;
    }
    if !has_range {
        Some(Traffic::Protocol(protocol))
    } else if protocol == ethertype.icmp() {
        icmp(table)
    } else if protocol.has_ports() {
        ports(table).map(|range| Traffic::Ports(protocol, range))
    } else {
        table.problem("port_range_min", format_args!("protocol {protocol} has no ports"));
        None
    }
}

fn ports(table: Table) -> Option<PortRange> {
    let number = |key| {
        if !table.has(key) {
            table.problem("port_range_min", format_args!("{key} is missing: a range needs both ends"));
        }
        table.integer(key, PORT_MIN, PORT_MAX).and_then(|port| u16::try_from(port).ok())
    };
    let (min, max) = (number("port_range_min"), number("port_range_max"));
    let range = PortRange::new(min?, max?);
    if range.is_none() {
        let (min, max) = (min?, max?);
        table.problem("port_range_min", format_args!("the range {min} to {max} is reversed"));
    }
    range
}

fn icmp(table: Table) -> Option<Traffic> {
    if !table.has("port_range_min") {
        table.problem("port_range_max", "an ICMP code (port_range_max) needs an ICMP type (port_range_min)");
        return None;
    }
    let number = |key| table.integer(key, 0, ICMP_MAX).and_then(|number| u8::try_from(number).ok());
    let kind = number("port_range_min");
    let code = if table.has("port_range_max") { Some(number("port_range_max")?) } else { None };
    Some(Traffic::Icmp { kind: kind?, code })
}

fn remote(table: Table, ethertype: Ethertype) -> Option<Remote> {
    let keys = ["remote_ip_prefix", "remote_group_id", "remote_address_group_id"].map(|key| (key, table.has(key)));
    let given: Vec<&str> = keys.iter().filter(|(_, is_given)| *is_given).map(|(key, _)| *key).collect();
    if let [first, .., last] = given[..] {
        table.problem(last, format_args!("a rule has one of {first} and {last}, not both"));
        return None;
    }
    match given.first() {
        None => Some(Remote::Any),
        Some(&"remote_ip_prefix") => prefix(table, ethertype),
        Some(&"remote_group_id") => table.optional("remote_group_id").map(SecurityGroupId).map(Remote::Group),
        Some(key) => table.optional(key).map(AddressGroupId).map(Remote::AddressGroup),
    }
}

fn prefix(table: Table, ethertype: Ethertype) -> Option<Remote> {
    let AddressOrRange(net) = table.optional("remote_ip_prefix")?;
    if Ethertype::of(&net) != ethertype {
        table.problem("remote_ip_prefix", format_args!("remote_ip_prefix {net} in a rule for {ethertype}"));
        return None;
    }
    // Every address of the family is anybody.
    Some(if net.prefix_len() == 0 { Remote::Any } else { Remote::Prefix(net.trunc()) })
}

/// Neutron's `protocol`, where any protocol is a value.
struct AnyProtocol(Option<Protocol>);

impl FromStr for AnyProtocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Self, UnknownProtocol> {
        Protocol::parse(text).map(Self)
    }
}

impl FromStr for Log {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "accept" => Ok(Self::Accept),
            "drop" => Ok(Self::Drop),
            "all" => Ok(Self::All),
            _ => Err("expected off, accept, drop or all"),
        }
    }
}
