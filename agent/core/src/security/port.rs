//! What one port may send as.

use std::{collections::BTreeSet, net::IpAddr};

use serde::{Deserialize, Serialize};

use ipnet::IpNet;

use super::Ethertype;
use crate::model::{Mac, SecurityGroupId};

/// Whether a port is held to anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortSecurity {
    /// It is not: port security is switched off, or the port is the network's own (`network:…`).
    #[default]
    Open,
    /// It is.
    Enforced(Filter),
}

/// What a port is held to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// What it may send as.
    pub sources: BTreeSet<Source>,
    /// The groups whose rules say what it may send and receive; `Some` of none is only what every port may. `None` where
    /// the control plane knows no groups at all: the port may send and receive anything, as itself.
    pub groups: Option<BTreeSet<SecurityGroupId>>,
}

/// Addresses that a port may use, and the MAC address to use them with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Source {
    /// The source MAC address.
    pub mac: Mac,
    /// The source addresses.
    pub net: IpNet,
    /// Whether it is a fixed IP of the port: what a DHCP server may answer to, rather than an allowed address pair.
    pub is_fixed: bool,
}

impl PortSecurity {
    /// What the port is held to, if it is.
    pub const fn filter(&self) -> Option<&Filter> {
        match self {
            Self::Open => None,
            Self::Enforced(filter) => Some(filter),
        }
    }

    /// Whether security groups decide what the port may send and receive.
    pub fn has_rules(&self) -> bool {
        self.filter().is_some_and(|filter| filter.groups.is_some())
    }
}

/// What a port with these fixed IPs and allowed address pairs may send as (contract of the Linux bridge agent, §6.3).
///
/// A MAC address that may use any IPv6 address may also use the link-local one that follows from it. A port without fixed
/// IPs may use any address with its own MAC address. A port without IPv6 addresses may not use IPv6.
pub fn sources(mac: Mac, fixed_ips: &[IpAddr], pairs: impl IntoIterator<Item = (Mac, IpNet)>) -> BTreeSet<Source> {
    let mut sources: BTreeSet<Source> =
        fixed_ips.iter().map(|address| Source { mac, net: IpNet::from(*address), is_fixed: true }).collect();
    if fixed_ips.is_empty() {
        let any = Ethertype::ALL.map(|ethertype| Source { mac, net: ethertype.any_address(), is_fixed: false });
        sources.extend(any);
    }
    for (mac, net) in pairs {
        let net = net.trunc();
        if !sources.contains(&Source { mac, net, is_fixed: true }) {
            sources.insert(Source { mac, net, is_fixed: false });
        }
    }
    let with_ipv6: BTreeSet<Mac> =
        sources.iter().filter(|source| source.net.addr().is_ipv6()).map(|source| source.mac).collect();
    let link_local = |mac: Mac| Source { mac, net: IpAddr::V6(mac.link_local()).into(), is_fixed: false };
    let is_covered = |own: &Source| sources.iter().any(|source| source.mac == own.mac && source.net.contains(&own.net));
    let missing: Vec<Source> = with_ipv6.into_iter().map(link_local).filter(|own| !is_covered(own)).collect();
    sources.extend(missing);
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0xfa, 0x16, 0x3e, 0, 0, 1]);
    const OTHER: Mac = Mac([0xfa, 0x16, 0x3e, 0, 0, 2]);

    fn described(fixed_ips: &[&str], pairs: &[(Mac, &str)]) -> Vec<String> {
        let fixed_ips: Vec<IpAddr> = fixed_ips.iter().map(|text| text.parse().expect("valid")).collect();
        let pairs = pairs.iter().map(|(mac, net)| (*mac, net.parse().expect("valid")));
        let describe =
            |source: &Source| format!("{}{} {}", source.mac, if source.is_fixed { "!" } else { "" }, source.net);
        sources(MAC, &fixed_ips, pairs).iter().map(describe).collect()
    }

    #[test]
    fn a_port_may_use_its_addresses_and_the_link_local_one_if_it_has_any_ipv6_address() {
        assert_eq!(described(&["10.0.0.1"], &[]), ["fa:16:3e:00:00:01! 10.0.0.1/32"]);
        assert_eq!(
            described(&["10.0.0.1", "fd00::1"], &[]),
            [
                "fa:16:3e:00:00:01! 10.0.0.1/32",
                "fa:16:3e:00:00:01! fd00::1/128",
                "fa:16:3e:00:00:01 fe80::f816:3eff:fe00:1/128"
            ]
        );
    }

    #[test]
    fn an_allowed_address_pair_has_its_own_mac_address_and_link_local_address() {
        assert_eq!(
            described(&["10.0.0.1"], &[(OTHER, "fd00:9::5/64"), (MAC, "10.0.0.1/32")]),
            [
                "fa:16:3e:00:00:01! 10.0.0.1/32",
                "fa:16:3e:00:00:02 fd00:9::/64",
                "fa:16:3e:00:00:02 fe80::f816:3eff:fe00:2/128"
            ]
        );
    }

    #[test]
    fn a_port_without_fixed_ips_may_use_any_address_with_its_mac_address() {
        let found = described(&[], &[]);
        assert_eq!(found, ["fa:16:3e:00:00:01 0.0.0.0/0", "fa:16:3e:00:00:01 ::/0"]);
    }
}
