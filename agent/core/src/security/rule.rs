//! Security group rules whose fields cannot contradict each other.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use ipnet::IpNet;

use super::Protocol;
use crate::model::{AddressGroupId, SecurityGroupId};

/// Which way a packet goes, as the machine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// From the machine: the `from_port` program.
    Egress,
    /// To the machine: the `to_port` program.
    Ingress,
}

/// The address family that a rule is about; a rule has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ethertype {
    /// IPv4.
    IPv4,
    /// IPv6.
    IPv6,
}

/// Ports from the first to the last one, both included; never reversed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    min: u16,
    max: u16,
}

/// What a rule says about protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Traffic {
    /// Every protocol.
    Any,
    /// One protocol, whatever its ports or its ICMP types are.
    Protocol(Protocol),
    /// A protocol with ports ([`Protocol::has_ports`]), and the destination ports of the packets that begin a flow.
    Ports(Protocol, PortRange),
    /// ICMP, or ICMPv6 in an IPv6 rule: a type, and a code unless any will do. Zero is an ordinary value of both.
    Icmp {
        /// The ICMP type.
        kind: u8,
        /// The ICMP code.
        code: Option<u8>,
    },
}

/// Whom a rule is about: where an ingress packet comes from, where an egress packet goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Remote {
    /// Anybody.
    Any,
    /// The addresses of a range, of the rule's family.
    Prefix(IpNet),
    /// The members of a security group: fixed IPs and allowed address pairs of every port that has the group.
    Group(SecurityGroupId),
    /// The addresses of an address group.
    AddressGroup(AddressGroupId),
}

/// One rule. There are no rules that deny: what no rule of a port admits is dropped, so their order means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// Which way.
    pub direction: Direction,
    /// Which family.
    pub ethertype: Ethertype,
    /// Which packets.
    pub traffic: Traffic,
    /// From or to whom.
    pub remote: Remote,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Egress, Self::Ingress];
}

impl Ethertype {
    /// Both.
    pub const ALL: [Self; 2] = [Self::IPv4, Self::IPv6];

    /// The family of a range.
    pub const fn of(net: &IpNet) -> Self {
        match net {
            IpNet::V4(_) => Self::IPv4,
            IpNet::V6(_) => Self::IPv6,
        }
    }

    /// The range of all its addresses.
    pub fn any_address(self) -> IpNet {
        let any = match self {
            Self::IPv4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::IPv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        IpNet::new_assert(any, 0)
    }

    /// What ICMP is in this family.
    pub const fn icmp(self) -> Protocol {
        match self {
            Self::IPv4 => Protocol::ICMP,
            Self::IPv6 => Protocol::ICMPV6,
        }
    }
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { min: 0, max: u16::MAX };

    /// The range; `None` when it is reversed.
    pub const fn new(min: u16, max: u16) -> Option<Self> {
        if min <= max { Some(Self { min, max }) } else { None }
    }

    /// The first port.
    pub const fn min(self) -> u16 {
        self.min
    }

    /// The last port.
    pub const fn max(self) -> u16 {
        self.max
    }

    /// Whether a port is in it.
    pub const fn contains(self, port: u16) -> bool {
        self.min <= port && port <= self.max
    }
}

impl Rule {
    /// The protocol that the rule is about; `None` is any.
    pub const fn protocol(&self) -> Option<Protocol> {
        match self.traffic {
            Traffic::Any => None,
            Traffic::Protocol(protocol) | Traffic::Ports(protocol, _) => Some(protocol),
            Traffic::Icmp { .. } => Some(self.ethertype.icmp()),
        }
    }
}

/// A text that is none of the words that Neutron has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct Expected(&'static str);

impl FromStr for Direction {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        match text {
            "egress" => Ok(Self::Egress),
            "ingress" => Ok(Self::Ingress),
            _ => Err(Expected("ingress or egress, as the machine sees it")),
        }
    }
}

impl FromStr for Ethertype {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        match text {
            "IPv4" => Ok(Self::IPv4),
            "IPv6" => Ok(Self::IPv6),
            _ => Err(Expected("IPv4 or IPv6")),
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        })
    }
}

impl fmt::Display for Ethertype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::IPv4 => "IPv4",
            Self::IPv6 => "IPv6",
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.direction, self.ethertype)?;
        match self.traffic {
            Traffic::Any => (),
            Traffic::Protocol(protocol) => write!(f, " {protocol}")?,
            Traffic::Ports(protocol, range) if range.min == range.max => write!(f, " {protocol} {}", range.min)?,
            Traffic::Ports(protocol, range) => write!(f, " {protocol} {}-{}", range.min, range.max)?,
            Traffic::Icmp { kind, code: None } => write!(f, " {} type {kind}", self.ethertype.icmp())?,
            Traffic::Icmp { kind, code: Some(code) } => {
                write!(f, " {} type {kind} code {code}", self.ethertype.icmp())?;
            }
        }
        let preposition = if self.direction == Direction::Ingress { "from" } else { "to" };
        match self.remote {
            Remote::Any => Ok(()),
            Remote::Prefix(net) => write!(f, " {preposition} {net}"),
            Remote::Group(id) => write!(f, " {preposition} group {id}"),
            Remote::AddressGroup(id) => write!(f, " {preposition} address group {id}"),
        }
    }
}
