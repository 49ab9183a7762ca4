//! Routers, floating IPs and machines of a topology file, from tables to values that hold by themselves.

use std::{collections::BTreeMap, fmt, net::IpAddr, num::NonZeroU16, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ipnet::IpNet;
use uuid::Uuid;

use super::table::Table;
use crate::model::{FloatingIpId, InstanceId, NetworkId, PortId, RouterId};

/// `[[routers]]`: a router. Its interfaces and its gateway are the ports whose `device_id` it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Router {
    /// Line in the file, from 1.
    pub line: usize,
    /// Its id.
    pub id: RouterId,
    /// What people call it.
    pub name: String,
    /// The network nodes that it is on. Of several, one is active; at first the one that is named first.
    pub hosts: Vec<String>,
    /// Whether it is switched on.
    pub admin_state_up: bool,
    /// Whether machines without a floating IP reach the outside in the gateway's name.
    pub enable_snat: bool,
    /// Routes besides those to its own networks.
    pub routes: Vec<Route>,
}

/// A route of a router, or one that a subnet tells its machines (`host_routes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// By which router.
    pub nexthop: IpAddr,
}

/// `[[floating_ips]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloatingIp {
    /// Line in the file, from 1.
    pub line: usize,
    /// Its id.
    pub id: FloatingIpId,
    /// The external network that it belongs to.
    pub floating_network_id: NetworkId,
    /// The address.
    pub floating_ip_address: IpAddr,
    /// Whose it is; `None` while it is nobody's, or only forwards ports.
    pub port_id: Option<PortId>,
    /// Which of the port's addresses; its first of IPv4 when not given.
    pub fixed_ip_address: Option<IpAddr>,
    /// The router that carries it out; the one between its network and the port's when not given.
    pub router_id: Option<RouterId>,
    /// Single ports of the address that lead to machines.
    pub port_forwardings: Vec<PortForwarding>,
}

/// `[[floating_ips.port_forwardings]]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortForwarding {
    /// Line in the file, from 1.
    pub line: usize,
    /// TCP or UDP.
    pub protocol: ForwardedProtocol,
    /// Port of the floating IP.
    pub external_port: NonZeroU16,
    /// Whose machine it leads to.
    pub internal_port_id: PortId,
    /// Which of its addresses; its first of IPv4 when not given.
    pub internal_ip_address: Option<IpAddr>,
    /// Port there.
    pub internal_port: NonZeroU16,
}

/// What can be forwarded by port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum ForwardedProtocol {
    Tcp,
    Udp,
}

/// `[[instances]]`: a machine, as the metadata service describes it to itself. Its ports are those whose `device_id` it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Line in the file, from 1.
    pub line: usize,
    /// Its id.
    pub id: InstanceId,
    /// Its host name.
    pub name: String,
    /// Who owns it; anything.
    pub project_id: String,
    /// Where it is, in words.
    pub availability_zone: String,
    /// SSH keys that may log in, by name.
    pub public_keys: BTreeMap<String, String>,
    /// What its first boot should do, for cloud-init and the like.
    pub user_data: Option<Vec<u8>>,
    /// Anything else that it should know, by name.
    pub meta: BTreeMap<String, String>,
}

pub(super) const ROUTER: &[&str] = &["id", "name", "hosts", "admin_state_up", "enable_snat", "routes"];
pub(super) const FLOATING_IP: &[&str] = &[
    "id",
    "floating_network_id",
    "floating_ip_address",
    "port_id",
    "fixed_ip_address",
    "router_id",
    "port_forwardings",
];
pub(super) const INSTANCE: &[&str] =
    &["id", "name", "project_id", "availability_zone", "public_keys", "user_data", "user_data_base64", "meta"];
const ROUTE: &[&str] = &["destination", "nexthop"];
const PORT_FORWARDING: &[&str] =
    &["id", "protocol", "external_port", "internal_port_id", "internal_ip_address", "internal_port"];

/// As Nova has it.
const DEFAULT_ZONE: &str = "nova";

pub(super) fn router(table: Table) -> Option<Router> {
    let id = table.required::<Uuid>("id").map(RouterId);
    let name = table.optional("name");
    table.require("hosts");
    let hosts = table.list("hosts");
    if table.has("hosts") && hosts.is_empty() {
        table.problem("hosts", "hosts: a router needs at least one network node to be on");
    }
    let id = id?;
    Some(Router {
        line: table.line(),
        id,
        name: name.unwrap_or_else(|| id.to_string()),
        hosts,
        admin_state_up: table.boolean("admin_state_up", true),
        enable_snat: table.boolean("enable_snat", true),
        routes: routes(table, "routes"),
    })
}

