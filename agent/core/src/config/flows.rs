//! What an operator can say about connection tracking and its log.

use overlane_abi::{FlowState, limits};

use super::read::Reader;

/// How flows are remembered and logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowConfig {
    /// How long a flow is remembered, in milliseconds, by [`FlowState`] (`[overlane] flow_timeouts`).
    pub timeouts: [u32; FlowState::COUNT],
    /// Flows of each address family that there is room for (`[overlane] flows_max`).
    pub max: u32,
    /// Flows and drops of logged security groups that are reported per second and CPU (`[overlane] flow_log_rate`).
    pub log_rate: u32,
}

/// Enough for an operator to see what is going on, and too little to fill a disk.
const DEFAULT_LOG_RATE: u32 = 100;
/// A table smaller than this would forget flows that are in use.
const FLOWS_MIN: u32 = 1024;

impl Default for FlowConfig {
    fn default() -> Self {
        Self {
            timeouts: FlowState::DEFAULT_TIMEOUTS,
            max: u32::try_from(limits::CONNTRACK_MAX).unwrap_or(u32::MAX),
            log_rate: DEFAULT_LOG_RATE,
        }
    }
}

impl Reader<'_> {
    pub(super) fn flows(&mut self) -> FlowConfig {
        let default = FlowConfig::default();
        let mut flows = FlowConfig {
            max: self.parsed("overlane", "flows_max", "a number of flows").unwrap_or(default.max),
            log_rate: self
                .parsed("overlane", "flow_log_rate", "a number of lines a second")
                .unwrap_or(default.log_rate),
            timeouts: default.timeouts,
        };
        if flows.max < FLOWS_MIN {
            self.problem("overlane", "flows_max", format_args!("must be at least {FLOWS_MIN}"));
        }
        let text = self.text("overlane", "flow_timeouts").unwrap_or_default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match parse_timeout(part) {
                Some((state, millis)) => flows.timeouts[state as usize] = millis,
                None => {
                    let names: Vec<&str> = FlowState::ALL.iter().map(|state| state.name()).collect();
                    let message = format!("{part:?} is no state:seconds; there are {}", names.join(", "));
                    self.problem("overlane", "flow_timeouts", message);
                }
            }
        }
        flows
    }
}

/// Reads `udp:30`.
fn parse_timeout(part: &str) -> Option<(FlowState, u32)> {
    let (name, seconds) = part.split_once(':')?;
    let state = FlowState::ALL.into_iter().find(|state| state.name() == name.trim())?;
    let millis = seconds.trim().parse::<u32>().ok()?.checked_mul(1000)?;
    (millis > 0).then_some((state, millis))
}

#[cfg(test)]
mod tests {
    use overlane_abi::FlowState;

    use crate::config::read::tests::read;

    #[test]
    fn flow_timeouts_are_set_by_the_names_of_states() {
        let base = "[vxlan]\nlocal_ip = 10.0.0.1\n[overlane]\ntopology = t\n";
        let (config, _) =
            read(&format!("{base}flow_timeouts = established:3600, udp: 10\nflows_max = 5000\n")).expect("valid");
        assert_eq!(config.flows.timeouts[FlowState::Established as usize], 3_600_000);
        assert_eq!(config.flows.timeouts[FlowState::Udp as usize], 10_000);
        assert_eq!(config.flows.timeouts[FlowState::Close as usize], 10_000);
        assert_eq!(config.flows.max, 5000);
        let problems = read(&format!("{base}flow_timeouts = listen:5, udp:0\nflows_max = 5\n")).expect_err("invalid");
        assert!(problems[1].contains("\"listen:5\" is no state:seconds; there are syn-sent"), "{problems:?}");
        assert_eq!(problems.len(), 3, "{problems:?}");
    }
}
