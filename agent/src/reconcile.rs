//! Observe, plan, apply, until there is nothing left to do. There is no other way to change the host.
//!
//! What the agent knows of the host it has listed from the kernel, or heard from it since. Devices are listed whenever one of
//! them changes; the big tables are followed entry by entry, and listed again from time to time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use overlane_core::{
    action::Action,
    config::Config,
    desired::{Desired, EntryKey},
    model::NetworkId,
    neutron::controller::HostView,
    observed::{FdbTable, Observed},
    plan::{self, Placement, Plan, Scope},
    update::Update,
};

use crate::{
    backoff::Backoff,
    drift::Drift,
    grace::Grace,
    host_view,
    kernel::{Changes, FdbChange},
    report::Report,
    status::{FAILURES_MAX, Failure, Status},
    step::{is_housekeeping, is_slow},
};

/// A plan can only name interfaces that exist, so a new network takes three passes: its devices, what goes on top of
/// them, and the proof that nothing is left. More than this many means that something fights back.
const PASSES_MAX: usize = 8;

/// libvirt connects a tap within milliseconds of making it, if it does at all.
const TAP_GRACE: Duration = Duration::from_secs(2);

/// Time for slow steps in one pass, so that a new tap does not wait for them: at least this, and more on a large host, where
/// looking takes longer as well. The kernel lane carries everything in the meantime.
const SLOW_BUDGET_MIN: Duration = Duration::from_millis(50);
/// How many times as long as looking slow steps may take.
const SLOW_BUDGET_FACTOR: u32 = 4;
/// Entries that are applied together. They are quick, but there can be very many.
const ENTRIES_AT_ONCE: usize = 1024;

/// How much of the host must be looked at before the next plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    /// Nothing but single entries can have changed, and those are known.
    Nothing,
    /// All but the entries of the big tables.
    Devices,
    /// All of it.
    Everything,
}

/// The host as the reconciler sees it.
pub trait Host {
    /// Brings what is `observed` up to date, as far as `look` says.
    fn observe(
        &mut self,
        desired: &Desired,
        look: Look,
        observed: &mut Observed,
    ) -> impl Future<Output = anyhow::Result<()>>;
    /// Takes steps in order, each on its own; idempotent.
    fn apply(&mut self, actions: &[&Action]) -> impl Future<Output = Vec<anyhow::Result<()>>>;
    /// Waits until something on it changes. Cancelling loses nothing.
    fn changed(&mut self) -> impl Future<Output = Changes>;
    /// What has changed on it and not been heard of yet.
    fn changed_by_now(&mut self) -> Changes;
    /// Everything that is desired is in place: what was kept until then can go.
    fn settled(&mut self) -> anyhow::Result<()>;
    /// Whether the fast path is `on`, `off`, or why it cannot be had for the moment.
    fn fast_path(&self) -> String;
    /// Whether something that is wanted cannot be had for the moment.
    fn is_degraded(&self) -> bool;
    /// Tries again to get hold of it, and looks after what no event tells of.
    fn look_closer(&mut self);
}

/// What the loop knows.
pub struct Reconciler<H> {
    host: H,
    config: Config,
    desired: Desired,
    observed: Observed,
    /// Whether the last look at the host has succeeded.
    is_observed: bool,
    look: Look,
    /// Whether all entries of the big tables were in place since anything else than entries was asked for.
    has_settled: bool,
    /// Where those of each network were then.
    settled: BTreeMap<NetworkId, Placement>,
    /// Entries that may have changed since.
    dirty: BTreeSet<EntryKey>,
    /// Whether rules or members of security groups have.
    has_new_rules: bool,
    obstacles: usize,
    /// These, and lanes that were asked for and are not to be had.
    remarks: BTreeSet<String>,
    said: BTreeSet<String>,
    unused: Grace,
    in_the_making: Grace,
    backoff: Backoff,
    drift: Drift,
    /// How often the kernel had more to tell than there was room for.
    overflows: u64,
}

impl<H: Host> Reconciler<H> {
    /// A reconciler of `host`.
    pub fn new(host: H, config: Config) -> Self {
        let unused = Grace::of(config.unused_device_grace);
        Self {
            host,
            config,
            desired: Desired::default(),
            observed: Observed::default(),
            is_observed: false,
            look: Look::Everything,
            has_settled: false,
            settled: BTreeMap::new(),
            dirty: BTreeSet::new(),
            has_new_rules: false,
            obstacles: 0,
            remarks: BTreeSet::new(),
            said: BTreeSet::new(),
            unused,
            in_the_making: Grace::of(TAP_GRACE),
            backoff: Backoff::default(),
            drift: Drift::default(),
            overflows: 0,
        }
    }

