//! `show agent`.

use serde::Serialize;

use super::{View, table::Row};
use crate::status::{Agent, Failure};

/// The agent of this host, and what it says of itself.
#[derive(Serialize)]
pub(super) struct AgentRow {
    /// `running`, `silent` (it does not answer) or `absent`.
    state: &'static str,
    pid: Option<i64>,
    /// Where it hears what is desired, or why it does not.
    control: Option<String>,
    fast_path: Option<String>,
    /// Steps that repaired what somebody else had changed.
    repairs: Option<u64>,
    /// How often the kernel had more to tell than there was room for.
    overflows: Option<u64>,
    /// Steps that have failed and are tried again.
    failing: Option<usize>,
    /// They, or the first of very many.
    failures: Vec<String>,
}

impl Row for AgentRow {
    const TITLES: &'static [&'static str] =
        &["STATE", "PID", "CONTROL", "FAST PATH", "REPAIRS", "OVERFLOWS", "FAILING", "FIRST FAILURE"];

    fn cells(&self) -> Vec<String> {
        let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        vec![
            self.state.to_owned(),
            self.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            self.control.clone().unwrap_or_default(),
            self.fast_path.clone().unwrap_or_default(),
            number(self.repairs),
            number(self.overflows),
            number(self.failing.map(|failing| failing as u64)),
            self.failures.first().cloned().unwrap_or_default(),
        ]
    }
}

pub(super) fn agent(view: &View) -> Vec<AgentRow> {
    let (state, pid, status) = match &view.agent {
        Agent::Absent => ("absent", None, None),
        Agent::Silent { pid } => ("silent", Some((*pid).into()), None),
        Agent::Running(status) => ("running", Some(status.pid.into()), Some(status)),
    };
    let failure = |failure: &Failure| format!("{}: {}", view.name_interfaces(&failure.action), failure.error);
    let of_services = status.map(|status| status.services.as_slice()).unwrap_or_default();
    vec![AgentRow {
        state,
        pid,
        control: status.map(|status| status.control.clone()),
        fast_path: status.map(|status| status.fast_path.clone()),
        repairs: status.map(|status| status.repairs),
        overflows: status.map(|status| status.overflows),
        failing: status.map(|status| status.failing + status.services.len()),
        failures: view.agent.failures().iter().map(failure).chain(of_services.iter().cloned()).collect(),
    }]
}
