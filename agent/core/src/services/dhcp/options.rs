//! What machines are told: by subnet, and by port.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{
    ANY_IPV4, METADATA, Server, dhcpv6_mode,
    hosts::{CLIENT_ID, tag_of_port},
    tag_of,
};
use crate::topology::{ExtraDhcpOption, Ipv6Mode, Role, Subnet};

/// Classless static routes by the number that Windows asked for before RFC 3442 had one.
const MICROSOFT_STATIC_ROUTES: &str = "249";

impl Server<'_> {
    pub(super) fn opts_file(&self) -> String {
        let mut text = String::new();
        for subnet in self.served() {
            match subnet.cidr.addr() {
                IpAddr::V4(_) => self.write_ipv4(subnet, &mut text),
                IpAddr::V6(_) => self.write_ipv6(subnet, &mut text),
            }
        }
        self.write_ports(&mut text);
        text
    }

    fn write_ipv4(&self, subnet: &Subnet, text: &mut String) {
        let tag = tag_of(subnet.id);
        self.write_name_servers(subnet, "option:dns-server", text);
        let default = subnet.host_routes.iter().find(|route| route.destination == ANY_IPV4);
        let gateway = subnet.gateway_ip.or(default.map(|route| route.nexthop));
        let routes = self.static_routes(subnet, gateway);
        if !routes.is_empty() {
            // Who understands these looks at no other option for the default route (RFC 3442).
            let default = gateway.map(|gateway| format!("{ANY_IPV4},{gateway}"));
            let routes: Vec<String> = routes.into_iter().chain(default).collect();
            let routes = routes.join(",");
            let _ = writeln!(text, "tag:{tag},option:classless-static-route,{routes}");
            let _ = writeln!(text, "tag:{tag},{MICROSOFT_STATIC_ROUTES},{routes}");
        }
        // Nothing behind it means that there is none; dnsmasq would otherwise name itself.
        let gateway = gateway.map_or_else(String::new, |gateway| format!(",{gateway}"));
        let _ = writeln!(text, "tag:{tag},option:router{gateway}");
    }

    /// The subnet's routes, that to the metadata service, and the network's other subnets, which are on the link.
    fn static_routes(&self, subnet: &Subnet, gateway: Option<IpAddr>) -> Vec<String> {
        let own = subnet.host_routes.iter().filter(|route| route.destination != ANY_IPV4);
        let own = own.map(|route| format!("{},{}", route.destination, route.nexthop));
        let metadata = self.metadata_hop(subnet, gateway).map(|hop| format!("{METADATA}/32,{hop}"));
        let others = self.network.subnets.iter().filter(|other| other.id != subnet.id && other.cidr.addr().is_ipv4());
        let others = others.map(|other| format!("{},{}", other.cidr.trunc(), Ipv4Addr::UNSPECIFIED));
        own.chain(metadata).chain(others).collect()
    }

    /// By whom machines reach the metadata service.
    fn metadata_hop(&self, subnet: &Subnet, gateway: Option<IpAddr>) -> Option<IpAddr> {
        let dhcp = &self.config.services.dhcp;
        let is_isolated = self.is_isolated(subnet);
        if dhcp.forces_metadata || (is_isolated && dhcp.has_isolated_metadata) {
            return self.address_in(subnet);
        }
        gateway.filter(|_| !is_isolated)
    }

    fn write_ipv6(&self, subnet: &Subnet, text: &mut String) {
        let is_served = matches!(dhcpv6_mode(subnet), Some(Ipv6Mode::DhcpStateful | Ipv6Mode::DhcpStateless));
        if !is_served {
            return;
        }
        self.write_name_servers(subnet, "option6:dns-server", text);
        if !self.domain().is_empty() {
            let _ = writeln!(text, "tag:{},option6:domain-search,{}", tag_of(subnet.id), self.domain());
        }
    }

    /// Those of the subnet; else all DHCP servers, which dnsmasq knows for itself when it is the only one.
    fn write_name_servers(&self, subnet: &Subnet, option: &str, text: &mut String) {
        let tag = tag_of(subnet.id);
        let is_none = |server: &IpAddr| *server == Ipv4Addr::UNSPECIFIED || *server == Ipv6Addr::UNSPECIFIED;
        let given: Vec<IpAddr> = match subnet.dns_nameservers.as_slice() {
            [] => {
                let servers = self.ports.iter().filter(|port| self.topology.role(port) == Role::Dhcp);
                let addresses = servers.flat_map(|port| port.fixed_ips.iter().copied());
                let servers: Vec<IpAddr> = addresses.filter(|address| subnet.cidr.contains(address)).collect();
                if servers.len() < 2 {
                    return;
                }
                servers
            }
            [none] if is_none(none) => {
                let _ = writeln!(text, "tag:{tag},{option}");
                return;
            }
            given => given.to_vec(),
        };
        let of_family = given.iter().filter(|server| server.is_ipv4() == subnet.cidr.addr().is_ipv4());
        let servers: String = of_family.map(|server| format!(",{}", literal(*server))).collect();
        let _ = writeln!(text, "tag:{tag},{option}{servers}");
    }

    fn write_ports(&self, text: &mut String) {
        for port in self.ports {
            let has_family =
                |option: &&ExtraDhcpOption| port.fixed_ips.iter().any(|address| address.is_ipv6() == option.is_ipv6);
            let own = port.extra_dhcp_opts.iter().filter(|option| option.opt_name != CLIENT_ID).filter(has_family);
            for option in own {
                let _ = writeln!(text, "tag:{},{},{}", tag_of_port(port), option_name(option), option.opt_value);
            }
        }
    }
}

/// dnsmasq reads a number of IPv4 as it is; all others need their family.
fn option_name(ExtraDhcpOption { opt_name, is_ipv6, .. }: &ExtraDhcpOption) -> String {
    let is_number = opt_name.bytes().all(|byte| byte.is_ascii_digit());
    match (is_ipv6, is_number) {
        (true, _) => format!("option6:{opt_name}"),
        (false, true) => opt_name.clone(),
        (false, false) => format!("option:{opt_name}"),
    }
}

fn literal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
