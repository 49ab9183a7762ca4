//! Who gets which address and name.

use std::{fmt::Write as _, net::IpAddr};

use super::{Server, dhcpv6_mode};
use crate::{
    model::Mac,
    topology::{Ipv6Mode, Port, Role, Subnet},
};

/// The name by which Neutron's extra DHCP options say how a machine calls itself; it is part of the reservation.
pub(super) const CLIENT_ID: &str = "client-id";

/// A port that a DHCP server knows.
pub(super) struct Host<'s, 'a> {
    server: &'s Server<'a>,
    port: &'a Port,
}

impl<'a> Server<'a> {
    /// The ports that the server knows: all but routers', which never ask.
    pub(super) fn hosts(&self) -> impl Iterator<Item = Host<'_, 'a>> {
        let asks = |port: &&&'a Port| !matches!(self.topology.role(port), Role::RouterInterface | Role::Gateway);
        self.ports.iter().filter(asks).map(|port| Host { server: self, port })
    }

    /// The reservations: `<MAC>[,tag:dhcpv6][,id:<client>],<name>,<address>[,set:port-<id>]`.
    pub(super) fn host_file(&self) -> String {
        let mut text = String::new();
        self.hosts().for_each(|host| host.write_reservations(&mut text));
        text
    }

    /// The names, the full one first: that is what an address is called.
    pub(super) fn addn_hosts_file(&self) -> String {
        let mut text = String::new();
        for host in self.hosts() {
            for address in &host.port.fixed_ips {
                let (name, domain) = (host.name(*address), self.domain());
                let separator = if domain.is_empty() { "" } else { "." };
                let _ = writeln!(text, "{address}\t{name}{separator}{domain} {name}");
            }
        }
        text
    }
}

impl Host<'_, '_> {
    pub(super) const fn mac(&self) -> Mac {
        self.port.mac_address
    }

    /// The addresses that it can get of the server.
    pub(super) fn leased(&self) -> impl Iterator<Item = IpAddr> {
        self.port.fixed_ips.iter().copied().filter(|address| {
            let subnet = self.served_subnet(*address);
            subnet.is_some_and(|subnet| address.is_ipv4() || dhcpv6_mode(subnet) == Some(Ipv6Mode::DhcpStateful))
        })
    }

    fn served_subnet(&self, address: IpAddr) -> Option<&Subnet> {
        self.server.subnet_of(address).filter(|subnet| subnet.enable_dhcp)
    }

    fn write_reservations(&self, text: &mut String) {
        let (mac, port) = (self.port.mac_address, self.port);
        let has_options = |is_ipv6| {
            port.extra_dhcp_opts.iter().any(|option| option.is_ipv6 == is_ipv6 && option.opt_name != CLIENT_ID)
        };
        let tag = |is_ipv6| if has_options(is_ipv6) { format!(",set:{}", tag_of_port(port)) } else { String::new() };
        let client = port.extra_dhcp_opts.iter().find(|option| option.opt_name == CLIENT_ID);
        let client = client.map_or_else(String::new, |option| format!(",id:{}", option.opt_value));
        for address in self.leased().filter(IpAddr::is_ipv4) {
            let _ = writeln!(text, "{mac}{client},{},{address}{}", self.full_name(address), tag(false));
        }
        // One reservation with all of them: of several, a client would get the first one's only.
        let ipv6: Vec<IpAddr> = self.leased().filter(IpAddr::is_ipv6).collect();
        if let Some(first) = ipv6.first() {
            let all: String = ipv6.iter().map(|address| format!(",[{address}]")).collect();
            let _ = writeln!(text, "{mac},tag:dhcpv6,{}{all}{}", self.full_name(*first), tag(true));
        } else if has_options(true) && self.has_stateless_address() {
            let _ = writeln!(text, "{mac},tag:dhcpv6{}", tag(true));
        }
    }

    fn has_stateless_address(&self) -> bool {
        let is_stateless = |address: &IpAddr| {
            let subnet = self.served_subnet(*address).filter(|_| address.is_ipv6());
            subnet.is_some_and(|subnet| dhcpv6_mode(subnet) == Some(Ipv6Mode::DhcpStateless))
        };
        self.port.fixed_ips.iter().any(is_stateless)
    }

    fn full_name(&self, address: IpAddr) -> String {
        match self.server.domain() {
            "" => self.name(address),
            domain => format!("{}.{domain}", self.name(address)),
        }
    }

    /// The name that it has been given, or Neutron's for its address.
    fn name(&self, address: IpAddr) -> String {
        self.port.dns_name.clone().unwrap_or_else(|| format!("host-{}", address.to_string().replace(['.', ':'], "-")))
    }
}

/// Sets apart what only one port is told.
pub(super) fn tag_of_port(port: &Port) -> String {
    format!("port-{}", port.id)
}
