//! `cargo xtask bench`: what the project measures of itself.

mod bytes;
mod cloud;
mod control;
mod edits;
mod figures;
mod frames;
mod neutron;
mod scale;
mod security;
mod services;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use crate::figures::Figures;

/// Measures, and prints every figure with its unit, how often it was measured, and its spread.
#[derive(Parser)]
#[command(name = "cargo xtask bench", version)]
struct Options {
    /// What to measure.
    #[arg(value_enum)]
    subject: Subject,
    /// Only this part of it.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Plugging, restarting, taking over, a host with a thousand ports, and a cloud with a hundred thousand.
    Control,
    /// What a cloud with a real Neutron waits for, with Overlane and with the agent that it replaces.
    Neutron,
    /// Security groups: packets and connections a second next to iptables, a flood of SYNs, changes of rules.
    Security,
    /// DHCP servers and routers.
    Services,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// `control`: plugging, restarting, taking over.
    Host,
    /// `control`: a host with a thousand ports.
    Scale,
    /// `control`: a cloud with a hundred thousand ports.
    Cloud,
    /// `neutron`: plugging, and memory.
    Taps,
    /// `neutron`: restarts and a takeover.
    Restarts,
    /// `security`: packets a second.
    Rate,
    /// `security`: TCP connections a second.
    Connections,
    /// `security`: TCP connections of real sockets a second.
    Sockets,
    /// `security`: a flood of SYNs.
    Flood,
    /// `security`: changes of rules, groups and ports.
    Changes,
    /// `services`: how long machines wait for their addresses.
    Leases,
    /// `services`: a hundred routers from a cold start.
    Routers,
    /// `services`: one floating IP more.
    FloatingIp,
    /// `services`: a router whose active node is lost.
    Failover,
    /// `services`: TCP through a router, next to the rules of Neutron's L3 agent.
    RouterTcp,
}

impl Part {
    fn of(subject: Subject) -> &'static [Self] {
        match subject {
            Subject::Control => &[Self::Host, Self::Scale, Self::Cloud],
            Subject::Neutron => &[Self::Taps, Self::Restarts],
            Subject::Security => &[Self::Rate, Self::Connections, Self::Sockets, Self::Flood, Self::Changes],
            Subject::Services => &[Self::Leases, Self::Routers, Self::FloatingIp, Self::Failover, Self::RouterTcp],
        }
    }

    fn measure(self, figures: &mut Figures) -> Result<()> {
        match self {
            Self::Host => control::measure(figures),
            Self::Scale => scale::measure(figures),
            Self::Cloud => cloud::measure(figures),
            Self::Taps => neutron::measure_taps(figures),
            Self::Restarts => neutron::measure_restarts(figures),
            Self::Rate => security::measure_rate(figures),
            Self::Connections => security::measure_connections(figures),
            Self::Sockets => security::measure_sockets(figures),
            Self::Flood => security::measure_flood(figures),
            Self::Changes => security::measure_changes(figures),
            Self::Leases => services::measure_leases(figures),
            Self::Routers => services::measure_routers(figures),
            Self::FloatingIp => services::measure_floating_ip(figures),
            Self::Failover => services::measure_failover(figures),
            Self::RouterTcp => services::measure_router_tcp(figures),
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut figures = Figures::new(options.json);
    let parts = Part::of(options.subject);
    if let Some(only) = options.only
        && !parts.contains(&only)
    {
        eprintln!("error: --only names a part of something else; see --help");
        return ExitCode::FAILURE;
    }
    let is_wanted = |part: &&Part| options.only.is_none_or(|only| only == **part);
    let result = parts.iter().filter(is_wanted).try_for_each(|part| part.measure(&mut figures));
    // What was measured before something failed is worth printing.
    let printed = figures.finish();
    match result.and(printed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
