//! Observe, plan, apply, for the services.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context as _;
use nix::sys::inotify::AddWatchFlags;
use overlane_core::{
    config::Config,
    services::{ObservedServices, ProcessName, ProcessSpec, ServiceAction as Action, Services, plan},
};
use tokio::sync::mpsc;

use super::{
    announce::{Announcement, announce},
    dnsmasq,
    file::replace_file,
    process::Processes,
    program_log,
    room::Room,
    ruleset,
    waits::{FIRST_WAIT, Waits},
};
use crate::{
    folder_watch::FolderWatch,
    kernel::{Kernel, Monitor, NAMESPACES, Namespace, offload},
};

/// What is found changed calls for another plan; more than so many mean that something fights back.
const PASSES_MAX: usize = 6;
/// What the names of namespaces that could be ours begin with.
const PREFIXES: [&str; 2] = ["qdhcp-", "qrouter-"];
/// Where programs have their folders, below the state path.
const FOLDERS: [&str; 4] = ["dhcp", "ha_confs", "metadata", "ra"];
/// A namespace is a file in a folder.
const COMES_OR_GOES: AddWatchFlags =
    AddWatchFlags::IN_CREATE.union(AddWatchFlags::IN_DELETE).union(AddWatchFlags::IN_MOVE);

/// How the services are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Whether everything that is wanted is there.
    pub is_settled: bool,
    /// Steps that have failed and are tried again, with the reason.
    pub failures: Vec<String>,
    /// What only somebody else can mend.
    pub obstacles: Vec<String>,
    /// When to try again.
    pub next_try: Option<Instant>,
}

/// Brings the services to what is wanted.
pub(super) struct Manager {
    state_path: PathBuf,
    kernel: Kernel,
    monitor: Monitor,
    rooms: BTreeMap<String, Room>,
    changes: (mpsc::UnboundedSender<String>, mpsc::UnboundedReceiver<String>),
    /// Who deletes a namespace, deletes a file.
    folder: FolderWatch,
    is_watching: bool,
    processes: Processes,
    files: BTreeMap<PathBuf, String>,
    /// Namespaces in which a step has failed; `None` stands for the host's own.
    failed: Waits<Option<String>>,
    /// Programs that do not start, or not stay.
    unstarted: Waits<ProcessName>,
    /// Addresses that have come in the namespace where steps are being taken.
    announcements: Vec<Announcement>,
    said: BTreeSet<String>,
    was_settled: bool,
}

