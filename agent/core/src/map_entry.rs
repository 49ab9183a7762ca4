//! Entries of the maps that the agent fills, as actions name them.

use std::{fmt, mem::discriminant, net::IpAddr};

use ipnet::IpNet;
use overlane_abi as abi;

use crate::{
    model::Mac,
    observed::AllowedSource,
    security::{Direction, Ethertype, Protocol, compile::Service},
    xdp::XdpDevice,
};

/// An entry of one of the maps that the agent fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MapEntry {
    Port(u32, abi::Port),
    Network(abi::NetworkKey, abi::Network),
    Fdb(abi::FdbKey, abi::FdbEntry),
    Vtep(abi::Address, abi::Vtep),
    Neighbor(abi::NeighborKey, abi::Neighbor),
    Vlan(abi::VlanId, abi::Vlan),
    VlanDevice(u32, abi::VlanId),
    Qos(u32, abi::Qos),
    XdpDevice(u32, XdpDevice),
    Security(SecurityEntry),
}

/// An entry of one of the maps of port security and security groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityEntry {
    /// By interface index, with the flags of an [`abi::Source`].
    Source(u32, AllowedSource, u32),
    /// By the number of the set.
    Set(u32, abi::SetName),
    /// By the number of the set, with the rule of an [`abi::Member`].
    Member(u32, IpNet, u32),
    /// By the number of the policy.
    Policy(u32, abi::PolicyName),
    /// By the number of the policy.
    Rule(u32, Service, abi::RuleSet),
    /// Flows that members of sets have admitted are judged again.
    Generation(u32),
}

/// A key of one of the maps that the agent fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MapKey {
    Port(u32),
    Network(abi::NetworkKey),
    Fdb(abi::FdbKey),
    Vtep(abi::Address),
    Neighbor(abi::NeighborKey),
    Vlan(abi::VlanId),
    VlanDevice(u32),
    Qos(u32),
    XdpDevice(u32),
    Security(SecurityKey),
}

/// A key of one of the maps of port security and security groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SecurityKey {
    Source(u32, AllowedSource),
    Set(u32),
    Member(u32, IpNet),
    Policy(u32),
    Rule(u32, Service),
    Generation,
}

impl MapEntry {
    /// The entry's key.
    pub fn key(&self) -> MapKey {
        match *self {
            Self::Port(key, _) => MapKey::Port(key),
            Self::Network(key, _) => MapKey::Network(key),
            Self::Fdb(key, _) => MapKey::Fdb(key),
            Self::Vtep(key, _) => MapKey::Vtep(key),
            Self::Neighbor(key, _) => MapKey::Neighbor(key),
            Self::Vlan(key, _) => MapKey::Vlan(key),
            Self::VlanDevice(key, _) => MapKey::VlanDevice(key),
            Self::Qos(key, _) => MapKey::Qos(key),
            Self::XdpDevice(key, _) => MapKey::XdpDevice(key),
            Self::Security(entry) => MapKey::Security(entry.key()),
        }
    }
}

impl SecurityEntry {
    /// The entry's key.
    pub fn key(&self) -> SecurityKey {
        match *self {
            Self::Source(ifindex, source, _) => SecurityKey::Source(ifindex, source),
            Self::Set(set, _) => SecurityKey::Set(set),
            Self::Member(set, net, _) => SecurityKey::Member(set, net),
            Self::Policy(policy, _) => SecurityKey::Policy(policy),
            Self::Rule(policy, service, _) => SecurityKey::Rule(policy, service),
            Self::Generation(_) => SecurityKey::Generation,
        }
    }
}

impl From<SecurityEntry> for MapEntry {
    fn from(entry: SecurityEntry) -> Self {
        Self::Security(entry)
    }
}

impl From<SecurityKey> for MapKey {
    fn from(key: SecurityKey) -> Self {
        Self::Security(key)
    }
}

impl fmt::Display for MapEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key().fmt(f)
    }
}

impl fmt::Display for MapKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(ifindex) => write!(f, "ports[interface {ifindex}]"),
            Self::Network(key) if key.kind == abi::NetworkKey::VNI => write!(f, "networks[VNI {}]", key.id),
            Self::Network(key) => write!(f, "networks[interface {}]", key.id),
            Self::Fdb(key) => write!(f, "fdb[network {}, {}]", key.network, Mac(key.mac)),
            Self::Vtep(address) => write!(f, "vteps[{}]", IpAddr::from(*address)),
            Self::Vlan(key) => write!(f, "vlans[VID {} on interface {}]", key.vid, key.nic),
            Self::VlanDevice(ifindex) => write!(f, "vlan_devices[interface {ifindex}]"),
            Self::Qos(ifindex) => write!(f, "qos[interface {ifindex}]"),
            Self::XdpDevice(ifindex) => write!(f, "xdp_devices[interface {ifindex}]"),
            Self::Neighbor(key) => write!(f, "neighbors[network {}, {}]", key.network, IpAddr::from(key.address)),
            Self::Security(key) => key.fmt(f),
        }
    }
}