    /// Takes in what the control plane says.
    pub fn accept(&mut self, update: Update) {
        self.drift.new_wish();
        let has_rules = matches!(update, Update::Rules(..));
        match update.apply(&mut self.desired) {
            Some(entries) => {
                self.dirty.extend(entries);
                self.has_new_rules |= has_rules;
            }
            None => {
                self.has_settled = false;
                self.look_at_least(Look::Devices);
            }
        }
    }

    /// Waits until something on the host changes. Cancelling loses nothing.
    pub async fn changed(&mut self) -> Changes {
        self.host.changed().await
    }

    /// Takes in what the kernel reports.
    pub fn hear(&mut self, changes: &Changes) {
        if changes.overflow {
            self.overflows += 1;
            tracing::warn!("the kernel had more to tell than there was room for: looking at everything");
            self.look_at_least(Look::Everything);
        } else if changes.devices {
            self.look_at_least(Look::Devices);
        }
        for change in &changes.fdb {
            let entry = change.entry();
            let is_news = change.note(&mut self.observed.kernel);
            // Most of what is heard is the echo of what was done.
            if is_news && let Some((network, place)) = self.settled.iter().find(|(_, place)| place.has(entry.ifindex)) {
                self.dirty.insert(EntryKey::Mac(*network, entry.mac));
                if let FdbChange::Add(entry) = change {
                    place.doubt(entry, self.observed.datapath.as_mut());
                }
            }
            // How a tunnel endpoint that is new is reached is not known yet.
            if let FdbTable::Learned { remote } = entry.table
                && !self.observed.kernel.paths.contains_key(&remote)
            {
                self.look_at_least(Look::Devices);
            }
        }
    }

    /// Takes in that a pin has been removed.
    pub fn pins_have_changed(&mut self) {
        self.look_at_least(Look::Devices);
    }

    fn look_at_least(&mut self, look: Look) {
        self.look = self.look.max(look);
    }

    /// A full pass: looks at everything, also at what no event tells of, and tries again what was unavailable.
    ///
    /// # Errors
    /// When the host cannot be observed; single steps that fail are logged, counted, and hold nothing else back.
    pub async fn reconcile_fully(&mut self) -> anyhow::Result<Report> {
        self.host.look_closer();
        self.look_at_least(Look::Everything);
        self.reconcile().await
    }

    /// Brings the host to what is desired, as far as it can be.
    ///
    /// # Errors
    /// As for [`Self::reconcile_fully`].
    pub async fn reconcile(&mut self) -> anyhow::Result<Report> {
        let begun = Instant::now();
        let mut report = Report { is_degraded: self.host.is_degraded(), ..Report::default() };
        let mut failures = BTreeSet::new();
        let is_grace_over = self.unused.has_ended(begun) || self.in_the_making.has_ended(begun);
        if self.backoff.next_try().is_some() || is_grace_over {
            self.look_at_least(Look::Devices);
        }
        for pass in 1..=PASSES_MAX {
            let look_begun = Instant::now();
            let look = std::mem::replace(&mut self.look, Look::Nothing);
            // A plan of single entries does not know of other steps that have failed: those wait for the next close look.
            let has_single_entries = !self.dirty.is_empty() || self.has_new_rules;
            if look == Look::Nothing && (!has_single_entries || report.failed > 0) {
                break;
            }
            let (actions, placements) = self.look_and_plan(look).await?;
            self.backoff.retain(&actions);
            let (waiting, due): (Vec<&Action>, Vec<&Action>) =
                actions.iter().partition(|action| self.backoff.waits(action, begun).is_some());
            report.failed = waiting.len();
            failures = waiting.into_iter().map(|action| self.describe_failure(action, begun)).collect();
            if pass == PASSES_MAX
                && let Some(first) = due.first()
            {
                failures.insert(format!("something undoes what is done: still to do is to {first}"));
            }
            let budget = (look_begun.elapsed() * SLOW_BUDGET_FACTOR).max(SLOW_BUDGET_MIN);
            failures.extend(self.apply(&due, budget, &mut report).await);
            if report.left > 0 || due.iter().any(|action| !action.is_entry()) {
                self.look_at_least(Look::Devices);
            }
            if report.failed == 0 && report.left == 0 {
                self.dirty.clear();
                self.has_new_rules = false;
                if let Some(placements) = placements {
                    (self.has_settled, self.settled) = (true, placements);
                }
                if due.is_empty() && look > Look::Nothing && self.desired.complete {
                    self.host.settled()?;
                    self.drift.in_order(&self.observed, self.desired.learned(self.config.multicast.is_some()));
                }
            }
            // A program that is being detached counts on for a few milliseconds: not a reason to insist, only to look again.
            if !due.is_empty() && due.iter().all(|action| is_housekeeping(action)) {
                report.left = due.len();
            }
            if due.is_empty() || report.left > 0 {
                break;
            }
        }
        report.obstacles = self.obstacles;
        self.say(self.remarks.union(&failures).cloned().collect());
        if report.applied > 0 {
            let millis = begun.elapsed().as_secs_f64() * 1000.0;
            tracing::info!(actions = report.applied, failed = report.failed, left = report.left, millis, "reconciled");
        }
        Ok(report)
    }

