//! Observe, plan, apply, until there is nothing left to do. There is no other way to change the host.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use overlane_core::{
    action::{Action, DatapathAction},
    config::Config,
    desired::Desired,
    observed::Observed,
    plan::{self, Plan},
};

use crate::backoff::Backoff;

/// A plan can only name interfaces that exist, so a new network takes three passes: its devices, what goes on top of
/// them, and the proof that nothing is left. More than this many means that something fights back.
const PASSES_MAX: usize = 8;

/// Time for slow steps in one pass, so that a new tap does not wait for them: at least this, and more on a large host, where
/// looking takes longer as well. The kernel lane carries everything in the meantime.
const SLOW_BUDGET_MIN: Duration = Duration::from_millis(50);
/// How many times as long as looking slow steps may take.
const SLOW_BUDGET_FACTOR: u32 = 4;

/// Attaching a program makes the kernel wait for a grace period.
fn is_slow(action: &Action) -> bool {
    matches!(action, Action::Datapath(DatapathAction::Attach { .. }))
}

/// What has no effect on traffic.
fn is_housekeeping(action: &Action) -> bool {
    matches!(action, Action::Datapath(DatapathAction::ForgetCounters { .. }))
}

/// The host as the reconciler sees it.
pub trait Host {
    /// Lists what there is.
    fn observe(&mut self, desired: &Desired) -> impl Future<Output = anyhow::Result<Observed>>;
    /// Takes one step; idempotent.
    fn apply(&mut self, action: &Action) -> impl Future<Output = anyhow::Result<()>>;
    /// Everything that is desired is in place: what was kept until then can go.
    fn settled(&mut self) -> anyhow::Result<()>;
    /// Whether something that is wanted cannot be had for the moment.
    fn is_degraded(&self) -> bool;
    /// Tries again to get hold of it.
    fn retry_unavailable(&mut self);
}

/// The loop's memory: none of the host, only of what has been said, since when devices have been unused, and what failed.
pub struct Reconciler<H> {
    host: H,
    config: Config,
    said: BTreeSet<String>,
    unused_since: BTreeMap<u32, Instant>,
    backoff: Backoff,
}

/// What a reconciliation came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Steps that succeeded.
    pub applied: usize,
    /// Steps that failed; they are planned again next time.
    pub failed: usize,
    /// Steps that were left for the next time, so that what has happened meanwhile does not wait for them.
    pub left: usize,
    /// Whether the host lacks something that may come back, such as the BPF file system.
    pub is_degraded: bool,
    /// Obstacles that only somebody else can remove.
    pub obstacles: usize,
}

impl<H: Host> Reconciler<H> {
    /// A reconciler of `host`.
    pub fn new(host: H, config: Config) -> Self {
        Self { host, config, said: BTreeSet::new(), unused_since: BTreeMap::new(), backoff: Backoff::default() }
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
        let mut report = Report { is_degraded: self.host.is_degraded(), ..Report::default() };
        let mut complaints = BTreeSet::new();
        for pass in 1..=PASSES_MAX {
            let look_begun = Instant::now();
            let mut observed = self.host.observe(desired).await?;
            observed.retired = self.retire(desired, &observed);
            let Plan { actions, obstacles } = plan::plan(desired, &observed, &self.config);
            // What is remembered of large maps is changed in place only while nobody else holds it.
            drop(observed);
            self.backoff.retain(&actions);
            complaints = obstacles.iter().map(ToString::to_string).collect();
            let (waiting, due): (Vec<&Action>, Vec<&Action>) =
                actions.iter().partition(|action| self.backoff.waits(action, begun).is_some());
            (report.obstacles, report.failed) = (obstacles.len(), waiting.len());
            complaints.extend(waiting.into_iter().map(|action| self.describe_failure(action, begun)));
            if due.is_empty() {
                if desired.complete && report.failed == 0 {
                    self.host.settled()?;
                }
                break;
            }
            if pass == PASSES_MAX {
                complaints.insert(format!("something undoes what is done: still to do is to {}", due[0]));
            }
            let budget = (look_begun.elapsed() * SLOW_BUDGET_FACTOR).max(SLOW_BUDGET_MIN);
            complaints.extend(self.apply(&due, budget, &mut report).await);
            // A program that is being detached counts on for a few milliseconds: not a reason to insist, only to look again.
            if due.iter().all(|action| is_housekeeping(action)) {
                report.left = due.len();
            }
            if report.left > 0 {
                break;
            }
        }
        self.say(complaints);
        if report.applied > 0 {
            let millis = begun.elapsed().as_secs_f64() * 1000.0;
            tracing::info!(actions = report.applied, failed = report.failed, left = report.left, millis, "reconciled");
        }
        Ok(report)
    }

    /// Takes the steps of a plan, as many as there is time for, and returns what there is to complain about.
    async fn apply(&mut self, due: &[&Action], budget: Duration, report: &mut Report) -> Vec<String> {
        let begun = Instant::now();
        let mut complaints = Vec::new();
        for (index, action) in due.iter().enumerate() {
            if is_slow(action) && begun.elapsed() > budget {
                report.left = due.len() - index;
                break;
            }
            match self.host.apply(action).await {
                Ok(()) if is_housekeeping(action) => (),
                Ok(()) => report.applied += 1,
                Err(error) => {
                    self.backoff.failed(action, format!("{error:#}"), Instant::now());
                    report.failed += 1;
                    complaints.push(self.describe_failure(action, begun));
                }
            }
        }
        complaints
    }

    fn describe_failure(&self, action: &Action, now: Instant) -> String {
        format!("could not {action}: {}", self.backoff.waits(action, now).unwrap_or("it is tried again"))
    }

    /// When the loop must look again even if nothing happens.
    pub fn next_wake(&self) -> Option<Instant> {
        self.next_retirement().into_iter().chain(self.backoff.next_try()).min()
    }

    /// The devices whose grace period is over.
    fn retire(&mut self, desired: &Desired, observed: &Observed) -> BTreeSet<u32> {
        let now = Instant::now();
        let unused = plan::unused_devices(desired, &observed.kernel);
        self.unused_since.retain(|ifindex, _| unused.contains(ifindex));
        for ifindex in unused {
            self.unused_since.entry(ifindex).or_insert(now);
        }
        let is_over = |since: &Instant| now.duration_since(*since) >= self.config.unused_device_grace;
        self.unused_since.iter().filter(|(_, since)| is_over(since)).map(|(ifindex, _)| *ifindex).collect()
    }

    /// When the next grace period will be over.
    fn next_retirement(&self) -> Option<Instant> {
        let now = Instant::now();
        let ends = self.unused_since.values().map(|since| *since + self.config.unused_device_grace);
        ends.filter(|end| *end > now).min()
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
