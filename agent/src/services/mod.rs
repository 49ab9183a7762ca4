//! DHCP servers, routers and what else a network node offers: namespaces with programs in them, brought to what is wanted and kept
//! there.
//!
//! They have a thread of their own: it enters namespaces, waits for programs, and never keeps a tap waiting. What it has started
//! goes on when the agent ends, and is found again by the next one.

mod announce;
mod manager;
pub mod metadata;
mod process;
mod room;
mod ruleset;

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
    sync::{Notify, watch},
    time::Instant,
};

use manager::{Manager, Report};

/// Events drive the services; this is the safety net under them.
const FULL_PASS_INTERVAL: Duration = Duration::from_secs(30);

/// The running services thread. Dropping it leaves namespaces and programs as they are.
pub struct ServiceThread {
    report: Arc<Shared>,
    stop: Arc<Notify>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    report: Mutex<Report>,
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
        let run = move || {
            if let Err(error) = serve(wanted, &config, &shared, &stopping) {
                tracing::error!(error = format!("{error:#}"), "DHCP servers and routers are not looked after");
                shared.publish(Report { failures: vec![format!("services: {error:#}")], ..Report::default() });
            }
        };
        let thread = thread::Builder::new().name("services".to_owned()).spawn(run).context("starting a thread")?;
        Ok(Self { report, stop, thread: Some(thread) })
    }

    /// What is wrong with the services.
    pub fn complaints(&self) -> Vec<String> {
        let report = self.report.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.failures.iter().chain(&report.obstacles).cloned().collect()
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let mut manager = Manager::new(config)?;
        let mut next_full_pass = Instant::now();
        loop {
            let now = Arc::clone(&wanted.borrow_and_update());
            let is_full = Instant::now() >= next_full_pass;
            let report = manager.reconcile(&now, is_full).await;
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

/// Each namespace takes a few descriptors, and a service manager's default has room for a hundred namespaces at most.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(error = %error, "could not raise the limit of open files: there may be too few for many routers");
    }
}