    /// What is to be done, after as close a look as is needed; and, after a look at devices, where all entries go.
    async fn look_and_plan(
        &mut self,
        look: Look,
    ) -> anyhow::Result<(Vec<Action>, Option<BTreeMap<NetworkId, Placement>>)> {
        if look == Look::Nothing {
            let mut actions = plan::plan_entries(&self.desired, &self.observed, &self.settled, &self.dirty);
            if self.has_new_rules {
                actions.extend(plan::plan_rules(&self.desired, &self.observed, &self.settled));
            }
            return Ok((actions, None));
        }
        let result = self.host.observe(&self.desired, look, &mut self.observed).await;
        self.is_observed = result.is_ok();
        if let Err(error) = result {
            self.look_at_least(Look::Everything);
            return Err(error);
        }
        self.note_what_waits();
        let scope = if look == Look::Everything || !self.has_settled {
            Scope::Everything
        } else {
            Scope::Changes { settled: &self.settled, entries: &self.dirty }
        };
        let Plan { actions, obstacles, placements, detours, .. } =
            plan::plan_within(&self.desired, &self.observed, &self.config, scope);
        self.obstacles = obstacles.len();
        self.remarks = obstacles.iter().chain(&detours).map(ToString::to_string).collect();
        Ok((actions, Some(placements)))
    }

    /// Takes the steps of a plan, as many as there is time for, and returns what there is to complain about.
    async fn apply(&mut self, due: &[&Action], budget: Duration, report: &mut Report) -> Vec<String> {
        let begun = Instant::now();
        let mut complaints = Vec::new();
        let mut repairs = Vec::new();
        let mut left = due;
        while let Some(first) = left.first() {
            if (is_slow(first) || first.is_entry()) && begun.elapsed() > budget {
                report.left = left.len();
                break;
            }
            let entries = left.iter().take(ENTRIES_AT_ONCE).take_while(|action| action.is_entry()).count();
            if entries == ENTRIES_AT_ONCE {
                // The kernel repeats all that it is told, and must not run out of room for it.
                let echo = self.host.changed_by_now();
                self.hear(&echo);
            }
            let (now, later) = left.split_at(entries.max(1));
            left = later;
            for (action, result) in now.iter().zip(self.host.apply(now).await) {
                if let Err(error) = result {
                    self.backoff.failed(action, format!("{error:#}"), Instant::now());
                    report.failed += 1;
                    complaints.push(self.describe_failure(action, begun));
                    continue;
                }
                self.observed.record(action);
                report.applied += usize::from(!is_housekeeping(action));
                if self.drift.is_repair(action) {
                    repairs.push(*action);
                }
            }
        }
        self.drift.report(&repairs);
        complaints
    }

    fn describe_failure(&self, action: &Action, now: Instant) -> String {
        format!("could not {action}: {}", self.backoff.waits(action, now).unwrap_or("it is tried again"))
    }

    /// What only this loop knows, in an order that does not change by itself.
    pub fn status(&self) -> Status {
        let failure =
            |(action, error): (&Action, &str)| Failure { action: action.to_string(), error: error.to_owned() };
        let mut failures: Vec<Failure> = self.backoff.failures().map(failure).collect();
        failures.sort_by(|a, b| a.action.cmp(&b.action));
        let (failing, repairs) = (failures.len(), self.drift.total());
        failures.truncate(FAILURES_MAX);
        Status {
            fast_path: self.host.fast_path(),
            repairs,
            overflows: self.overflows,
            failing,
            failures,
            ..Status::default()
        }
    }

    /// What is desired, for whoever asks.
    pub fn desired_as_json(&self) -> String {
        serde_json::to_string(&self.desired).unwrap_or_default()
    }

    /// Taps, and ports that work, for control planes that want to know. `None` when the host could not be looked at: what is not
    /// seen is not gone.
    pub fn host_view(&self) -> Option<HostView> {
        self.is_observed.then(|| host_view::of(&self.desired, &self.observed, &self.config))
    }

    /// When the loop must look again even if nothing happens.
    pub fn next_wake(&self) -> Option<Instant> {
        let ends = self.unused.next_end().into_iter().chain(self.in_the_making.next_end());
        ends.chain(self.backoff.next_try()).min()
    }

    /// Adds to what was observed for which devices a grace period is over.
    fn note_what_waits(&mut self) {
        let now = Instant::now();
        self.observed.retired = self.unused.over(now, &plan::unused_devices(&self.desired, &self.observed.kernel));
        let taps = plan::taps_in_the_making(&self.desired, &self.observed.kernel, &self.config);
        self.observed.abandoned = self.in_the_making.over(now, &taps);
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
