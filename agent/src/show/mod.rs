//! What `overlane show` and `overlane plan` print: read from the kernel and the pinned maps, so that it is true with
//! the agent running, stopped or dead.

mod agent;
mod counters;
mod dhcp;
mod ports;
mod routers;
mod security;
mod services;
mod table;
mod tunnels;
mod view;

use std::{io::Write, net::IpAddr};

use clap::ValueEnum;
use overlane_core::model::PortId;
use serde::Serialize;

use crate::cli::Format;

pub use view::View;

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// The ports of this host: their taps, whether they forward, and if not, why.
    Ports,
    /// The networks of this host and their devices.
    Networks,
    /// Who owns each MAC address: a port of this host, or another host.
    Fdb,
    /// What the ARP/ND responder answers.
    Neighbors,
    /// The other hosts, and how they are reached.
    Vteps,
    /// What was dropped, where and why.
    Drops,
    /// What became of every packet, by interface and program.
    Counters,
    /// The rules of security groups, and what each has admitted.
    Rules,
    /// The connection table.
    Flows,
    /// The routers of this host, whether they are complete, and if not, why.
    Routers,
    /// The floating IPs and forwarded ports of its routers, and where they lead.
    FloatingIps,
    /// The DHCP servers of this host: where they are, and how many addresses they keep and have given out.
    Dhcp,
    /// The agent: whether it runs, which lanes it may use, what it has repaired, and what it fails to do.
    Agent,
}

/// What of a subject is shown.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only what concerns this port: its id, the beginning of it, or the name of its tap.
    pub port: Option<String>,
    /// Only what concerns this address.
    pub address: Option<IpAddr>,
}

impl Selection {
    fn selects_port(&self, id: PortId) -> bool {
        self.port.as_ref().is_none_or(|wanted| id.to_string().starts_with(wanted.as_str()) || id.tap_name() == *wanted)
    }

    /// As `selects_port`, where nobody may know the port: the name of its tap has the beginning of its id.
    fn selects_tap(&self, tap: &str) -> bool {
        let Some(wanted) = &self.port else { return true };
        let of_tap = |id: &str| !wanted.is_empty() && (id.starts_with(wanted.as_str()) || wanted.starts_with(id));
        tap == wanted || PortId::is_tap_name(tap) && tap.strip_prefix("tap").is_some_and(of_tap)
    }
}

/// Prints one subject.
///
/// # Errors
/// When the maps cannot be read, or `out` cannot be written to.
pub fn show(
    subject: Subject,
    selection: &Selection,
    view: &View,
    format: Format,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let is_chosen_by_port = matches!(subject, Subject::Flows | Subject::Rules | Subject::Drops);
    anyhow::ensure!(is_chosen_by_port || selection.port.is_none(), "only flows, rules and drops are chosen by port");
    anyhow::ensure!(subject == Subject::Flows || selection.address.is_none(), "only flows are chosen by address");
    match subject {
        Subject::Ports => table::print(&ports::ports(view), format, out),
        Subject::Networks => table::print(&ports::networks(view), format, out),
        Subject::Fdb => table::print(&tunnels::fdb(view), format, out),
        Subject::Neighbors => table::print(&tunnels::neighbors(view), format, out),
        Subject::Vteps => table::print(&tunnels::vteps(view), format, out),
        Subject::Drops => table::print(&counters::drops(view, selection), format, out),
        Subject::Counters => table::print(&counters::counters(view), format, out),
        Subject::Rules => table::print(&security::rules(view, selection, &view.rule_hits()?), format, out),
        Subject::Flows => table::print(&security::flows(view, selection, &view.flows()?), format, out),
        Subject::Routers => table::print(&routers::routers(view), format, out),
        Subject::FloatingIps => table::print(&routers::floating_ips(view), format, out),
        Subject::Dhcp => table::print(&dhcp::dhcp(view), format, out),
        Subject::Agent => table::print(&agent::agent(view), format, out),
    }
}

#[derive(Serialize)]
struct PlanDocument {
    actions: Vec<String>,
    obstacles: Vec<String>,
    waiting: Vec<String>,
    detours: Vec<String>,
}

/// Prints what the agent would do.
///
/// # Errors
/// When `out` cannot be written to.
pub fn plan(view: &View, format: Format, out: &mut impl Write) -> anyhow::Result<()> {
    let actions = view.plan.actions.iter().map(|action| view.name_interfaces(&action.to_string()));
    let actions: Vec<String> = actions.chain(view.services.steps()).collect();
    let obstacles = view.plan.obstacles.iter().map(ToString::to_string);
    let obstacles: Vec<String> = obstacles.chain(view.services.plan.obstacles.values().cloned()).collect();
    let waiting: Vec<String> = view.plan.waiting.iter().map(ToString::to_string).collect();
    let detours: Vec<String> = view.plan.detours.iter().map(ToString::to_string).collect();
    if format == Format::Json {
        return table::print_json(&PlanDocument { actions, obstacles, waiting, detours }, out);
    }
    if actions.is_empty() {
        writeln!(out, "Nothing to do.")?;
    }
    for action in actions {
        writeln!(out, "{action}")?;
    }
    for obstacle in obstacles {
        writeln!(out, "obstacle: {obstacle}")?;
    }
    for reason in waiting {
        writeln!(out, "waiting: {reason}")?;
    }
    for reason in detours {
        writeln!(out, "another lane: {reason}")?;
    }
    if view.plan.creates_devices() {
        writeln!(out, "More steps follow once the new devices exist.")?;
    }
    Ok(())
}
