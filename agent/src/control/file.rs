//! The topology file as a control plane: watched, and a broken edit changes nothing.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context as _;
use notify::{
    EventKind, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};
use overlane_core::{config::Config, desired::Desired, services::Services, update::Update};
use tokio::sync::{Notify, watch};

use crate::files::{self, Asked};

/// A topology file whose changes are followed for as long as this lives.
pub struct TopologyFile {
    mailbox: Arc<Mailbox>,
    services: watch::Receiver<Arc<Services>>,
    // Stops watching when dropped.
    _watcher: notify::RecommendedWatcher,
}

impl TopologyFile {
    /// Reads the file and starts watching it.
    ///
    /// # Errors
    /// [`overlane_core::problem::Problems`] when the file is not valid now, or when it cannot be watched.
    pub fn open(file: &Path, config: &Config) -> anyhow::Result<Self> {
        let mailbox = Arc::new(Mailbox::default());
        let (services, followed) = watch::channel(Arc::default());
        // Editors replace files rather than write to them, so the folder is watched. Watching starts before the first
        // reading: an edit in between is seen twice rather than never.
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let reader = Arc::new(Mutex::new(Reader {
            file: file.to_owned(),
            config: config.clone(),
            desired: Desired::default(),
            problems: None,
            mailbox: Arc::clone(&mailbox),
            services,
        }));
        let watching = Arc::clone(&reader);
        let mut watcher = notify::recommended_watcher(move |event| lock(&watching).on_event(&event))
            .context("starting to watch files")?;
        watcher
            .watch(&folder, RecursiveMode::NonRecursive)
            .with_context(|| format!("watching the folder of {}", file.display()))?;
        lock(&reader).read()?;
        Ok(Self { mailbox, services: followed, _watcher: watcher })
    }

    /// Waits until the file asks for something else than before: at first, for anything. Cancelling loses nothing.
    pub async fn update(&mut self) -> Update {
        self.mailbox.take().await
    }

    /// The services that the file asks for, as they change.
    pub fn services(&self) -> watch::Receiver<Arc<Services>> {
        self.services.clone()
    }
}

/// Updates that nobody has taken in yet, as one.
#[derive(Default)]
struct Mailbox {
    update: Mutex<Option<Update>>,
    has_come: Notify,
}

impl Mailbox {
    fn put(&self, update: Update) {
        let mut waiting = lock(&self.update);
        let earlier = waiting.take();
        *waiting = Some(match earlier {
            Some(earlier) => earlier.then(update),
            None => update,
        });
        self.has_come.notify_one();
    }

    async fn take(&self) -> Update {
        loop {
            let waiting = lock(&self.update).take();
            if let Some(update) = waiting {
                return update;
            }
            self.has_come.notified().await;
        }
    }
}

/// A panic elsewhere leaves what is locked as good as it was: it is replaced whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a file may be another one now. While it is being written it is not: whoever writes it closes it in the end.
fn is_an_edit(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_)) => false,
        _ => true,
    }
}

struct Reader {
    file: PathBuf,
    config: Config,
    /// What the file last asked for while it was valid.
    desired: Desired,
    /// What was wrong with it when it was last read: an edit makes several events, and is complained about once.
    problems: Option<String>,
    mailbox: Arc<Mailbox>,
    services: watch::Sender<Arc<Services>>,
}

impl Reader {
    fn on_event(&mut self, event: &notify::Result<notify::Event>) {
        if let Ok(event) = event
            && (!is_an_edit(event.kind) || !event.paths.iter().any(|path| path.file_name() == self.file.file_name()))
        {
            return;
        }
        let problems = self.read().err().map(|error| format!("{error:#}"));
        if let Some(new) = problems.as_ref().filter(|_| problems != self.problems) {
            for line in new.lines() {
                tracing::error!("{line}");
            }
            tracing::error!("topology not accepted: the last good one stays in force");
        }
        self.problems = problems;
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let Asked { desired, services } = files::asked(&self.file, &self.config)?;
        let services = services.unwrap_or_default();
        self.services.send_if_modified(|current| {
            let is_other = **current != services;
            if is_other {
                *current = Arc::new(services);
            }
            is_other
        });
        if let Some(update) = Update::between(&self.desired, &desired) {
            self.desired = desired;
            self.mailbox.put(update);
        }
        Ok(())
    }
}
