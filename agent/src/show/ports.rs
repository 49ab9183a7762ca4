//! `show ports` and `show networks`.

use overlane_abi::{self as abi, Hook, Outcome};
use overlane_core::{
    action::Action,
    desired::{LocalPort, Network},
    model::{Mac, NetworkId, PortId},
    observed::Link,
    plan::Subject,
    qos::Qos,
    security::{Filter, PortSecurity},
};
use serde::Serialize;

use super::{View, table::Row};
use crate::status::Agent;

/// A port of this host.
#[derive(Serialize)]
pub(super) struct PortRow {
    /// `None` for a tap that the server does not have connected here.
    port_id: Option<PortId>,
    network_id: Option<NetworkId>,
    network: String,
    tap: String,
    mac_address: String,
    fixed_ips: Vec<String>,
    device_owner: String,
    /// `active`, `waiting` (for its tap, or for somebody to connect it), `pending` (there is something
    /// to do), `failing` (that has been tried), `blocked`, `refused` (by the server, for now), or `unknown` (nobody can be asked
    /// what it should be).
    state: &'static str,
    /// Why the port is not active, or not as the server wants it, or not known to the server to be.
    reason: Option<String>,
    /// `open`, `addresses` (it is held to its own addresses), `groups` (and to the rules of its security groups),
    /// or `closed` (nothing passes).
    security: &'static str,
    /// Whether that is in force. A port with groups is closed until then.
    secured: bool,
    /// How fast it may send and receive, and how what it sends is marked.
    qos: Qos,
    #[serde(flatten)]
    traffic: Traffic,
}

/// What has passed a tap.
#[derive(Serialize)]
struct Traffic {
    /// `fast`, `xdp` (for what it can carry, and `fast` for the rest) or `kernel`.
    lane: &'static str,
    /// Frames that the port has sent.
    sent: u64,
    /// Of these, the ones that the fast lane carried or answered.
    sent_fast: u64,
    /// Frames that the port has received.
    received: u64,
    dropped: u64,
}

impl Row for PortRow {
    const TITLES: &'static [&'static str] = &[
        "PORT",
        "NETWORK",
        "TAP",
        "MAC",
        "ADDRESSES",
        "STATE",
        "SECURITY",
        "QOS",
        "LANE",
        "SENT",
        "FAST",
        "RECEIVED",
        "DROPPED",
        "REASON",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.port_id.map(|port| port.to_string()).unwrap_or_default(),
            self.network.clone(),
            self.tap.clone(),
            self.mac_address.clone(),
            self.fixed_ips.join(" "),
            self.state.to_owned(),
            match (self.security, self.secured) {
                ("open" | "closed", _) | (_, true) => self.security.to_owned(),
                ("groups", false) => "groups (closed)".to_owned(),
                (security, false) => format!("{security} (not yet)"),
            },
            self.qos.to_string(),
            self.traffic.lane.to_owned(),
            self.traffic.sent.to_string(),
            self.traffic.sent_fast.to_string(),
            self.traffic.received.to_string(),
            self.traffic.dropped.to_string(),
            self.reason.clone().unwrap_or_default(),
        ]
    }
}

pub(super) fn ports(view: &View) -> Vec<PortRow> {
    let networks = view.desired.networks.iter();
    let desired = networks
        .flat_map(|(id, network)| network.local_ports.iter().map(move |(port, details)| (id, network, port, details)))
        .map(|(id, network, port, details)| port_row(view, (*id, network), (*port, details)));
    let refused = view.agent.refused().filter(|(tap, _)| !is_desired(view, tap));
    let refused = refused.map(|(tap, why)| unnamed_row(view, tap, "refused", why));
    desired.chain(refused).chain(unknown(view)).collect()
}

/// Taps that the maps know a port of, where nobody can be asked for all ports.
fn unknown(view: &View) -> Vec<PortRow> {
    let Some(why) = view.untold() else { return Vec::new() };
    let is_told = |tap: &str| view.why_not_here(tap).is_some();
    let taps = view.taps_without_port().filter(|tap| view.map_entry(tap).is_some() && !is_told(tap));
    taps.map(|tap| unnamed_row(view, tap, "unknown", &why)).collect()
}

