//! Programs that outlive the agent: started with a mark in their environment, found again by it, and missed as soon as they end.

use std::{
    collections::BTreeMap,
    env, fs, io,
    os::fd::{AsFd as _, OwnedFd},
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use overlane_core::services::{OWN_PROGRAM, ObservedProcess, ProcessName, ProcessSpec, dhcp};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc,
    time::timeout,
};

use super::{dnsmasq, program_log};
use crate::kernel::Namespace;

/// The mark: the name, the fingerprint and whose it is, separated by line ends.
const MARK: &str = "OVERLANE_SERVICE";
/// The program that the calling thread runs, whatever has become of its file.
const ITSELF: &str = "/proc/self/exe";
/// Where programs write their ids.
const PID_FILES: [&str; 2] = ["pid", "vrrp_pid"];
/// How long a program may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(2);
/// A program that has run for so long has started well.
const STARTED_WELL: Duration = Duration::from_secs(5);
/// The first wait of a program that ends at once, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The programs of one agent.
pub(super) struct Processes {
    /// Whose they are: several agents may share a machine, each in a network namespace of its own.
    owner: String,
    running: BTreeMap<u32, Running>,
    ends: (mpsc::UnboundedSender<u32>, mpsc::UnboundedReceiver<u32>),
    deaths: BTreeMap<ProcessName, Death>,
}

struct Running {
    name: ProcessName,
    fingerprint: String,
    descriptor: OwnedFd,
    /// Of those that this agent has started, for the kernel to forget them.
    child: Option<Child>,
    folder: Option<PathBuf>,
    since: Instant,
}

/// How a program has ended by itself.
struct Death {
    /// How often in a row it had not started well.
    in_a_row: u32,
    next_try: Instant,
    how: String,
}

impl Processes {
    /// Those of the agent with this `state_path` in the network namespace that the calling thread is in.
    pub(super) fn of(state_path: &Path) -> anyhow::Result<Self> {
        let network =
            fs::metadata("/proc/thread-self/ns/net").context("finding out which network namespace this is")?;
        Ok(Self {
            owner: format!("{} {}", network.ino(), state_path.display()),
            running: BTreeMap::new(),
            ends: mpsc::unbounded_channel(),
            deaths: BTreeMap::new(),
        })
    }

    /// Looks for programs that an earlier agent has started.
    pub(super) fn adopt(&mut self) {
        self.running.retain(|pid, _| Path::new("/proc").join(pid.to_string()).exists());
        for pid in fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        {
            if self.running.contains_key(&pid) {
                continue;
            }
            // Whoever has ended meanwhile, or is somebody else's, has no such mark; and a program's own children have it from it.
            if let Some((name, fingerprint)) = self.mark_of(pid)
                && parent_of(pid).and_then(|parent| self.mark_of(parent)).is_none()
                && let Err(error) = self.watch(pid, name, fingerprint, None, None)
            {
                tracing::debug!(pid, error = %error, "a program ended while it was looked at");
            }
        }
    }

    /// What runs.
    pub(super) fn observed(&self) -> BTreeMap<ProcessName, Vec<ObservedProcess>> {
        let mut observed: BTreeMap<ProcessName, Vec<ObservedProcess>> = BTreeMap::new();
        for (pid, running) in &self.running {
            let process = ObservedProcess { pid: *pid, fingerprint: running.fingerprint.clone() };
            observed.entry(running.name.clone()).or_default().push(process);
        }
        observed
    }

    /// Until when a program is not started, and why.
    pub(super) fn waits(&self, name: &ProcessName, now: Instant) -> Option<(Instant, String)> {
        let death = self.deaths.get(name).filter(|death| death.next_try > now)?;
        Some((death.next_try, format!("{name} ends at once ({}): it is tried again", death.how)))
    }

    /// Has programs that end at once started again without a wait: something else is wanted of them.
    pub(super) fn begin_anew(&mut self) {
        self.deaths.clear();
    }

