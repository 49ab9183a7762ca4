//! The names by which dnsmasq knows DHCP options: those of 2.90, from `dnsmasq --help dhcp` and `dnsmasq --help dhcp6`. What has no
//! name has a number (the registries of IANA).

/// How a machine calls itself: part of its reservation, and no option that it is told.
pub(super) const CLIENT_ID: &str = "client-id";

const IPV4: &[&str] = &[
    "netmask",
    "time-offset",
    "router",
    "dns-server",
    "log-server",
    "lpr-server",
    "boot-file-size",
    "domain-name",
    "swap-server",
    "root-path",
    "extension-path",
    "ip-forward-enable",
    "non-local-source-routing",
    "policy-filter",
    "max-datagram-reassembly",
    "default-ttl",
    "mtu",
    "all-subnets-local",
    "router-discovery",
    "router-solicitation",
    "static-route",
    "trailer-encapsulation",
    "arp-timeout",
    "ethernet-encap",
    "tcp-ttl",
    "tcp-keepalive",
    "nis-domain",
    "nis-server",
    "ntp-server",
    "netbios-ns",
    "netbios-dd",
    "netbios-nodetype",
    "netbios-scope",
    "x-windows-fs",
    "x-windows-dm",
    "T1",
    "T2",
    "vendor-class",
    "nis+-domain",
    "nis+-server",
    "tftp-server",
    "bootfile-name",
    "mobile-ip-home",
    "smtp-server",
    "pop3-server",
    "nntp-server",
    "irc-server",
    "user-class",
    "rapid-commit",
    "client-arch",
    "client-interface-id",
    "client-machine-id",
    "posix-timezone",
    "tzdb-timezone",
    "ipv6-only",
    "domain-search",
    "sip-server",
    "classless-static-route",
    "vendor-id-encap",
    "tftp-server-address",
    "server-ip-address",
];
const IPV6: &[&str] = &[
    "sip-server-domain",
    "sip-server",
    "dns-server",
    "domain-search",
    "nis-server",
    "nis+-server",
    "nis-domain",
    "nis+-domain",
    "sntp-server",
    "information-refresh-time",
    "posix-timezone",
    "tzdb-timezone",
    "ntp-server",
    "bootfile-url",
    "bootfile-param",
];
/// The numbers of DHCP (RFC 2132 §2), and of DHCPv6 (RFC 8415 §21.1).
const NUMBER_MAX: u16 = 254;
const NUMBER_MAX_IPV6: u16 = u16::MAX;

/// Whether dnsmasq knows an option by this name or number.
pub(super) fn is_known(name: &str, is_ipv6: bool) -> bool {
    let (names, max) = if is_ipv6 { (IPV6, NUMBER_MAX_IPV6) } else { (IPV4, NUMBER_MAX) };
    let is_number = name.parse().is_ok_and(|number: u16| (1..=max).contains(&number));
    is_number || names.contains(&name) || name == CLIENT_ID
}
