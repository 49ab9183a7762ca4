//! What only the running agent knows: asked for by `overlane show` and `overlane verify`, which see everything else for
//! themselves.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::instance;

/// What an agent says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its process id.
    pub pid: u32,
    /// The configuration files that it has read, by absolute paths.
    pub config_files: Vec<PathBuf>,
    /// Where it hears what is desired, or why it does not.
    pub control: String,
    /// Taps that the control plane keeps unconnected, or cannot tell everything about, or does not know to be connected, and why.
    pub not_here: BTreeMap<String, String>,
    /// `on`, `off`, or why it is unavailable.
    pub fast_path: String,
    /// Steps that repaired what somebody else had changed.
    pub repairs: u64,
    /// How often the kernel had more to tell than there was room for.
    pub overflows: u64,
    /// How many steps have failed and are tried again.
    pub failing: usize,
    /// They, or the first [`FAILURES_MAX`] of them.
    pub failures: Vec<Failure>,
    /// What is wrong with DHCP servers and routers: steps that fail and are tried again, and what only somebody else can mend.
    pub services: Vec<String>,
}

/// As many as tell what is wrong, and fit into an answer.
pub const FAILURES_MAX: usize = 200;

/// A step that fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The step, as `overlane plan` prints it but for the names of interfaces.
    pub action: String,
    /// Why the last attempt failed.
    pub error: String,
}

/// The agent of this host, as far as it can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agent {
    /// There is none.
    Absent,
    /// There is one, which does not answer: it is stuck, of another version, or somebody else's.
    Silent {
        /// Its process id.
        pid: i32,
    },
    /// There is one.
    Running(Status),
}

impl Agent {
    /// Asks the agent of this host.
    pub fn ask() -> Self {
        let Some((pid, answer)) = instance::ask() else { return Self::Absent };
        serde_json::from_str(&answer).map_or(Self::Silent { pid }, Self::Running)
    }

    /// What fails, as far as it says.
    pub fn failures(&self) -> &[Failure] {
        match self {
            Self::Running(status) => &status.failures,
            Self::Absent | Self::Silent { .. } => &[],
        }
    }

    /// Taps that the control plane has trouble with, and why.
    pub fn refused(&self) -> impl Iterator<Item = (&str, &str)> {
        let refused = match self {
            Self::Running(status) => Some(&status.not_here),
            Self::Absent | Self::Silent { .. } => None,
        };
        refused.into_iter().flatten().map(|(tap, reason)| (tap.as_str(), reason.as_str()))
    }

    /// What trouble the control plane has with a tap, if it has any.
    pub fn why_not_here(&self, tap: &str) -> Option<&str> {
        match self {
            Self::Running(status) => status.not_here.get(tap).map(String::as_str),
            Self::Absent | Self::Silent { .. } => None,
        }
    }
}
