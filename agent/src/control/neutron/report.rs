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

/// An agent that has not seen its host for this long does nothing for its ports: it does not say that it is alive. Three full passes.
const BLIND_MAX: Duration = Duration::from_secs(90);

/// When to report, and what.
pub(super) struct Reporter {
    host: String,
    configurations: Configurations,
    interval: Duration,
    next: Instant,
    /// When the host was looked at last.
    seen: Instant,
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
            seen: Instant::now(),
            is_first: true,
            was_ignored: false,
            trouble: None,
        }
    }

    /// When the next report is due, if there is anything to report.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        (now.saturating_duration_since(self.seen) < BLIND_MAX).then_some(self.next)
    }

    /// The host was looked at, and made what it should be as far as it can be.
    pub(super) fn host_was_seen(&mut self, now: Instant) {
        self.seen = now;
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

#[cfg(test)]
mod tests {
    use overlane_core::{
        config::{Control, SystemDefaults},
        oslo_ini::Settings,
    };

    use super::*;

    fn reporter() -> Reporter {
        let mut settings = Settings::default();
        let text = "[DEFAULT]\ntransport_url = rabbit://u:p@10.0.0.1/\n[vxlan]\nlocal_ip = 10.0.0.2\n";
        assert!(settings.add_file("neutron.conf".as_ref(), text).is_empty());
        let system = SystemDefaults { host_name: "here".to_owned() };
        let (config, _) = Config::from_settings(&settings, &system).expect("valid");
        let Control::Neutron(neutron) = &config.control else { panic!("there is a server") };
        Reporter::new(neutron, &config, true)
    }

    fn timeout() -> CallError {
        CallError::Timeout { method: "report_state".to_owned(), seconds: 30 }
    }

    #[test]
    fn an_agent_that_cannot_look_at_its_host_reports_no_more_until_it_can() {
        let mut reporter = reporter();
        let start = reporter.seen;
        assert!(reporter.next(start + BLIND_MAX / 2).is_some());
        assert_eq!(reporter.next(start + BLIND_MAX), None);
        reporter.host_was_seen(start + BLIND_MAX);
        assert!(reporter.next(start + BLIND_MAX).is_some());
    }

    #[test]
    fn an_agent_that_was_given_up_asks_for_everything_again_and_only_then() {
        let mut reporter = reporter();
        for outcome in [ReportOutcome::New, ReportOutcome::Alive, ReportOutcome::Other(String::new())] {
            assert!(!reporter.take_outcome(&Ok(outcome)));
        }
        assert!(reporter.take_outcome(&Ok(ReportOutcome::Revived)));
        assert!(!reporter.take_outcome(&Err(timeout())));
    }

    #[test]
    fn the_first_report_that_succeeds_is_the_last_that_says_the_agent_has_started() {
        let mut reporter = reporter();
        for _ in 0..2 {
            assert_eq!(reporter.report(0).agent_state.agent_state.start_flag, Some(true));
            reporter.take_outcome(&Err(timeout()));
            // It is made again soon.
            assert!(reporter.next <= Instant::now() + SOON && reporter.trouble().is_some());
        }
        reporter.report(0);
        reporter.take_outcome(&Ok(ReportOutcome::New));
        assert_eq!((reporter.report(0).agent_state.agent_state.start_flag, reporter.trouble()), (None, None));
    }

    #[test]
    fn a_clock_that_is_behind_is_told_of_when_the_server_has_ignored_two_reports() {
        let mut reporter = reporter();
        reporter.take_outcome(&Ok(ReportOutcome::Ignored));
        assert_eq!(reporter.trouble(), None);
        reporter.take_outcome(&Ok(ReportOutcome::Ignored));
        assert!(reporter.trouble().is_some_and(|trouble| trouble.contains("timedatectl")));
    }
}