impl fmt::Display for SecurityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(ifindex, AllowedSource { mac, net: Some(net) }) => {
                write!(f, "sources[interface {ifindex}, {mac}, {net}]")
            }
            Self::Source(ifindex, AllowedSource { mac, net: None }) => write!(f, "sources[interface {ifindex}, {mac}]"),
            Self::Set(set) => write!(f, "sets[{set}]"),
            Self::Member(set, net) => write!(f, "members[set {set}, {net}]"),
            Self::Policy(policy) => write!(f, "policies[{policy}]"),
            Self::Rule(policy, service) => write!(f, "rules[policy {policy}, {service}]"),
            Self::Generation => write!(f, "generation"),
        }
    }
}

impl AllowedSource {
    /// The key, and the length of its prefix in bits; `None` for single addresses, which are looked up by hashing.
    pub fn key(&self, ifindex: u32) -> (abi::SourceKey, Option<u32>) {
        let mac = self.mac.0;
        let Some(net) = self.net else {
            let (family, address) = (abi::SourceKey::MAC, abi::Address::UNSPECIFIED);
            return (abi::SourceKey { ifindex, mac, family, address }, None);
        };
        let family = if net.addr().is_ipv4() { abi::SourceKey::V4 } else { abi::SourceKey::V6 };
        let key = abi::SourceKey { ifindex, mac, family, address: net.network().into() };
        (key, prefix_len(&net).map(|length| abi::SourceKey::prefix_len(family, length)))
    }
}

/// The key of a member of a set, and the length of its prefix in bits as for [`AllowedSource::key`].
pub fn member_key(set: u32, net: &IpNet) -> (abi::MemberKey, Option<u32>) {
    let is_v6 = net.addr().is_ipv6();
    let key = abi::MemberKey { set, address: net.network().into() };
    (key, prefix_len(net).map(|length| abi::MemberKey::prefix_len(is_v6, length)))
}

/// The length of a prefix that is not a single address.
fn prefix_len(net: &IpNet) -> Option<u32> {
    (net.prefix_len() != net.max_prefix_len()).then(|| net.prefix_len().into())
}

impl Service {
    /// The key, without the length of its prefix.
    pub fn key(&self, policy: u32) -> abi::RuleKey {
        let direction = match self.direction {
            Direction::Egress => abi::Direction::Egress,
            Direction::Ingress => abi::Direction::Ingress,
        };
        let scope = abi::RuleKey::scope(direction, self.ethertype == Ethertype::IPv6);
        abi::RuleKey { policy, scope, protocol: self.protocol, service_be: self.service_be }
    }

    /// The reverse of [`Self::key`].
    pub fn from_key(key: &abi::RuleKey, prefix_len: u32) -> Self {
        let of = |direction, is_v6| key.scope == abi::RuleKey::scope(direction, is_v6);
        let is_egress = of(abi::Direction::Egress, false) || of(abi::Direction::Egress, true);
        let is_v6 = of(abi::Direction::Egress, true) || of(abi::Direction::Ingress, true);
        Self {
            direction: if is_egress { Direction::Egress } else { Direction::Ingress },
            ethertype: if is_v6 { Ethertype::IPv6 } else { Ethertype::IPv4 },
            protocol: key.protocol,
            service_be: key.service_be,
            prefix_len,
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.direction, self.ethertype)?;
        if let Some(protocol) = Protocol::new(self.protocol) {
            write!(f, " {protocol}")?;
            let [high, low] = self.service_be;
            match self.prefix_len.saturating_sub(abi::RuleKey::ANY_SERVICE) {
                0 => (),
                8 if protocol == self.ethertype.icmp() => write!(f, " type {high}")?,
                _ if protocol == self.ethertype.icmp() => write!(f, " type {high} code {low}")?,
                len => write!(f, " {}/{len}", u16::from_be_bytes(self.service_be))?,
            }
        }
        Ok(())
    }
}

impl MapKey {
    /// Whether another key is one of the same map. Addresses and prefixes of one kind count as one map, though they have one each.
    pub fn shares_map(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Security(one), Self::Security(other)) => discriminant(one) == discriminant(other),
            (one, other) => discriminant(one) == discriminant(other),
        }
    }

    /// The interface that the entry is about.
    pub(crate) fn interface(&self) -> Option<u32> {
        match self {
            Self::Port(ifindex)
            | Self::VlanDevice(ifindex)
            | Self::Qos(ifindex)
            | Self::XdpDevice(ifindex)
            | Self::Security(SecurityKey::Source(ifindex, _)) => Some(*ifindex),
            Self::Vlan(key) => Some(key.nic),
            Self::Network(key) if key.kind == abi::NetworkKey::INTERFACE => Some(key.id),
            Self::Network(_) | Self::Fdb(_) | Self::Vtep(_) | Self::Neighbor(_) | Self::Security(_) => None,
        }
    }
}
