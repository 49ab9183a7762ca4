//! DHCP servers, routers and what else a network node offers: namespaces with programs in them, brought to what is wanted and kept
//! there.
//!
//! They have a thread of their own: it enters namespaces, waits for programs, and never keeps a tap waiting. What it has started
//! goes on when the agent ends, and is found again by the next one.

mod announce;
mod dnsmasq;
mod file;
mod manager;
pub mod metadata;
mod process;
mod program_log;
mod room;
mod ruleset;
mod supervisor;
mod waits;

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use overlane_core::{
    config::Config,
    services::{ObservedServices, Services},
};
use tokio::{
    runtime::Runtime,
    sync::{Notify, watch},
    time::Instant,
};

use manager::{Manager, Report};
use supervisor::supervise;

/// Events drive the services; this is the safety net under them.
const FULL_PASS_INTERVAL: Duration = Duration::from_secs(30);
/// A pass that takes longer than this waits for something that does not happen.
const PASS_MAX: Duration = Duration::from_secs(120);

/// The running services thread. Dropping it leaves namespaces and programs as they are.
pub struct ServiceThread {
    report: Arc<Shared>,
    stop: Arc<Notify>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    report: Mutex<Report>,
    /// Since when a pass has been going on.
    busy_since: Mutex<Option<Instant>>,
    has_changed: Notify,
}

impl ServiceThread {
    /// Starts the thread, which follows what is wanted.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(wanted: watch::Receiver<Arc<Services>>, config: &Config) -> anyhow::Result<Self> {
        raise_descriptor_limit();
        let (report, stop) = (Arc::<Shared>::default(), Arc::<Notify>::default());
        let (shared, stopping, config) = (Arc::clone(&report), Arc::clone(&stop), config.clone());
        let runtime = runtime()?;
        let run = move || {
            let work = || serve(wanted.clone(), &config, &shared, &stopping);
            let wait = |reason: &str, wait: Duration| {
                tracing::error!(reason, "DHCP servers and routers are not looked after; it is begun anew in {wait:?}");
                shared.is_busy(None);
                shared.publish(Report { failures: vec![format!("services: {reason}")], ..Report::default() });
                // Nobody has told it to stop.
                runtime.block_on(tokio::time::timeout(wait, stopping.notified())).is_err()
            };
            supervise(work, wait);
        };
        let thread = thread::Builder::new().name("supervisor".to_owned()).spawn(run).context("starting a thread")?;
        Ok(Self { report, stop, thread: Some(thread) })
    }

    /// What is wrong with the services.
    pub fn complaints(&self) -> Vec<String> {
        self.report.complaints(Instant::now())
    }

    /// Waits until that is something else. Cancelling loses nothing.
    pub async fn changed(&self) {
        self.report.has_changed.notified().await;
    }
}

impl Drop for ServiceThread {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn complaints(&self, now: Instant) -> Vec<String> {
        let report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        let busy_since = *self.busy_since.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stuck = busy_since.is_some_and(|since| now > since + PASS_MAX);
        let stuck = is_stuck.then(|| {
            format!("services: a pass has not ended for {PASS_MAX:?}; restarting the agent disturbs no traffic")
        });
        report.failures.iter().chain(&report.obstacles).cloned().chain(stuck).collect()
    }

    fn is_busy(&self, since: Option<Instant>) {
        *self.busy_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn publish(&self, report: Report) {
        let mut current = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != report {
            *current = report;
            self.has_changed.notify_one();
        }
    }
}

/// Looks at the services of this host once.
///
/// # Errors
/// When they cannot be looked at.
pub async fn look(wanted: &Services, config: &Config) -> anyhow::Result<ObservedServices> {
    let mut manager = Manager::new(config)?;
    manager.look(wanted).await
}

/// Ends every program and deletes every namespace that Overlane has made, and returns the names of the namespaces.
///
/// # Errors
/// When some remain.
pub async fn remove(config: &Config) -> anyhow::Result<Vec<String>> {
    let nothing = Services::default();
    let found = look(&nothing, config).await?;
    let report = Manager::new(config)?.reconcile(&nothing, true).await;
    anyhow::ensure!(report.failures.is_empty(), "{}", report.failures.join("; "));
    Ok(found.namespaces.into_keys().collect())
}

fn serve(
    mut wanted: watch::Receiver<Arc<Services>>,
    config: &Config,
    shared: &Shared,
    stop: &Notify,
) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let mut manager = Manager::new(config)?;
        let mut next_full_pass = Instant::now();
        let mut now = Arc::clone(&wanted.borrow());
        loop {
            let before = std::mem::replace(&mut now, Arc::clone(&wanted.borrow_and_update()));
            if !Arc::ptr_eq(&before, &now) {
                manager.begin_anew();
            }
            let is_full = Instant::now() >= next_full_pass;
            shared.is_busy(Some(Instant::now()));
            let report = manager.reconcile(&now, is_full).await;
            shared.is_busy(None);
            if is_full {
                next_full_pass = Instant::now() + FULL_PASS_INTERVAL;
            }
            let wake = report.next_try.map_or(next_full_pass, |next| next_full_pass.min(next.into()));
            let is_idle = now.namespaces.is_empty() && now.processes.is_empty() && report.is_settled;
            shared.publish(report);
            tokio::select! {
                () = stop.notified() => return Ok(()),
                changed = wanted.changed() => if changed.is_err() { return Ok(()) },
                // A host that is no network node has nothing to look after.
                () = manager.changed(), if !is_idle => (),
                () = tokio::time::sleep_until(wake), if !is_idle => (),
            }
        }
    })
}

fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")
}

/// Each namespace takes a few descriptors, and a service manager's default has room for a hundred namespaces at most.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(error = %error, "could not raise the limit of open files: there may be too few for many routers");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_that_does_not_end_is_complained_about() {
        let (shared, now) = (Shared::default(), Instant::now());
        shared.publish(Report { failures: vec!["broken".to_owned()], ..Report::default() });
        shared.is_busy(Some(now));
        assert_eq!(shared.complaints(now + PASS_MAX), ["broken"]);
        let complaints = shared.complaints(now + PASS_MAX + Duration::from_secs(1));
        assert!(complaints.len() == 2 && complaints[1].contains("a pass has not ended for 120s"), "{complaints:?}");
        shared.is_busy(None);
        assert_eq!(shared.complaints(now + PASS_MAX * 2), ["broken"]);
    }
}