fn is_desired(view: &View, tap: &str) -> bool {
    let mut ports = view.desired.networks.values().flat_map(|network| network.local_ports.keys());
    ports.any(|port| port.tap_name() == tap)
}

/// A tap of which the server says nothing that it could be connected by, or cannot be asked. What the maps have of it is shown.
fn unnamed_row(view: &View, tap: &str, state: &'static str, reason: &str) -> PortRow {
    let ifindex = view.observed.kernel.link_named(tap).map_or(0, |tap| tap.ifindex);
    let entry = view.map_entry(tap);
    let has = |flag| entry.is_some_and(|entry| entry.flags & flag != 0);
    PortRow {
        port_id: None,
        network_id: None,
        network: String::new(),
        tap: tap.to_owned(),
        mac_address: entry.map(|entry| Mac(entry.mac).to_string()).unwrap_or_default(),
        fixed_ips: Vec::new(),
        device_owner: String::new(),
        state,
        reason: Some(reason.to_owned()),
        security: match entry {
            Some(_) if has(abi::Port::FILTERED) => "groups",
            Some(_) if has(abi::Port::SECURED) => "addresses",
            None if view.desired.closed_by_default => "closed",
            _ => "open",
        },
        secured: view.is_filtered(ifindex),
        qos: Qos::default(),
        traffic: traffic(view, ifindex),
    }
}

fn traffic(view: &View, tap: u32) -> Traffic {
    let (sent, sent_by_xdp) = (view.counters(tap, Hook::FromPort), view.counters(tap, Hook::FromPortXdp));
    let fast = [Outcome::Delivered, Outcome::Encapsulated, Outcome::Answered];
    Traffic {
        lane: lane(view, tap),
        sent: sent.packets + sent_by_xdp.packets,
        sent_fast: fast.into_iter().map(|outcome| sent.outcome(outcome) + sent_by_xdp.outcome(outcome)).sum(),
        received: view.counters(tap, Hook::ToPort).packets,
        dropped: view.dropped(tap),
    }
}

fn port_row(
    view: &View,
    (network_id, network): (NetworkId, &Network),
    (port_id, port): (PortId, &LocalPort),
) -> PortRow {
    let tap = view.observed.kernel.link_named(&port_id.tap_name());
    let ifindex = tap.map_or(0, |tap| tap.ifindex);
    let (state, reason) = state(view, (network_id, network), port_id, tap);
    // It may work, and yet not as the server wants it.
    let reason = reason.or_else(|| view.why_not_here(&port_id.tap_name()).map(str::to_owned));
    PortRow {
        port_id: Some(port_id),
        network_id: Some(network_id),
        network: network.name.clone(),
        tap: port_id.tap_name(),
        mac_address: port.mac.to_string(),
        fixed_ips: port.addresses.iter().map(ToString::to_string).collect(),
        device_owner: port.device_owner.clone(),
        state,
        reason,
        security: match &port.security {
            PortSecurity::Open => "open",
            PortSecurity::Enforced(Filter { groups: None, .. }) => "addresses",
            PortSecurity::Enforced(Filter { groups: Some(_), .. }) => "groups",
        },
        secured: view.is_filtered(ifindex),
        qos: port.qos,
        traffic: traffic(view, ifindex),
    }
}

/// What takes up what a tap's machine sends.
fn lane(view: &View, tap: u32) -> &'static str {
    if !view.is_attached(Hook::FromPort, tap) || !view.forwards() {
        "kernel"
    } else if view.is_attached(Hook::FromPortXdp, tap) {
        "xdp"
    } else {
        "fast"
    }
}

