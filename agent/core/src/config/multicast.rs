//! Multicast mode of VXLAN networks: hosts find each other by a multicast group of the underlay, and learn who is where from
//! what arrives.

use std::{fmt, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::read::Reader;
use crate::model::Vni;

/// What the Linux bridge agent takes when nothing is said.
const DEFAULT_GROUP: &str = "224.0.0.1";

/// Which multicast group a network has (`[vxlan] vxlan_group`, `multicast_ranges`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MulticastGroups {
    ranges: Vec<Range>,
    others: IpNet,
}

/// Networks whose groups are in a prefix of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: Vni,
    last: Vni,
    groups: IpNet,
}

impl MulticastGroups {
    /// The group of a network: the first range that holds its VNI decides on the prefix, the VNI on the rest of the address.
    pub fn group(&self, vni: Vni) -> IpAddr {
        let range = self.ranges.iter().find(|range| (range.first..=range.last).contains(&vni));
        match range.map_or(self.others, |range| range.groups) {
            IpNet::V4(prefix) => {
                IpAddr::from((prefix.network().to_bits() | vni.get() & prefix.hostmask().to_bits()).to_be_bytes())
            }
            IpNet::V6(prefix) => {
                let host = u128::from(vni.get()) & prefix.hostmask().to_bits();
                IpAddr::from((prefix.network().to_bits() | host).to_be_bytes())
            }
        }
    }
}

impl fmt::Display for MulticastGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Range { first, last, groups } in &self.ranges {
            write!(f, "{groups} for VNIs {first} to {last}, ")?;
        }
        write!(f, "{}", self.others)
    }
}

impl Reader<'_> {
    /// The groups, when hosts are to find each other by multicast; `are_told` is what counts where nothing is said.
    pub(super) fn multicast(&mut self, are_told: bool, local_ip: Option<IpAddr>) -> Option<MulticastGroups> {
        if self.boolean("vxlan", "l2_population", are_told) {
            return None;
        }
        let is_empty = self.entry("vxlan", "vxlan_group").is_some() && self.text("vxlan", "vxlan_group").is_none();
        if is_empty {
            self.problem("vxlan", "vxlan_group", "is empty: without l2_population, hosts find each other by a group");
            return None;
        }
        let text = self.text("vxlan", "vxlan_group").unwrap_or_else(|| DEFAULT_GROUP.to_owned());
        let others = self.groups("vxlan_group", &text, local_ip);
        let ranges = self.text("vxlan", "multicast_ranges").unwrap_or_default();
        let items = ranges.split(',').map(str::trim).filter(|item| !item.is_empty());
        let ranges = items.filter_map(|item| self.range(item, local_ip)).collect();
        Some(MulticastGroups { ranges, others: others? })
    }

    /// `group:first:last`; the group may be a prefix, and have colons.
    fn range(&mut self, item: &str, local_ip: Option<IpAddr>) -> Option<Range> {
        let mut parts = item.rsplitn(3, ':');
        let vni = |text: Option<&str>| Vni::try_from(text?.trim().parse::<u32>().ok()?).ok();
        let (last, first, groups) = (vni(parts.next()), vni(parts.next()), parts.next());
        let (Some(last), Some(first), Some(groups)) = (last, first, groups) else {
            let expected = "expected group:first VNI:last VNI, VNIs up to 16777215";
            self.problem("vxlan", "multicast_ranges", format_args!("{item:?}: {expected}"));
            return None;
        };
        if first > last {
            self.problem("vxlan", "multicast_ranges", format_args!("{item:?}: VNI {first} comes after {last}"));
            return None;
        }
        Some(Range { first, last, groups: self.groups("multicast_ranges", groups.trim(), local_ip)? })
    }

    fn groups(&mut self, option: &str, text: &str, local_ip: Option<IpAddr>) -> Option<IpNet> {
        let address = |text: &str| text.parse().ok().map(single);
        let Some(groups) = text.parse::<IpNet>().ok().or_else(|| address(text)) else {
            self.problem("vxlan", option, format_args!("{text:?}: expected a multicast address or a prefix of them"));
            return None;
        };
        if !groups.network().is_multicast() || !groups.broadcast().is_multicast() {
            self.problem("vxlan", option, format_args!("{text:?}: not multicast"));
            return None;
        }
        if let Some(local_ip) = local_ip.filter(|local_ip| local_ip.is_ipv4() != groups.addr().is_ipv4()) {
            self.problem("vxlan", option, format_args!("{text:?}: local_ip {local_ip} is of the other family"));
            return None;
        }
        Some(groups)
    }
}

fn single(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(address) => Ipv4Net::from(address).into(),
        IpAddr::V6(address) => Ipv6Net::from(address).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read::tests::{MINIMAL, read};

    fn group(options: &str, vni: u32) -> String {
        let (config, _) = read(&format!("[vxlan]\nl2_population = false\n{options}\n{MINIMAL}")).expect("valid");
        config.multicast.expect("on").group(Vni::try_from(vni).expect("small")).to_string()
    }

    #[test]
    fn a_network_has_the_group_that_its_vni_says_within_its_prefix() {
        assert_eq!(group("", 10), "224.0.0.1");
        assert_eq!(group("vxlan_group = 239.1.1.0/24", 0x010a), "239.1.1.10");
        let ranges = "vxlan_group = 239.9.9.9\nmulticast_ranges = 239.1.0.0/16:100:199, 239.2.0.1:200:299";
        assert_eq!(group(ranges, 100), "239.1.0.100");
        assert_eq!(group(ranges, 299), "239.2.0.1");
        assert_eq!(group(ranges, 300), "239.9.9.9");
    }

    #[test]
    fn members_are_told_unless_l2_population_is_off() {
        assert_eq!(read(MINIMAL).expect("valid").0.multicast, None);
        assert_eq!(read(&format!("[vxlan]\nvxlan_group = 239.1.1.1\n{MINIMAL}")).expect("valid").0.multicast, None);
    }

    #[test]
    fn what_cannot_be_a_group_is_refused() {
        for (options, expected) in [
            ("vxlan_group =", "vxlan_group: is empty"),
            ("vxlan_group = 10.0.0.1", "\"10.0.0.1\": not multicast"),
            ("vxlan_group = 224.0.0.0/2", "not multicast"),
            ("vxlan_group = everybody", "expected a multicast address"),
            ("vxlan_group = ff05::1", "local_ip 10.0.0.1 is of the other family"),
            ("multicast_ranges = 239.0.0.1:5", "expected group:first VNI:last VNI"),
            ("multicast_ranges = 239.0.0.1:9:16777216", "VNIs up to 16777215"),
            ("multicast_ranges = 239.0.0.1:9:5", "VNI 9 comes after 5"),
        ] {
            let problems = read(&format!("[vxlan]\nl2_population = false\n{options}\n{MINIMAL}")).expect_err(options);
            assert!(problems.len() == 1 && problems[0].contains(expected), "{options}: {problems:#?}");
        }
    }

    #[test]
    fn a_wrong_group_is_reported_beside_a_wrong_endpoint() {
        let text =
            "[vxlan]\nlocal_ip = here\nl2_population = false\nvxlan_group = 10.0.0.1\n[overlane]\ntopology = t\n";
        let problems = read(text).expect_err("both are wrong");
        assert_eq!(problems.len(), 2, "{problems:#?}");
    }
}
