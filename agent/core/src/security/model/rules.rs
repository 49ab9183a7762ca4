//! What rules say, one by one.

use std::net::IpAddr;

use super::packet::{Ip, Quoted, Transport};
use crate::security::{Direction, Ethertype, Filter, Groups, Remote, Rule, Traffic};

/// May a port begin a flow to `remote` (egress), or be reached by one from there (ingress)?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    direction: Direction,
    remote: IpAddr,
    protocol: u8,
    /// Destination port, or ICMP type and code.
    service: (u8, u8),
}

/// What a rule admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    /// A flow, with its answers.
    Flow,
    /// A packet.
    Packet,
}

impl Question {
    /// About a packet as if it began a flow.
    pub(super) fn of_packet(direction: Direction, ip: &Ip) -> Self {
        let service = match ip.transport {
            Transport::Tcp { destination, .. } | Transport::Ports { destination, .. } => split(destination),
            Transport::Icmp { kind, code, .. } => (kind, code),
            Transport::Unknown => (0, 0),
        };
        Self { direction, remote: remote(direction, ip), protocol: ip.protocol, service }
    }

    /// About the flow that a packet answers to: what the other side sent.
    pub(super) fn of_answer(direction: Direction, ip: &Ip) -> Self {
        let service = match ip.transport {
            Transport::Tcp { source, .. } | Transport::Ports { source, .. } => split(source),
            Transport::Icmp { .. } => echo_request(ip.is_v6()),
            Transport::Unknown => (0, 0),
        };
        Self { direction: opposite(direction), remote: remote(direction, ip), protocol: ip.protocol, service }
    }

    /// About the flow of a quoted packet, that the port has sent (egress) or received.
    pub(super) fn of_quoted(direction: Direction, quoted: &Quoted, is_from_opener: bool) -> Self {
        let is_icmp = matches!(quoted.protocol, 1 | 58);
        let [source, destination] = quoted.ports;
        let service = match is_from_opener {
            _ if is_icmp => echo_request(quoted.source.is_ipv6()),
            true => split(destination),
            false => split(source),
        };
        let remote = if direction == Direction::Egress { quoted.destination } else { quoted.source };
        let begun = if is_from_opener { direction } else { opposite(direction) };
        Self { direction: begun, remote, protocol: quoted.protocol, service }
    }
}

/// Asks all rules of all groups of a port; one that keeps state is preferred.
pub(super) fn ask(filter: &Filter, groups: &Groups, question: &Question) -> Option<Grant> {
    let is_v6 = question.remote.is_ipv6();
    // A machine may ask whom it likes whether they are there, over IPv6.
    if is_v6
        && question.direction == Direction::Egress
        && question.protocol == 58
        && question.service == echo_request(true)
    {
        return Some(Grant::Flow);
    }
    let of_port = filter.groups.iter().flatten().filter_map(|id| groups.security.get(id));
    let admits = |rule: &Rule| admits(rule, groups, question);
    let grants = of_port.filter(|group| group.rules.iter().any(admits)).map(|group| group.is_stateful);
    grants.max().map(|is_stateful| if is_stateful { Grant::Flow } else { Grant::Packet })
}

fn admits(rule: &Rule, groups: &Groups, question: &Question) -> bool {
    let is_family = (rule.ethertype == Ethertype::IPv6) == question.remote.is_ipv6();
    let (high, low) = question.service;
    let has_protocol = rule.protocol().is_none_or(|protocol| protocol.number() == question.protocol);
    let has_service = match rule.traffic {
        Traffic::Any | Traffic::Protocol(_) => true,
        Traffic::Ports(_, range) => range.contains(u16::from_be_bytes([high, low])),
        Traffic::Icmp { kind, code } => kind == high && code.is_none_or(|code| code == low),
    };
    let is_remote = match rule.remote {
        Remote::Any => true,
        Remote::Prefix(net) => net.contains(&question.remote),
        Remote::Group(id) => {
            let members = groups.security.get(&id).map(|group| &group.members);
            members.is_some_and(|members| members.iter().any(|net| net.contains(&question.remote)))
        }
        Remote::AddressGroup(id) => {
            groups.address.get(&id).is_some_and(|nets| nets.iter().any(|net| net.contains(&question.remote)))
        }
    };
    rule.direction == question.direction && is_family && has_protocol && has_service && is_remote
}

fn remote(direction: Direction, ip: &Ip) -> IpAddr {
    if direction == Direction::Egress { ip.destination } else { ip.source }
}

fn opposite(direction: Direction) -> Direction {
    if direction == Direction::Egress { Direction::Ingress } else { Direction::Egress }
}

fn echo_request(is_v6: bool) -> (u8, u8) {
    (if is_v6 { 128 } else { 8 }, 0)
}

fn split(port: u16) -> (u8, u8) {
    let [high, low] = port.to_be_bytes();
    (high, low)
}