fn state(
    view: &View,
    (network_id, network): (NetworkId, &Network),
    port: PortId,
    tap: Option<&Link>,
) -> (&'static str, Option<String>) {
    let concerns_port = |subject| match subject {
        Subject::Host => true,
        Subject::Network(id) => id == network_id,
        Subject::Port(id) => id == port,
        Subject::Vtep(_) => false,
    };
    if let Some(obstacle) = view.plan.obstacles.iter().find(|obstacle| concerns_port(obstacle.subject)) {
        return ("blocked", Some(obstacle.message.clone()));
    }
    if let Some(reason) = view.plan.waiting.iter().find(|reason| concerns_port(reason.subject)) {
        return ("waiting", Some(reason.message.clone()));
    }
    let Some(tap) = tap else {
        return ("waiting", Some(format!("no device is called {}: has the machine been started?", port.tap_name())));
    };
    let devices =
        [Some(tap), view.bridge(network_id, network), view.uplink(network)].map(|link| link.map(|l| l.ifindex));
    let is_about_port = |action: &&Action| {
        action.network() == Some(network_id) || action.interface().is_some_and(|i| devices.contains(&Some(i)))
    };
    let steps: Vec<&Action> = view.plan.actions.iter().filter(is_about_port).collect();
    let failed = steps.iter().find_map(|step| Some((step, view.failure(step)?)));
    match (failed, steps.first(), &view.agent) {
        (_, None, _) => ("active", view.why_not_here(&tap.name).map(str::to_owned)),
        (Some((step, error)), ..) => {
            let step = view.name_interfaces(&step.to_string());
            ("failing", Some(format!("could not {step}: {error}; it is tried again")))
        }
        (None, Some(step), agent) => {
            let step = view.name_interfaces(&step.to_string());
            let who = match agent {
                Agent::Absent => "no agent is running",
                Agent::Silent { .. } => "the agent does not answer",
                Agent::Running(_) => "the agent is at it",
            };
            ("pending", Some(format!("{who}; still to do: {step}")))
        }
    }
}

/// A network of this host.
#[derive(Serialize)]
pub(super) struct NetworkRow {
    network_id: NetworkId,
    name: String,
    network_type: &'static str,
    segmentation_id: Option<u32>,
    physical_network: Option<String>,
    #[serde(skip)]
    segment: String,
    bridge: String,
    bridge_exists: bool,
    /// The vxlan device, the VLAN device, or the NIC.
    uplink: Option<String>,
    uplink_exists: bool,
    mtu: Option<u32>,
    local_ports: usize,
    remote_macs: usize,
    flood: Vec<String>,
}

impl Row for NetworkRow {
    const TITLES: &'static [&'static str] =
        &["NETWORK", "NAME", "SEGMENT", "BRIDGE", "UPLINK", "MTU", "PORTS", "REMOTE MACS", "FLOOD"];

    fn cells(&self) -> Vec<String> {
        let device = |name: &str, exists| if exists { name.to_owned() } else { format!("{name} (missing)") };
        vec![
            self.network_id.to_string(),
            self.name.clone(),
            self.segment.clone(),
            device(&self.bridge, self.bridge_exists),
            self.uplink.as_ref().map(|uplink| device(uplink, self.uplink_exists)).unwrap_or_default(),
            self.mtu.map(|mtu| mtu.to_string()).unwrap_or_default(),
            self.local_ports.to_string(),
            self.remote_macs.to_string(),
            self.flood.join(" "),
        ]
    }
}

pub(super) fn networks(view: &View) -> Vec<NetworkRow> {
    view.desired.networks.iter().map(|(id, network)| network_row(view, *id, network)).collect()
}

fn network_row(view: &View, id: NetworkId, network: &Network) -> NetworkRow {
    let uplink = view.uplink_name(network);
    let uplink_link = view.uplink(network);
    NetworkRow {
        network_id: id,
        name: network.name.clone(),
        network_type: network.segment.network_type(),
        segmentation_id: network.segment.segmentation_id(),
        physical_network: network.segment.physical_network().map(str::to_owned),
        segment: network.segment.to_string(),
        bridge: view.bridge_name(id, network),
        bridge_exists: view.bridge(id, network).is_some(),
        uplink_exists: uplink_link.is_some(),
        mtu: network.mtu.map(u32::from).or(uplink_link.map(|link| link.mtu)),
        uplink,
        local_ports: network.local_ports.len(),
        remote_macs: network.remote_macs.len(),
        flood: network.flood.iter().map(ToString::to_string).collect(),
    }
}
