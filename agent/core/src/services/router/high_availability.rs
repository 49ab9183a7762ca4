//! What makes a router on several hosts one: keepalived, which adds its addresses and routes on the active host and tells the
//! neighbours (VRRP, RFC 5798).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net};

use super::{
    super::{Activity, FileSpec, LinkSpec, NamespaceSpec, NextHop, OnChange, ProcessName, ProcessSpec, RouteSpec},
    ADDRESS_GENERATION, LINK_LOCAL_PREFIX_LEN,
};
use crate::{
    config::Config,
    model::Mac,
    topology::{HA_SUBNET, Port, Router, Topology},
};

/// The program.
pub const KEEPALIVED: &str = "keepalived";
const FILE: &str = "keepalived.conf";
/// Where its folders are, below the state path (as Neutron has it).
pub(crate) const FOLDER: &str = "ha_confs";

/// The address that only the active host has, on the link that leads to the others; keepalived adds it before all others, and removes
/// it first.
const MARK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 1), 32);

/// How often the active host speaks, in seconds. Others wait three times as long, and up to one more, before one takes over.
const ADVERTISEMENT_SECS: u32 = 1;
/// The priority of the host that is named first; each that follows has one less.
const FIRST_PRIORITY: usize = 200;
/// The hosts of a router talk to each other and to nobody else, so that all routers may have the same id.
const VIRTUAL_ROUTER_ID: u32 = 1;
/// How long it takes until neighbours are told a second time, in seconds.
const AGAIN_SECS: u32 = 1;
/// How often they are told besides, in seconds: far more often than bridges and vxlan devices forget what they have learned (300), because
/// whoever has heard a host that was not active in between is wrong for so long.
const REFRESH_SECS: u32 = 10;

/// Parameters of the namespace besides those of every router. Whoever is not active must say nothing in its name: links do not
/// give themselves addresses.
pub(super) const PARAMETERS: &[(&str, &str)] = &[(ADDRESS_GENERATION, "1")];

/// Leaves the addresses and routes of a router to keepalived.
pub(super) fn replicate(spec: &mut NamespaceSpec, topology: &Topology, router: &Router, config: &Config) {
    let Some(own) = topology.ha_port(router.id, &config.host) else { return };
    for link in spec.links.values_mut() {
        link.moving = std::mem::take(&mut link.addresses);
        link.moving.insert(link_local(link.mac));
    }
    // Keepalived puts a route in front of the one that the kernel makes of an address; behind it, it would be of no use to anybody.
    let connected: BTreeSet<IpNet> =
        spec.links.values().flat_map(|link| &link.moving).map(|address| address.trunc()).collect();
    spec.routes.retain(|destination, _| !connected.contains(destination));
    let conf = configuration(spec, topology, router, own, &config.host);
    let (name, link) = ha_link(topology, own);
    spec.activity = Some(Activity { link: name.clone(), address: MARK.into() });
    spec.links.insert(name, link);
    let folder = config.services.state_path.join(FOLDER).join(router.id.to_string());
    let path = |file: &str| folder.join(file).display().to_string();
    let args = [
        "--dont-fork".to_owned(),
        "--log-console".to_owned(),
        "--no-syslog".to_owned(),
        "--vrrp".to_owned(),
        format!("--use-file={}", path(FILE)),
        format!("--pid={}", path("pid")),
        format!("--vrrp_pid={}", path("vrrp_pid")),
    ];
    let file = FileSpec { text: conf, on_change: OnChange::Reload, is_secret: false };
    let process = ProcessSpec {
        program: KEEPALIVED.to_owned(),
        args: args.into(),
        files: [(FILE.to_owned(), file)].into(),
        folder,
    };
    spec.processes.insert(ProcessName { program: KEEPALIVED.to_owned(), of: router.id.to_string() }, process);
}

/// The link to the other hosts, which is there on all of them.
fn ha_link(topology: &Topology, port: &Port) -> (String, LinkSpec) {
    let mtu = topology.network_of(port).map(|network| topology.mtu_of(network)).unwrap_or_default();
    let link = LinkSpec {
        port: port.id,
        mac: port.mac_address,
        mtu,
        addresses: port.fixed_ips.iter().map(|address| IpNet::new_assert(*address, HA_SUBNET.prefix_len())).collect(),
        moving: [MARK.into()].into(),
        announces: false,
        finishes_checksums: false,
    };
    (port.id.device_name("ha-"), link)
}

fn link_local(mac: Mac) -> IpNet {
    IpNet::new_assert(IpAddr::V6(mac.link_local()), LINK_LOCAL_PREFIX_LEN)
}

/// What keepalived reads (keepalived.conf(5)). That something is gone is for the agent to mend, not a reason to have another host take over
/// (`no_track`).
fn configuration(spec: &NamespaceSpec, topology: &Topology, router: &Router, own: &Port, host: &str) -> String {
    let link = own.id.device_name("ha-");
    let place = router.hosts.iter().position(|other| other == host).unwrap_or_default();
    let priority = FIRST_PRIORITY.saturating_sub(place).max(1);
    let address = |port: &Port| port.fixed_ips.first().map(ToString::to_string).unwrap_or_default();
    let mut text = format!(
        "global_defs {{\n  router_id {}\n  dynamic_interfaces allow_if_changes\n}}\n\
         vrrp_instance router {{\n  state BACKUP\n  nopreempt\n  interface {link}\n  version 3\n  \
         virtual_router_id {VIRTUAL_ROUTER_ID}\n  priority {priority}\n  advert_int {ADVERTISEMENT_SECS}\n  \
         garp_master_delay {AGAIN_SECS}\n  garp_master_refresh {REFRESH_SECS}\n  unicast_src_ip {}\n  unicast_peer {{\n",
        router.id,
        address(own),
    );
    // Writing to a text cannot fail.
    for peer in topology.ha_ports(router.id).filter(|port| port.id != own.id) {
        let _ = writeln!(text, "    {}", address(peer));
    }
    let _ = write!(text, "  }}\n  virtual_ipaddress {{\n    {MARK} dev {link} no_track\n  }}\n");
    text += "  virtual_ipaddress_excluded {\n";
    for (name, link) in &spec.links {
        for address in &link.moving {
            let _ = writeln!(text, "    {address} dev {name} no_track");
        }
    }
    text += "  }\n  virtual_routes {\n";
    for (destination, route) in in_order(&spec.routes) {
        let _ = writeln!(text, "    {destination} {}", next_hops(destination, route));
    }
    text += "  }\n}\n";
    text
}

/// Destinations on a link come first: next hops of others may be there.
fn in_order(routes: &BTreeMap<IpNet, RouteSpec>) -> impl Iterator<Item = (&IpNet, &RouteSpec)> {
    let is_on_link = |(_, route): &(&IpNet, &RouteSpec)| route.next_hops.iter().all(|hop| hop.via.is_none());
    let (near, far): (Vec<_>, Vec<_>) = routes.iter().partition(is_on_link);
    near.into_iter().chain(far)
}

fn next_hops(destination: &IpNet, route: &RouteSpec) -> String {
    let hop = |hop: &NextHop| match hop.via {
        Some(via) => format!("via {via} dev {}", hop.link),
        None if destination.addr().is_ipv4() => format!("dev {} scope link", hop.link),
        None => format!("dev {}", hop.link),
    };
    let hops: Vec<String> = route.next_hops.iter().map(hop).collect();
    match hops.as_slice() {
        [only] => format!("{only} no_track"),
        // Behind several next hops nothing else may follow.
        several => format!("no_track nexthop {}", several.join(" nexthop ")),
    }
}
