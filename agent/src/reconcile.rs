//! Observe, plan, apply, until there is nothing left to do. There is no other way to change the host.

use std::{collections::BTreeSet, time::Instant};

use overlane_core::{
    action::Action,
    config::VxlanConfig,
    desired::Desired,
    observed::Observed,
    plan::{self, Plan},
};

/// A plan can only name interfaces that exist, so a new network takes three passes: its devices, what goes on top of
/// them, and the proof that nothing is left. More than this many means that something fights back.
const PASSES_MAX: usize = 8;

/// The host as the reconciler sees it.
pub trait Host {
    /// Lists what there is.
    fn observe(&mut self, desired: &Desired) -> impl Future<Output = anyhow::Result<Observed>>;
    /// Takes one step; idempotent.
    fn apply(&mut self, action: &Action) -> impl Future<Output = anyhow::Result<()>>;
    /// Tries again to get hold of what could not be had before.
    fn retry_unavailable(&mut self);
}

/// The loop's memory: none of the host, only of what has been said about it.
pub struct Reconciler<H> {
    host: H,
    vxlan: VxlanConfig,
    said: BTreeSet<String>,
}

/// What a reconciliation came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Steps that succeeded.
    pub applied: usize,
    /// Steps that failed; they are planned again next time.
    pub failed: usize,
    /// Obstacles that only somebody else can remove.
    pub obstacles: usize,
}

impl<H: Host> Reconciler<H> {
    /// A reconciler of `host`.
    pub fn new(host: H, vxlan: VxlanConfig) -> Self {
        Self { host, vxlan, said: BTreeSet::new() }
    }

    /// A full pass: also tries again what was unavailable.
    ///
    /// # Errors
    /// When the host cannot be observed; single steps that fail are logged, counted, and hold nothing else back.
    pub async fn reconcile_fully(&mut self, desired: &Desired) -> anyhow::Result<Report> {
        self.host.retry_unavailable();
        self.reconcile(desired).await
    }

    /// Brings the host to what is desired, as far as it can be.
    ///
    /// # Errors
    /// As for [`Self::reconcile_fully`].
    pub async fn reconcile(&mut self, desired: &Desired) -> anyhow::Result<Report> {
        let begun = Instant::now();
        let mut report = Report::default();
        let mut complaints = BTreeSet::new();
        let mut previous = Vec::new();
        for _ in 0..PASSES_MAX {
            let observed = self.host.observe(desired).await?;
            let Plan { actions, obstacles } = plan::plan(desired, &observed, &self.vxlan);
            report.obstacles = obstacles.len();
            complaints = obstacles.iter().map(ToString::to_string).collect();
            if actions.is_empty() || actions == previous {
                break;
            }
            report.failed = 0;
            for action in &actions {
                match self.host.apply(action).await {
                    Ok(()) => report.applied += 1,
                    Err(error) => {
                        report.failed += 1;
                        complaints.insert(format!("could not {action}: {error:#}"));
                    }
                }
            }
            previous = actions;
        }
        self.say(complaints);
        if report.applied > 0 {
            let millis = begun.elapsed().as_secs_f64() * 1000.0;
            tracing::info!(actions = report.applied, failed = report.failed, millis, "reconciled");
        }
        Ok(report)
    }

    /// Logs what is new among the complaints, and what is over; an operator reads each once.
    fn say(&mut self, complaints: BTreeSet<String>) {
        for new in complaints.difference(&self.said) {
            tracing::warn!("{new}");
        }
        for over in self.said.difference(&complaints) {
            tracing::info!("no longer: {over}");
        }
        self.said = complaints;
    }
}
