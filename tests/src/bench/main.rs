//! `cargo xtask bench`: what the project measures of itself.

mod bpf;
mod bytes;
mod cloud;
mod control;
mod cpu;
mod datapath;
mod edits;
mod figures;
mod frames;
mod hosts;
mod neutron;
mod path;
mod scale;
mod security;
mod services;
mod sockets;
mod test_run;
mod turns;

use std::{env, process::ExitCode};

use anyhow::Result;
use clap::{Parser, ValueEnum};

use crate::{
    datapath::{Effort, Report},
    figures::Figures,
};

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
    /// `datapath`: less than three minutes instead of ten; the spread is larger.
    #[arg(long)]
    quick: bool,
    /// `datapath`: put figures and plots into docs/performance.md as well.
    #[arg(long, conflicts_with = "only")]
    docs: bool,
}

impl Options {
    /// What of it makes no sense.
    fn problem(&self) -> Option<&'static str> {
        if self.only.is_some_and(|only| !Part::of(self.subject).contains(&only)) {
            Some("--only names a part of something else; see --help")
        } else if (self.quick || self.docs) && self.subject != Subject::Datapath {
            Some("--quick and --docs are for datapath")
        } else if env::var_os("OVERLANE_BIN").is_none() {
            Some("start it by cargo xtask bench, which builds what is measured and says where it is")
        } else {
            None
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Plugging, restarting, taking over, a host with a thousand ports, and a cloud with a hundred thousand.
    Control,
    /// What packets cost, next to the kernel's bridge and vxlan, the Linux bridge agent's iptables, Open vSwitch, and no overlay at all.
    Datapath,
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
    /// `datapath`: packets a second.
    Packets,
    /// `datapath`: TCP streams, and datagrams by UDP-GSO.
    Bulk,
    /// `datapath`: how long requests take, by TCP and by UDP.
    Latency,
    /// `datapath`: TCP connections a second.
    Crr,
    /// `datapath`: what security groups cost, with a million flows and a thousand rules.
    GroupsCost,
    /// `datapath`: packets a second and superpackets, through real taps.
    RealTaps,
    /// `datapath`: what each program takes by itself, and the memory of maps.
    Programs,
    /// `datapath`: packets a second on hosts that know 10, 1,000 and 100,000 of everything.
    Entries,
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
            Subject::Datapath => &[
                Self::Packets,
                Self::Bulk,
                Self::Latency,
                Self::Crr,
                Self::GroupsCost,
                Self::RealTaps,
                Self::Entries,
                Self::Programs,
            ],
            Subject::Neutron => &[Self::Taps, Self::Restarts],
            Subject::Security => &[Self::Rate, Self::Connections, Self::Sockets, Self::Flood, Self::Changes],
            Subject::Services => &[Self::Leases, Self::Routers, Self::FloatingIp, Self::Failover, Self::RouterTcp],
        }
    }

    /// As it is given to `--only`.
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn measure(self, figures: &mut Figures) -> Result<()> {
        match self {
            Self::Packets
            | Self::Bulk
            | Self::Latency
            | Self::Crr
            | Self::GroupsCost
            | Self::RealTaps
            | Self::Entries
            | Self::Programs => {
                unreachable!("measured together")
            }
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

fn report(figures: &Figures, options: &Options) -> Result<()> {
    let report = Report::new(figures)?;
    report.finish(options.json)?;
    if options.docs { report.document() } else { Ok(()) }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut figures = Figures::new(options.json);
    if let Some(problem) = options.problem() {
        eprintln!("error: {problem}");
        return ExitCode::FAILURE;
    }
    let parts = Part::of(options.subject).iter().copied();
    let wanted: Vec<Part> = parts.filter(|part| options.only.is_none_or(|only| only == *part)).collect();
    let result = if options.subject == Subject::Datapath {
        datapath::measure(&mut figures, &wanted, Effort { is_quick: options.quick })
    } else {
        wanted.iter().try_for_each(|part| part.measure(&mut figures))
    };
    // What was measured before something failed is worth printing.
    let printed = figures.finish();
    let reported = if options.subject == Subject::Datapath { report(&figures, &options) } else { Ok(()) };
    match result.and(printed).and(reported) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(words: &str) -> String {
        let words = ["bench"].into_iter().chain(words.split_whitespace());
        match Options::try_parse_from(words) {
            Ok(options) => options.problem().unwrap_or_default().to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn options_that_make_no_sense_together_are_refused_before_anything_is_measured() {
        for (words, reason) in [
            ("datapath --only scale", "a part of something else"),
            ("control --quick", "are for datapath"),
            ("neutron --docs", "are for datapath"),
            ("datapath --docs --only packets", "cannot be used with"),
            ("memory", "invalid value"),
        ] {
            assert!(problem(words).contains(reason), "{words}: {}", problem(words));
        }
    }
}