/// The routes under a key.
pub(super) fn routes(table: Table, key: &str) -> Vec<Route> {
    let routes = table.tables(key, "route", ROUTE).into_iter().filter_map(|route| {
        let destination = route.required::<IpNet>("destination");
        let nexthop = route.required::<IpAddr>("nexthop");
        let found = Route { destination: destination?.trunc(), nexthop: nexthop? };
        if found.destination.addr().is_ipv4() != found.nexthop.is_ipv4() {
            let message =
                format_args!("nexthop {} and destination {} are of two families", found.nexthop, found.destination);
            route.problem("nexthop", message);
            return None;
        }
        Some(found)
    });
    routes.collect()
}

pub(super) fn floating_ip(table: Table) -> Option<FloatingIp> {
    let id = table.required::<Uuid>("id").map(FloatingIpId);
    let floating_network_id = table.required::<Uuid>("floating_network_id").map(NetworkId);
    let floating_ip_address = table.required("floating_ip_address");
    if let Some(address @ IpAddr::V6(_)) = floating_ip_address {
        let message = format_args!("floating_ip_address {address}: IPv6 addresses are routed and need no translation");
        table.problem("floating_ip_address", message);
    }
    let forwardings = table.tables("port_forwardings", "port forwarding", PORT_FORWARDING);
    let port_forwardings: Vec<_> = forwardings.into_iter().filter_map(port_forwarding).collect();
    let port_id = table.optional("port_id").map(PortId);
    if port_id.is_some() && !port_forwardings.is_empty() {
        table.problem("port_forwardings", "a floating IP belongs to one port, or forwards ports, but not both");
    }
    Some(FloatingIp {
        line: table.line(),
        id: id?,
        floating_network_id: floating_network_id?,
        floating_ip_address: floating_ip_address?,
        port_id,
        fixed_ip_address: table.optional("fixed_ip_address"),
        router_id: table.optional("router_id").map(RouterId),
        port_forwardings,
    })
}

fn port_forwarding(table: Table) -> Option<PortForwarding> {
    table.optional::<Uuid>("id");
    let number = |key| {
        table.require(key);
        let number = table.integer(key, 1, u16::MAX.into())?;
        NonZeroU16::new(u16::try_from(number).ok()?)
    };
    let protocol = table.required("protocol");
    let (external_port, internal_port) = (number("external_port"), number("internal_port"));
    let internal_port_id = table.required::<Uuid>("internal_port_id").map(PortId);
    Some(PortForwarding {
        line: table.line(),
        protocol: protocol?,
        external_port: external_port?,
        internal_port_id: internal_port_id?,
        internal_ip_address: table.optional("internal_ip_address"),
        internal_port: internal_port?,
    })
}

pub(super) fn instance(table: Table) -> Option<Instance> {
    let id = table.required::<Uuid>("id").map(InstanceId);
    let name = table.optional("name");
    let id = id?;
    Some(Instance {
        line: table.line(),
        id,
        name: name.unwrap_or_else(|| format!("host-{id}")),
        project_id: table.optional("project_id").unwrap_or_default(),
        availability_zone: table.optional("availability_zone").unwrap_or_else(|| DEFAULT_ZONE.to_owned()),
        public_keys: table.texts("public_keys"),
        user_data: user_data(table),
        meta: table.texts("meta"),
    })
}

/// A text, or any bytes in base64 (RFC 4648 §4), in as many lines as one likes.
fn user_data(table: Table) -> Option<Vec<u8>> {
    const BASE64: &str = "user_data_base64";
    let (text, encoded) = (table.optional::<String>("user_data"), table.optional::<String>(BASE64));
    if text.is_some() && encoded.is_some() {
        table.problem(BASE64, format_args!("user_data and {BASE64} are both given: leave one of them out"));
    }
    let Some(encoded) = encoded else { return text.map(String::into_bytes) };
    let encoded: String = encoded.split_ascii_whitespace().collect();
    // Without the text itself, which may be long.
    let decoded = STANDARD.decode(encoded).map_err(|error| format!("{BASE64}: expected base64: {error}"));
    decoded.map_err(|message| table.problem(BASE64, message)).ok()
}

impl FromStr for ForwardedProtocol {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err("expected tcp or udp"),
        }
    }
}

impl fmt::Display for ForwardedProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}
