//! DHCP servers: the options of Neutron's DHCP agent, under its names and with its defaults.

use std::{net::IpAddr, num::NonZeroU32, path::PathBuf};

use super::read::Reader;

/// What is used of `[DEFAULT]` in a `dhcp_agent.ini`.
pub(super) const OPTIONS: &[&str] = &[
    "dhcp_lease_duration",
    "dhcp_renewal_time",
    "dhcp_rebinding_time",
    "dhcp_broadcast_reply",
    "dns_domain",
    "dnsmasq_config_file",
    "dnsmasq_dns_servers",
    "dnsmasq_lease_max",
    "dnsmasq_local_resolv",
    "enable_isolated_metadata",
    "force_metadata",
];
const DEFAULT_LEASE_SECS: NonZeroU32 = NonZeroU32::new(86_400).expect("not zero");
const DEFAULT_LEASES_MAX: u32 = 1 << 24;
const DEFAULT_DOMAIN: &str = "openstacklocal";

/// How DHCP servers are set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhcpConfig {
    /// How long a lease lasts (`dhcp_lease_duration`, in seconds); `None` (-1): for ever.
    pub lease_secs: Option<NonZeroU32>,
    /// When a client renews (`dhcp_renewal_time`, in seconds); 0 leaves it to dnsmasq: after half of the lease.
    pub renewal_secs: u32,
    /// When a client asks any server (`dhcp_rebinding_time`, in seconds); 0 leaves it to dnsmasq: after 7/8 of the lease.
    pub rebinding_secs: u32,
    /// Whether answers are broadcast (`dhcp_broadcast_reply`).
    pub has_broadcast_replies: bool,
    /// The domain of machines whose network has none (`dns_domain`); may be empty.
    pub domain: String,
    /// Something for dnsmasq to read besides (`dnsmasq_config_file`).
    pub config_file: Option<PathBuf>,
    /// Who is asked for names that are not the network's (`dnsmasq_dns_servers`).
    pub dns_servers: Vec<IpAddr>,
    /// The most leases of a network (`dnsmasq_lease_max`).
    pub leases_max: u32,
    /// Whether the host's own resolvers are asked as well (`dnsmasq_local_resolv`).
    pub uses_local_resolvers: bool,
    /// Whether networks without a router find the metadata service at the DHCP server (`enable_isolated_metadata`).
    pub has_isolated_metadata: bool,
    /// Whether those with a router do so, too (`force_metadata`).
    pub forces_metadata: bool,
}

impl Reader<'_> {
    /// Reads the options.
    pub(super) fn dhcp(&mut self) -> DhcpConfig {
        let seconds = "a number of seconds";
        let default = DhcpConfig::default();
        let lease_secs = match self.text("DEFAULT", "dhcp_lease_duration").as_deref() {
            Some("-1") => None,
            _ => Some(
                self.parsed("DEFAULT", "dhcp_lease_duration", "a number of seconds, or -1 for ever")
                    .unwrap_or(DEFAULT_LEASE_SECS),
            ),
        };
        let domain = self.text("DEFAULT", "dns_domain").unwrap_or(default.domain);
        let domain = domain.trim_end_matches('.').to_owned();
        if !is_domain_name(&domain) {
            self.problem("DEFAULT", "dns_domain", "expected a domain name");
        }
        let config_file = self.text("DEFAULT", "dnsmasq_config_file").map(PathBuf::from);
        if config_file.as_ref().is_some_and(|file| !file.is_absolute()) {
            self.problem("DEFAULT", "dnsmasq_config_file", "must be an absolute path");
        }
        let servers = self.text("DEFAULT", "dnsmasq_dns_servers").unwrap_or_default();
        let servers: Vec<Result<IpAddr, _>> =
            servers.split(',').map(str::trim).filter(|server| !server.is_empty()).map(str::parse).collect();
        if servers.iter().any(Result::is_err) {
            self.problem("DEFAULT", "dnsmasq_dns_servers", "expected addresses, separated by commas");
        }
        DhcpConfig {
            lease_secs,
            renewal_secs: self.parsed("DEFAULT", "dhcp_renewal_time", seconds).unwrap_or(default.renewal_secs),
            rebinding_secs: self.parsed("DEFAULT", "dhcp_rebinding_time", seconds).unwrap_or(default.rebinding_secs),
            has_broadcast_replies: self.boolean("DEFAULT", "dhcp_broadcast_reply", default.has_broadcast_replies),
            domain,
            config_file,
            dns_servers: servers.into_iter().flatten().collect(),
            leases_max: self.parsed("DEFAULT", "dnsmasq_lease_max", "a number").unwrap_or(default.leases_max),
            uses_local_resolvers: self.boolean("DEFAULT", "dnsmasq_local_resolv", default.uses_local_resolvers),
            has_isolated_metadata: self.boolean("DEFAULT", "enable_isolated_metadata", default.has_isolated_metadata),
            forces_metadata: self.boolean("DEFAULT", "force_metadata", default.forces_metadata),
        }
    }
}

impl Default for DhcpConfig {
    fn default() -> Self {
        Self {
            lease_secs: Some(DEFAULT_LEASE_SECS),
            renewal_secs: 0,
            rebinding_secs: 0,
            has_broadcast_replies: false,
            domain: DEFAULT_DOMAIN.to_owned(),
            config_file: None,
            dns_servers: Vec::new(),
            leases_max: DEFAULT_LEASES_MAX,
            uses_local_resolvers: false,
            // As Debian configures Neutron's DHCP agent.
            has_isolated_metadata: true,
            forces_metadata: false,
        }
    }
}

/// Whether a text can be the domain of machines (RFC 1123 §2.1, and underscores as they are in use), or is none at all.
pub(crate) fn is_domain_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.is_empty() || (text.len() <= 253 && text.split('.').all(is_label))
}

#[cfg(test)]
mod tests {
    use super::super::read::tests::{MINIMAL, read};

    #[test]
    fn the_options_of_a_dhcp_agent_ini_are_read() {
        let text = "[DEFAULT]\ndhcp_lease_duration = -1\ndnsmasq_dns_servers = 192.0.2.1, 2001:db8::1\ndns_domain = a.example.\n\
                    force_metadata = True\ndhcp_renewal_time = 60\n";
        let dhcp = read(&format!("{text}{MINIMAL}")).expect("valid").0.services.dhcp;
        assert_eq!((dhcp.lease_secs, dhcp.renewal_secs, dhcp.domain.as_str()), (None, 60, "a.example"));
        assert_eq!(dhcp.dns_servers.len(), 2);
        assert!(dhcp.forces_metadata && dhcp.has_isolated_metadata);
    }

    #[test]
    fn what_is_wrong_with_them_is_reported_with_its_line() {
        let text = "[DEFAULT]\ndhcp_lease_duration = 0\ndnsmasq_dns_servers = one, 192.0.2.1\ndns_domain = a b\n\
                    dnsmasq_config_file = here\n";
        assert_eq!(
            read(&format!("{text}{MINIMAL}")).expect_err("invalid"),
            [
                "/etc/o/a.ini:2: [DEFAULT] dhcp_lease_duration = 0: expected a number of seconds, or -1 for ever",
                "/etc/o/a.ini:4: [DEFAULT] dns_domain = a b: expected a domain name",
                "/etc/o/a.ini:5: [DEFAULT] dnsmasq_config_file = here: must be an absolute path",
                "/etc/o/a.ini:3: [DEFAULT] dnsmasq_dns_servers = one, 192.0.2.1: expected addresses, separated by commas",
            ]
        );
    }
}
