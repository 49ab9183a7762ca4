//! The agent's main loop: what wakes it, and that it stops without touching forwarding.

use std::time::Duration;

use anyhow::Context as _;
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};

use crate::{
    control::ControlPlane, datapath::PinWatch, files::Loaded, host::LinuxHost, instance::Instance, kernel::Kernel,
    logs, reconcile::Reconciler, report::Report, services::ServiceThread, status::Status,
};

/// Events drive the agent; this is the safety net under them.
const FULL_PASS_INTERVAL: Duration = Duration::from_secs(30);
/// What is asked of the service manager, again and again, until the agent is ready: a large host takes its time.
const MORE_TIME: Duration = Duration::from_secs(60);
/// When the host could not be looked at, or lacks something, it is tried again sooner.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// [`overlane_core::problem::Problems`] for a wrong topology; otherwise why the agent cannot start.
pub fn agent(loaded: &Loaded) -> anyhow::Result<()> {
    logs::start(&loaded.config.log)?;
    for note in &loaded.notes {
        tracing::debug!("{note}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(run(loaded))
}

async fn run(loaded: &Loaded) -> anyhow::Result<()> {
    let config = &loaded.config;
    let mut instance = Instance::claim().await?;
    let mut stop = Stop::listen()?;
    let mut control = ControlPlane::start(config)?;
    let services = control.services().map(|wanted| ServiceThread::start(wanted, config)).transpose()?;
    let kernel = Kernel::connect().context("connecting to the kernel by netlink")?;
    let host = LinuxHost::new(kernel, config);
    let mut pins = PinWatch::over(&config.bpffs).context("watching the pins")?;
    let mut reconciler = Reconciler::new(host, config.clone());
    let local_ip = config.local_ip().map(tracing::field::display);
    tracing::info!(host = config.host, local_ip, "agent started");

    let mut next_full_pass = Instant::now();
    // Half of what the watchdog allows: only a pass that is completed counts for it.
    let longest_pause = sd_notify::watchdog_enabled().map_or(FULL_PASS_INTERVAL, |limit| limit / 2);
    let mut is_ready = false;
    reconciler.accept(control.update().await);
    loop {
        let is_full_pass = Instant::now() >= next_full_pass;
        let result = if is_full_pass { reconciler.reconcile_fully().await } else { reconciler.reconcile().await };
        // Events, however many, do not put the next one off.
        let latest = Instant::now() + pause_after(&result).min(longest_pause);
        next_full_pass = if is_full_pass { latest } else { next_full_pass.min(latest) };
        if let Err(error) = &result {
            tracing::warn!(error = format!("{error:#}"), "reconcile failed, will retry");
        }
        let left = result.as_ref().map_or(0, |report| report.left);
        if result.is_ok() {
            let was_ready = is_ready;
            is_ready |= left == 0;
            report_progress(was_ready, is_ready);
        }
        let next_wake = reconciler.next_wake();
        control.host_changed(|| reconciler.host_view());
        let mut status = Status { pid: std::process::id(), config_files: loaded.files.clone(), ..reconciler.status() };
        control.tell(&mut status);
        status.services = services.as_ref().map(ServiceThread::complaints).unwrap_or_default();
        instance.publish(status);
        pins.renew();
        tokio::select! {
            // In this order: work that is left does not keep the agent from hearing what is new.
            biased;
            () = stop.requested() => break,
            update = control.update() => reconciler.accept(update),
            changes = reconciler.changed() => reconciler.hear(&changes),
            () = pins.removed() => reconciler.pins_have_changed(),
            () = changed(services.as_ref()) => (),
            question = instance.asked() => drop(question.send(reconciler.desired_as_json())),
            () = tokio::time::sleep_until(next_full_pass) => (),
            () = wait_until(next_wake) => (),
            () = std::future::ready(()), if left > 0 => (),
        }
    }
    control.stop().await;
    tracing::info!("agent stopped; forwarding goes on without it");
    Ok(())
}

fn pause_after(result: &anyhow::Result<Report>) -> Duration {
    match result {
        Ok(report) if !report.is_degraded => FULL_PASS_INTERVAL,
        _ => RETRY_INTERVAL,
    }
}

async fn changed(services: Option<&ServiceThread>) {
    match services {
        Some(services) => services.changed().await,
        None => std::future::pending().await,
    }
}

async fn wait_until(when: Option<std::time::Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

/// Tells systemd, if it started the agent, that a pass has been completed, and when the agent has become ready also whoever reads
/// the log. A loop that is stuck says nothing, and systemd's watchdog restarts the agent.
fn report_progress(was_ready: bool, is_ready: bool) {
    let mut states = vec![NotifyState::Watchdog];
    if !is_ready {
        states.push(NotifyState::ExtendTimeoutUsec(MORE_TIME.as_micros() as u32));
    } else if !was_ready {
        tracing::info!("ready: the host is what the control plane asks for, as far as it can be");
        states.push(NotifyState::Ready);
    }
    if let Err(error) = sd_notify::notify(&states) {
        tracing::warn!(error = %error, "could not tell the service manager how the agent is");
    }
}

struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listening for signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn requested(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
        }
    }
}
