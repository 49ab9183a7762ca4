//! Reports that this agent is alive, and what ports can be bound to it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use overlane_core::{
    config::{Config, NeutronConfig},
    neutron::{
        messages::{
            report::{AGENT_TYPE, AgentState, BINARY, Configurations, ReportOutcome, ReportState},
            resources::KINDS,
        },
        time::timestamp,
    },
};
use uuid::Uuid;

use super::messaging::CallError;

/// A report that was lost, or that the server has ignored, is made again soon: until it succeeds no port can be bound here.
const SOON: Duration = Duration::from_secs(2);

/// When to report, and what.
pub(super) struct Reporter {
    host: String,
    configurations: Configurations,
    interval: Duration,
    next: Instant,
    /// Whether no report has succeeded yet.
    is_first: bool,
    /// Whether the server has ignored the last one.
    was_ignored: bool,
    /// What was wrong with the last one; each thing is said once.
    trouble: Option<String>,
}

impl Reporter {
    pub(super) fn new(neutron: &NeutronConfig, config: &Config, l2_population: bool) -> Self {
        let label = |(label, device): (&String, &Option<String>)| Some((label.clone(), device.clone()?));
        let physical = &config.physical_networks;
        let mut extensions = Vec::new();
        extensions.extend(neutron.has_qos.then(|| "qos".to_owned()));
        let configurations = Configurations {
            extensions,
            bridge_mappings: physical.iter().filter_map(|(name, device)| label((name, &device.bridge))).collect(),
            interface_mappings: physical.iter().filter_map(|(name, device)| label((name, &device.interface))).collect(),
            tunneling_ip: config.local_ip(),
            tunnel_types: config.vxlan.map(|_| vec!["vxlan".to_owned()]),
            l2_population: config.vxlan.map(|_| l2_population),
            devices: 0,
        };
        Self {
            host: config.host.clone(),
            configurations,
            interval: neutron.report_interval,
            next: Instant::now(),
            is_first: true,
            was_ignored: false,
            trouble: None,
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        Some(self.next)
    }

    pub(super) const fn interval(&self) -> Duration {
        self.interval
    }

    /// What was wrong with the last report.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The connection was made: the server may not have heard of this agent for long.
    pub(super) fn report_now(&mut self) {
        self.next = Instant::now();
    }

    pub(super) fn report(&mut self, devices: usize) -> ReportState {
        self.next = Instant::now() + self.interval;
        let versions = || KINDS.map(|(kind, version)| (kind.to_owned(), version.to_owned())).into();
        let state = AgentState {
            binary: BINARY.to_owned(),
            host: self.host.clone(),
            topic: "N/A".to_owned(),
            configurations: Configurations { devices, ..self.configurations.clone() },
            agent_type: AGENT_TYPE.to_owned(),
            resource_versions: self.is_first.then(versions),
            start_flag: self.is_first.then_some(true),
            uuid: Uuid::new_v4(),
        };
        ReportState::new(state, timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
    }

    /// Takes in what came of a report, and says whether the server had given this agent up.
    pub(super) fn take_outcome(&mut self, outcome: &Result<ReportOutcome, CallError>) -> bool {
        let was_ignored = std::mem::replace(&mut self.was_ignored, matches!(outcome, Ok(ReportOutcome::Ignored)));
        if self.was_ignored && !was_ignored {
            // A report that has waited for a server to start is older than it, too.
            self.next = self.next.min(Instant::now() + SOON);
            return false;
        }
        let trouble = match outcome {
            Ok(ReportOutcome::New | ReportOutcome::Alive | ReportOutcome::Revived | ReportOutcome::Other(_)) => None,
            Ok(ReportOutcome::Ignored) => Some(
                "the server ignores this agent's reports as older than itself: this host's clock is behind the server's. \
                 Look at: timedatectl"
                    .to_owned(),
            ),
            // The connection says for itself what is wrong with it.
            Err(CallError::Disconnected { .. }) => return false,
            Err(error) => Some(format!("could not report to the server that this agent is alive: {error}")),
        };
        if trouble.is_some() {
            self.next = self.next.min(Instant::now() + SOON);
        } else if std::mem::take(&mut self.is_first) {
            tracing::info!(host = self.host, "the server knows this agent: openstack network agent list shows it");
        }
        if trouble != self.trouble {
            match &trouble {
                Some(trouble) => tracing::error!("{trouble}"),
                None => tracing::info!("the server takes this agent's reports again"),
            }
        }
        self.trouble = trouble;
        matches!(outcome, Ok(ReportOutcome::Revived))
    }
}