    /// Starts a program, in `namespace` or where the agent is.
    pub(super) fn start(
        &mut self,
        namespace: Option<&Namespace>,
        name: &ProcessName,
        spec: &ProcessSpec,
    ) -> anyhow::Result<()> {
        let fingerprint = spec.fingerprint();
        fs::create_dir_all(&spec.folder).with_context(|| format!("making {}", spec.folder.display()))?;
        // What has the id of an earlier one now may be anything: some programs would take it for themselves, and not start.
        for file in PID_FILES {
            let _ = fs::remove_file(spec.folder.join(file));
        }
        let log = program_log::begin(&spec.folder)?;
        let errors = log.try_clone().context("sharing a log")?;
        let mark = format!("{}\n{}\n{fingerprint}\n{}", name.program, name.of, self.owner);
        let program = match spec.program.as_str() {
            OWN_PROGRAM => own_program(),
            other => other.into(),
        };
        let mut command = Command::new(program);
        command.arg0(&spec.program);
        // Away from the terminal's Ctrl-C.
        command.args(&spec.args).env(MARK, mark).current_dir(&spec.folder).process_group(0);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let mut spawn = || {
            if spec.program == dhcp::PROGRAM {
                dnsmasq::check()?;
            }
            command.spawn()
        };
        let spawned = match namespace {
            Some(namespace) => namespace.inside(spawn).with_context(|| format!("entering {}", namespace.name()))?,
            None => spawn(),
        };
        let child = spawned.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => anyhow::anyhow!("{} is not installed{}", spec.program, package(&spec.program)),
            _ => anyhow::Error::new(error).context(format!("starting {}", spec.program)),
        })?;
        let pid = child.id();
        tracing::info!(pid, "started {name}");
        self.watch(pid, name.clone(), fingerprint, Some(child), Some(spec.folder.clone())).context("watching a program")
    }

    /// Has a program read its files again.
    pub(super) fn reload(&self, pid: u32) -> anyhow::Result<()> {
        let Some(running) = self.running.get(&pid) else { return Ok(()) };
        pidfd_send_signal(&running.descriptor, Signal::HUP).context("sending SIGHUP")
    }

    /// Ends a program, and waits until it has ended.
    pub(super) async fn stop(&mut self, pid: u32) -> anyhow::Result<()> {
        let Some(mut running) = self.running.remove(&pid) else { return Ok(()) };
        for signal in [Signal::TERM, Signal::KILL] {
            // ESRCH: it has ended already.
            let _ = pidfd_send_signal(&running.descriptor, signal);
            if timeout(PATIENCE, ended(&running.descriptor)).await.is_ok() {
                if let Some(child) = &mut running.child {
                    let _ = child.try_wait();
                }
                tracing::info!(pid, "ended {}", running.name);
                return Ok(());
            }
        }
        anyhow::bail!("process {pid} does not end")
    }

    /// Waits until a program ends by itself. Cancelling loses nothing.
    pub(super) async fn end(&mut self) {
        while let Some(pid) = self.ends.1.recv().await {
            // Those that were told to are not missed.
            if let Some(running) = self.running.remove(&pid) {
                self.has_died(pid, running);
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    fn has_died(&mut self, pid: u32, mut running: Running) {
        let now = Instant::now();
        let status = running.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
        let status = status.map_or_else(|| "ended".to_owned(), |status| status.to_string());
        let last = running.folder.as_ref().and_then(|folder| program_log::last_words(folder));
        let how = last.map_or_else(|| status.clone(), |last| format!("{status}: {last}"));
        tracing::warn!(pid, how, "{} has ended by itself", running.name);
        let earlier = self.deaths.get(&running.name).map_or(0, |death| death.in_a_row);
        let in_a_row = if running.since.elapsed() < STARTED_WELL { earlier + 1 } else { 0 };
        let wait = match in_a_row {
            0 => Duration::ZERO,
            _ => (FIRST_WAIT * 2_u32.saturating_pow(in_a_row - 1)).min(LONGEST_WAIT),
        };
        self.deaths.insert(running.name, Death { in_a_row, next_try: now + wait, how });
    }

    fn watch(
        &mut self,
        pid: u32,
        name: ProcessName,
        fingerprint: String,
        child: Option<Child>,
        folder: Option<PathBuf>,
    ) -> io::Result<()> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let descriptor = pidfd_open(raw, PidfdFlags::empty())?;
        let (watched, ends) = (descriptor.try_clone()?, self.ends.0.clone());
        tokio::spawn(async move {
            ended(&watched).await;
            let _ = ends.send(pid);
        });
        self.running.insert(pid, Running { name, fingerprint, descriptor, child, folder, since: Instant::now() });
        Ok(())
    }

    fn mark_of(&self, pid: u32) -> Option<(ProcessName, String)> {
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let mark = environment
            .split(|byte| *byte == 0)
            .find_map(|entry| std::str::from_utf8(entry).ok()?.strip_prefix(MARK)?.strip_prefix('='))?;
        let mut parts = mark.splitn(4, '\n');
        let (program, of, fingerprint, owner) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let name = ProcessName { program: program.to_owned(), of: of.to_owned() };
        (owner == self.owner).then(|| (name, fingerprint.to_owned()))
    }
}

fn parent_of(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

/// Waits until the process behind a descriptor has ended.
async fn ended(descriptor: &OwnedFd) {
    // SAFETY: the descriptor is borrowed for as long as the registration lives, and is the same one all the time.
    let registered = unsafe { AsyncFd::register_with_interest(descriptor.as_fd(), Interest::READABLE) };
    match registered {
        Ok(descriptor) => drop(descriptor.readable().await),
        // Without the reactor there is nothing to wait with; the next full pass sees it.
        Err(_) => std::future::pending().await,
    }
}

/// This program, of this version: a package that is upgraded puts another one in the place of its file, or none.
fn own_program() -> PathBuf {
    env::current_exe().ok().filter(|file| file.exists()).unwrap_or_else(|| ITSELF.into())
}

/// Where Debian has it.
fn package(program: &str) -> String {
    let package = match program {
        "dnsmasq" => "dnsmasq-base",
        "keepalived" | "radvd" => program,
        _ => return String::new(),
    };
    format!(" (on Debian: apt-get install {package})")
}