impl Manager {
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let (kernel, monitor) = Kernel::connect().context("connecting to the kernel by netlink")?;
        let state_path = config.services.state_path.clone();
        let processes = Processes::of(&state_path)?;
        Ok(Self {
            state_path,
            kernel,
            monitor,
            rooms: BTreeMap::new(),
            changes: mpsc::unbounded_channel(),
            folder: FolderWatch::new().context("watching for namespaces")?,
            is_watching: false,
            processes,
            files: BTreeMap::new(),
            failed: Waits::new(),
            unstarted: Waits::new(),
            announcements: Vec::new(),
            said: BTreeSet::new(),
            was_settled: false,
        })
    }

    /// Waits until something changes. Cancelling loses nothing that matters.
    pub(super) async fn changed(&mut self) {
        let first = tokio::select! {
            _ = self.monitor.changed() => None,
            name = self.changes.1.recv() => name,
            () = self.folder.changed() => None,
            () = self.processes.end() => None,
        };
        let mut changed: Vec<String> = first.into_iter().collect();
        while let Ok(name) = self.changes.1.try_recv() {
            changed.push(name);
        }
        for name in changed {
            if let Some(room) = self.rooms.get_mut(&name) {
                room.has_changed();
            }
        }
    }

    /// Looks at everything, and changes nothing.
    pub(super) async fn look(&mut self, wanted: &Services) -> anyhow::Result<ObservedServices> {
        self.look_closer(wanted);
        self.observe(wanted).await
    }

    /// Has everything that has failed tried again at once: something else is wanted.
    pub(super) fn begin_anew(&mut self) {
        let now = Instant::now();
        self.failed.begin_anew(now);
        self.unstarted.begin_anew(now);
        self.processes.begin_anew();
    }

    /// Brings the services to what is wanted, as far as they can be.
    pub(super) async fn reconcile(&mut self, wanted: &Services, is_full: bool) -> Report {
        if is_full {
            self.look_closer(wanted);
        }
        let mut report = Report::default();
        for _ in 0..PASSES_MAX {
            let found = match self.observe(wanted).await {
                Ok(found) => found,
                Err(error) => {
                    report.failures = vec![format!("could not look at the namespaces: {error:#}")];
                    report.next_try = Some(Instant::now() + FIRST_WAIT);
                    break;
                }
            };
            let plan = plan::plan(wanted, &found);
            report.obstacles = plan.obstacles.values().cloned().collect();
            self.failed.retain(|namespace| plan.steps.contains_key(namespace));
            let starts =
                |step: &Action, program: &ProcessName| matches!(step, Action::Start { name, .. } if name == program);
            self.unstarted.retain(|program| plan.steps.values().flatten().any(|step| starts(step, program)));
            let mut has_applied = false;
            for (namespace, steps) in &plan.steps {
                has_applied |= self.take(namespace.as_deref(), steps).await;
            }
            report.is_settled = plan.is_empty() && report.obstacles.is_empty();
            if !has_applied {
                break;
            }
        }
        report.failures.extend(self.failed.messages().chain(self.unstarted.messages()).cloned());
        let tries = [report.next_try, self.failed.next_try(), self.unstarted.next_try()];
        report.next_try = tries.into_iter().flatten().min();
        self.say(&report);
        report
    }

    /// Forgets what it knows, for what no event tells of.
    fn look_closer(&mut self, wanted: &Services) {
        self.processes.adopt();
        self.rooms.values_mut().for_each(Room::has_changed);
        wanted.programs().for_each(|program| program_log::bound(&program.folder));
        let files = plan::files(wanted);
        self.files = files
            .into_keys()
            .filter_map(|file| Some((fs::read_to_string(&file).ok()?, file)))
            .map(|(text, file)| (file, text))
            .collect();
    }

    async fn observe(&mut self, wanted: &Services) -> anyhow::Result<ObservedServices> {
        self.enter_namespaces(wanted)?;
        let [host_links, connected] = self.kernel.link_names()?;
        let mut found = ObservedServices {
            host_links,
            connected,
            processes: self.processes.observed(),
            stray_folders: self.stray_folders(wanted),
            ..ObservedServices::default()
        };
        for (file, is_the_programs) in plan::files(wanted) {
            let known = self.files.get(&file).filter(|_| !is_the_programs).cloned();
            let text = known.or_else(|| fs::read_to_string(&file).ok());
            if let Some(text) = text {
                self.files.insert(file.clone(), text.clone());
                found.files.insert(file, text);
            }
        }
        let owner = self.state_path.to_string_lossy();
        let mut foreign = Vec::new();
        for (name, room) in &mut self.rooms {
            let spec = wanted.namespaces.get(name);
            let observed = room.observe(spec, &owner).await.with_context(|| format!("looking at {name}"))?;
            if observed.is_ours || spec.is_some() {
                found.namespaces.insert(name.clone(), observed);
            } else {
                foreign.push(name.clone());
            }
        }
        // Who holds on to a namespace keeps it alive, with the taps of whoever has made it, after that one has deleted it.
        self.rooms.retain(|name, _| !foreign.contains(name));
        Ok(found)
    }

    /// Follows which namespaces there are.
    fn enter_namespaces(&mut self, wanted: &Services) -> anyhow::Result<()> {
        // Until somebody makes the first namespace, there may be no such folder.
        self.is_watching = self.is_watching || self.folder.add(Path::new(NAMESPACES), COMES_OR_GOES);
        self.rooms.retain(|_, room| room.namespace.is_current());
        for name in Namespace::list().with_context(|| format!("listing {NAMESPACES}"))? {
            let could_be_ours = PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            if self.rooms.contains_key(&name) || !(could_be_ours || wanted.namespaces.contains_key(&name)) {
                continue;
            }
            // A file that is no namespace is what `ip netns` leaves when it is interrupted.
            match Namespace::open(&name)
                .map_err(Into::into)
                .and_then(|namespace| Room::enter(namespace, &self.changes.0))
            {
                Ok(room) => drop(self.rooms.insert(name, room)),
                Err(error) => tracing::debug!(name, error = format!("{error:#}"), "not a namespace"),
            }
        }
        Ok(())
    }

    /// Folders of programs that are wanted no more: `<state path>/<kind>/<id>`, where one of ours has been running. Whatever else
    /// somebody keeps there is not ours to remove.
    fn stray_folders(&self, wanted: &Services) -> BTreeSet<PathBuf> {
        let used: BTreeSet<&Path> = wanted.programs().map(|program| program.folder.as_path()).collect();
        let entries = |kind: &str| fs::read_dir(self.state_path.join(kind)).into_iter().flatten();
        let folders = FOLDERS.iter().flat_map(|kind| entries(kind)).filter_map(|entry| Some(entry.ok()?.path()));
        folders.filter(|folder| !used.contains(folder.as_path()) && program_log::is_in(folder)).collect()
    }

    /// Takes the steps in one namespace until one fails, and says whether any was taken.
    async fn take(&mut self, namespace: Option<&str>, steps: &[Action]) -> bool {
        let has_taken = self.take_all(namespace, steps).await;
        self.announce(namespace);
        has_taken
    }

    /// Tells the neighbours of what they should know of a namespace, once it is ready for what they send.
    fn announce(&mut self, namespace: Option<&str>) {
        let announcements = std::mem::take(&mut self.announcements);
        let room = namespace.and_then(|name| self.rooms.get(name)).filter(|_| !announcements.is_empty());
        if let Some(Err(error)) = room.map(|room| announce(&room.namespace, &announcements)) {
            tracing::warn!(namespace, error = format!("{error:#}"), "the neighbours are not told of new addresses");
        }
    }

    async fn take_all(&mut self, namespace: Option<&str>, steps: &[Action]) -> bool {
        let (key, now) = (namespace.map(str::to_owned), Instant::now());
        if self.failed.holds_back(&key, now) {
            return false;
        }
        let mut taken = 0;
        for step in steps {
            let why = |error| format!("{}: could not {step}: {error:#}", namespace.unwrap_or("this host"));
            // Nothing else that is to be done in its namespace waits for a program that does not start.
            if let Action::Start { name, spec } = step {
                match self.start(namespace, name, spec) {
                    Ok(false) => continue,
                    Ok(true) => self.unstarted.has_succeeded(name),
                    Err(error) => {
                        self.unstarted.has_failed(name.clone(), why(error), Instant::now());
                        continue;
                    }
                }
            } else if let Err(error) = self.apply(namespace, step).await {
                self.failed.has_failed(key, why(error), Instant::now());
                return taken > 0;
            }
            tracing::debug!(namespace, "{step}");
            taken += 1;
        }
        self.failed.has_succeeded(&key);
        if let Some(room) = namespace.and_then(|name| self.rooms.get_mut(name)) {
            room.has_changed();
        }
        taken > 0
    }

    /// Starts a program, unless it is too early to try that again, and says whether it has.
    fn start(&mut self, namespace: Option<&str>, name: &ProcessName, spec: &ProcessSpec) -> anyhow::Result<bool> {
        let now = Instant::now();
        if let Some((next_try, message)) = self.processes.waits(name, now) {
            self.unstarted.must_wait(name.clone(), message, next_try);
        }
        if self.unstarted.holds_back(name, now) {
            return Ok(false);
        }
        let room = namespace.map(|name| self.rooms.get(name).context("the namespace is gone")).transpose()?;
        self.processes.start(room.map(|room| &room.namespace), name, spec).map(|()| true)
    }

    async fn apply(&mut self, namespace: Option<&str>, step: &Action) -> anyhow::Result<()> {
        match step {
            Action::CreateNamespace => return self.create_namespace(namespace.unwrap_or_default()).await,
            Action::DeleteNamespace => {
                let name = namespace.unwrap_or_default();
                self.rooms.remove(name);
                return Namespace::delete(name).context("the kernel refuses");
            }
            Action::WriteFile { path, text, is_secret } => return self.write(path, text, *is_secret),
            Action::RemoveFolder { folder } => {
                self.files.retain(|file, _| !file.starts_with(folder));
                return fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()));
            }
            Action::DropLeases { from } => {
                let found = fs::read_to_string(&from.leases).unwrap_or_default();
                let rest = from.without_nobodys(&found);
                return rest.map_or(Ok(()), |rest| self.write(&from.leases, &rest, false));
            }
            Action::Start { name, spec } => return self.start(namespace, name, spec).map(drop),
            Action::Reload { pid, .. } => return self.processes.reload(*pid),
            Action::Stop { pid, .. } => return self.processes.stop(*pid).await,
            _ => (),
        }
        let room = namespace.and_then(|name| self.rooms.get(name)).context("the namespace is gone")?;
        match step {
            Action::SetParameter { name, value } => room.set_parameter(name, value)?,
            Action::CreateLink { name, spec } => {
                let owner = self.state_path.to_string_lossy();
                self.kernel.create_inner(&room.namespace, name, spec, &owner).await?;
                room.kernel.set_inner_up(name).await?;
                if spec.finishes_checksums {
                    room.namespace.inside(|| offload::finish_checksums(name))?.context("switching off an offload")?;
                }
            }
            Action::ReleaseLeases { from, leases } => return dnsmasq::release(&room.namespace, from, leases).await,
            Action::DeleteLink { name } => room.kernel.delete_inner(name).await?,
            Action::SetUp { name } => room.kernel.set_inner_up(name).await?,
            Action::SetMtu { name, tap, mtu } => {
                self.kernel.set_inner_mtu(tap, *mtu).await?;
                room.kernel.set_inner_mtu(name, *mtu).await?;
            }
            Action::AddAddress { link, address, announce } => {
                room.kernel.change_inner_address(link, *address, true).await?;
                if *announce {
                    self.announcements.push(Announcement { link: link.clone(), address: address.addr() });
                }
            }
            Action::DeleteAddress { link, address } => room.kernel.change_inner_address(link, *address, false).await?,
            Action::SetRoute { destination, route, moves } => {
                room.kernel.change_inner_route(*destination, Some((route, *moves))).await?;
            }
            Action::DeleteRoute { destination } => room.kernel.change_inner_route(*destination, None).await?,
            Action::SetRuleset(ruleset) => room.namespace.inside(|| ruleset::put(ruleset))??,
            Action::DeleteRuleset => room.namespace.inside(ruleset::remove)??,
            _ => unreachable!("done above"),
        }
        Ok(())
    }

    async fn create_namespace(&mut self, name: &str) -> anyhow::Result<()> {
        let room = Room::enter(Namespace::create(name)?, &self.changes.0)?;
        // Only one that is marked gets a name: whoever finds another takes it for somebody else's, for ever.
        room.kernel.mark_namespace(&self.state_path.to_string_lossy()).await?;
        room.namespace.publish().context("giving it its name")?;
        self.rooms.insert(name.to_owned(), room);
        Ok(())
    }

    fn write(&mut self, path: &Path, text: &str, is_secret: bool) -> anyhow::Result<()> {
        replace_file(path, text, is_secret)?;
        self.files.insert(path.to_owned(), text.to_owned());
        Ok(())
    }

    /// Logs what is new.
    fn say(&mut self, report: &Report) {
        let now: BTreeSet<String> = report.failures.iter().chain(&report.obstacles).cloned().collect();
        for message in now.difference(&self.said) {
            tracing::warn!("{message}");
        }
        self.said = now;
        if report.is_settled && !self.was_settled && !self.rooms.is_empty() {
            tracing::info!(namespaces = self.rooms.len(), "services ready");
        }
        self.was_settled = report.is_settled;
    }
}
