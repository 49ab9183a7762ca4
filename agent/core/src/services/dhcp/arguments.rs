//! dnsmasq's arguments.

use std::fmt::Display;

use ipnet::IpNet;

use super::{PROGRAM, Server, dhcpv6_mode, files, tag_of};
use crate::topology::{Ipv6Mode, Subnet};

/// Addresses of IPv6 are given out, or made, in prefixes that are not longer than a link's (RFC 4291 §2.5.1).
const IPV6_PREFIX_MIN: u8 = 64;
/// How often a prefix is advertised, and for how long the advertiser is a router: it is none.
const ADVERTISEMENTS: &str = "60,0";

impl Server<'_> {
    pub(super) fn arguments(&self) -> Vec<String> {
        let dhcp = &self.config.services.dhcp;
        let file = |name: &str| self.folder().join(name).display().to_string();
        let mut args: Vec<String> = vec![
            // The agent is its parent and misses it. What it has to say goes to the system's log, which is bounded.
            "--keep-in-foreground".to_owned(),
            "--no-hosts".to_owned(),
        ];
        if !dhcp.uses_local_resolvers {
            args.push("--no-resolv".to_owned());
        }
        args.extend([
            format!("--pid-file={}", file("pid")),
            format!("--dhcp-hostsfile={}", file(files::HOST)),
            format!("--addn-hosts={}", file(files::ADDN_HOSTS)),
            format!("--dhcp-optsfile={}", file(files::OPTS)),
            format!("--dhcp-leasefile={}", file(files::LEASES)),
            "--dhcp-match=set:ipxe,175".to_owned(),
            "--dhcp-userclass=set:ipxe6,iPXE".to_owned(),
            "--local-service".to_owned(),
            "--bind-dynamic".to_owned(),
        ]);
        args.extend(self.served().flat_map(|subnet| self.range(subnet)));
        args.push(format!("--dhcp-option-force=option:mtu,{}", self.topology.mtu_of(self.network)));
        args.push(format!("--dhcp-lease-max={}", self.leases_max()));
        let mut seconds = |name: &str, seconds: u32| {
            if seconds > 0 {
                args.push(format!("--dhcp-option-force=option:{name},{seconds}s"));
            }
        };
        seconds("T1", dhcp.renewal_secs);
        seconds("T2", dhcp.rebinding_secs);
        let config_file =
            dhcp.config_file.as_ref().map_or_else(|| "/dev/null".to_owned(), |file| file.display().to_string());
        args.push(format!("--conf-file={config_file}"));
        args.extend(dhcp.dns_servers.iter().map(|server| format!("--server={server}")));
        if !self.domain().is_empty() {
            args.push(format!("--domain={}", self.domain()));
        }
        if dhcp.has_broadcast_replies {
            args.push("--dhcp-broadcast".to_owned());
        }
        args.extend(self.advertisements());
        args
    }

    /// How many leases it keeps at most.
    pub(super) fn leases_max(&self) -> u32 {
        let sizes = self.served().filter(|subnet| !self.range(subnet).is_empty()).map(|subnet| size(&subnet.cidr));
        let all = sizes.fold(0, u128::saturating_add);
        u32::try_from(all).unwrap_or(u32::MAX).min(self.config.services.dhcp.leases_max)
    }

    /// Whether machines of a subnet get their addresses of it.
    pub(super) fn gives_out_addresses(&self, subnet: &Subnet) -> bool {
        let is_by_dhcp = subnet.cidr.addr().is_ipv4() || dhcpv6_mode(subnet) == Some(Ipv6Mode::DhcpStateful);
        is_by_dhcp && !self.range(subnet).is_empty()
    }

    /// What makes it serve a subnet; nothing where machines need nothing of it.
    fn range(&self, subnet: &Subnet) -> Vec<String> {
        let (tag, network) = (tag_of(subnet.id), subnet.cidr.network());
        let lease: &dyn Display = match &self.config.services.dhcp.lease_secs {
            Some(seconds) => &format!("{seconds}s"),
            None => &"infinite",
        };
        let range = match subnet.cidr {
            IpNet::V4(cidr) => format!("--dhcp-range=set:{tag},{network},static,{},{lease}", cidr.netmask()),
            IpNet::V6(cidr) => {
                let Some(mode) = self.ipv6_range(subnet).filter(|_| cidr.prefix_len() >= IPV6_PREFIX_MIN) else {
                    return Vec::new();
                };
                format!("--dhcp-range=set:{tag},{network},{mode},{},{lease}", cidr.prefix_len())
            }
        };
        // It serves the subnets that it has an address in; of others it has to be told that they are on the link.
        let share = self.address_in(subnet).is_none();
        let share = share.then(|| format!("--shared-network={},{network}", self.link_name()));
        [range].into_iter().chain(share).collect()
    }

    /// dnsmasq's word for what it does in a subnet of IPv6.
    fn ipv6_range(&self, subnet: &Subnet) -> Option<&'static str> {
        let advertised = subnet.ipv6_ra_mode.filter(|_| self.advertises(subnet));
        match (dhcpv6_mode(subnet), advertised) {
            (Some(Ipv6Mode::DhcpStateless), Some(_)) => Some("ra-stateless"),
            (Some(_), _) => Some("static"),
            (None, Some(Ipv6Mode::Slaac)) => Some("ra-only"),
            (None, _) => None,
        }
    }

    fn advertisements(&self) -> Vec<String> {
        if !self.served().any(|subnet| self.advertises(subnet)) {
            return Vec::new();
        }
        // Only this says that addresses come from DHCPv6.
        let is_stateful =
            |subnet: &Subnet| subnet.ipv6_ra_mode == Some(Ipv6Mode::DhcpStateful) && self.advertises(subnet);
        let enable = self.served().any(is_stateful).then(|| "--enable-ra".to_owned());
        enable.into_iter().chain([format!("--ra-param={},{ADVERTISEMENTS}", self.link_name())]).collect()
    }
}

/// How many addresses there are.
fn size(cidr: &IpNet) -> u128 {
    1_u128.checked_shl(u32::from(cidr.max_prefix_len() - cidr.prefix_len())).unwrap_or(u128::MAX)
}

/// Reads what `dnsmasq --version` says: major and minor number.
pub fn parse_version(text: &str) -> Option<(u32, u32)> {
    let version = text.split_whitespace().skip_while(|word| *word != "version").nth(1)?;
    let mut numbers = version.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Why a dnsmasq of this version cannot be used.
pub fn why_too_old(version: (u32, u32)) -> Option<String> {
    let ((major, minor), (least_major, least_minor)) = (version, super::VERSION_MIN);
    (version < super::VERSION_MIN).then(|| {
        format!(
            "{PROGRAM} {major}.{minor} is too old: {least_major}.{least_minor} or newer is needed (Debian 12 has one)"
        )
    })
}
