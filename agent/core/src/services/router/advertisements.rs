//! Router advertisements (RFC 4861), by radvd as Neutron has it: it reads another configuration without being started anew, and
//! can tell the way to the metadata service.

use std::{fmt::Write, net::IpAddr};

use super::{
    super::{FileSpec, OnChange, ProcessName, ProcessSpec},
    METADATA_IPV6,
    interface::Interface,
};
use crate::{
    config::Config,
    topology::{Ipv6Mode, Router, Subnet, Topology},
};

const PROGRAM: &str = "radvd";
const FILE: &str = "radvd.conf";
/// How often a router speaks unasked, in seconds (Neutron's defaults).
const INTERVAL_SECS: [u32; 2] = [30, 100];

/// The program that advertises a router; `None` when none of its subnets says how machines should get their addresses of IPv6.
pub(super) fn process(
    topology: &Topology,
    router: &Router,
    interfaces: &[Interface<'_>],
    config: &Config,
) -> Option<(ProcessName, ProcessSpec)> {
    let texts: Vec<String> = interfaces
        .iter()
        .filter(|interface| !interface.is_gateway)
        .filter_map(|each| interface(each, topology.mtu_of(each.network)))
        .collect();
    if texts.is_empty() {
        return None;
    }
    let folder = config.services.state_path.join("ra").join(router.id.to_string());
    let path = |file: &str| folder.join(file).display().to_string();
    // Machines can have it say something for every packet of theirs, and the system's log has limits.
    let arguments = ["--nodaemon", "--config", &path(FILE), "--pidfile", &path("pid"), "--logmethod", "syslog"];
    let file = FileSpec { text: texts.concat(), on_change: OnChange::Reload, is_secret: false };
    let spec = ProcessSpec {
        program: PROGRAM.to_owned(),
        args: arguments.map(str::to_owned).to_vec(),
        files: [(FILE.to_owned(), file)].into(),
        folder,
    };
    Some((ProcessName { program: PROGRAM.to_owned(), of: router.id.to_string() }, spec))
}

fn interface(interface: &Interface<'_>, mtu: u32) -> Option<String> {
    let advertised = interface.subnets().filter_map(|subnet| Some((subnet, subnet.ipv6_ra_mode?)));
    let subnets: Vec<(&Subnet, Ipv6Mode)> = advertised.collect();
    if subnets.is_empty() {
        return None;
    }
    let [least, most] = INTERVAL_SECS;
    let has = |mode| subnets.iter().any(|(_, other)| *other == mode);
    let mut text = format!(
        "interface {} {{\n  AdvSendAdvert on;\n  MinRtrAdvInterval {least};\n  MaxRtrAdvInterval {most};\n  AdvLinkMTU {mtu};\n",
        interface.link
    );
    // An interface has another link-local address as well, which is not its alone: where machines find the metadata service.
    let _ = writeln!(text, "  AdvRASrcAddress {{ {}; }};", interface.port.mac_address.link_local());
    if has(Ipv6Mode::DhcpStateful) {
        text += "  AdvManagedFlag on;\n";
    }
    if has(Ipv6Mode::DhcpStateless) {
        text += "  AdvOtherConfigFlag on;\n";
    }
    for (subnet, mode) in &subnets {
        let autonomous = if *mode == Ipv6Mode::DhcpStateful { "off" } else { "on" };
        let prefix = subnet.cidr.trunc();
        // Writing to a text cannot fail.
        let _ = writeln!(text, "  prefix {prefix} {{\n    AdvOnLink on;\n    AdvAutonomous {autonomous};\n  }};");
    }
    let servers = subnets.iter().flat_map(|(subnet, _)| &subnet.dns_nameservers).filter(|server| server.is_ipv6());
    let servers: Vec<String> = servers.map(IpAddr::to_string).collect();
    if !servers.is_empty() {
        let _ = writeln!(text, "  RDNSS {} {{}};", servers.join(" "));
    }
    let _ = writeln!(text, "  route {METADATA_IPV6}/128 {{}};\n}};");
    Some(text)
}
