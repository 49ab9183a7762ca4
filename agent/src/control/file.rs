//! The topology file as a control plane: watched, and a broken edit changes nothing.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use overlane_core::{config::Config, desired::Desired, update::Update};
use tokio::sync::Notify;

use crate::{files, watched_file::WatchedFile};

/// A topology file whose changes are followed for as long as this lives.
pub struct TopologyFile {
    mailbox: Arc<Mailbox>,
    _watched: WatchedFile,
}

impl TopologyFile {
    /// Reads the file and starts watching it.
    ///
    /// # Errors
    /// [`overlane_core::problem::Problems`] when the file is not valid now, or when it cannot be watched.
    pub fn open(file: &Path, config: &Config) -> anyhow::Result<Self> {
        let mailbox = Arc::new(Mailbox::default());
        let reader = Arc::new(Mutex::new(Reader {
            file: file.to_owned(),
            config: config.clone(),
            desired: Desired::default(),
            problems: None,
            mailbox: Arc::clone(&mailbox),
        }));
        let watching = Arc::clone(&reader);
        // Watching starts before the first reading: an edit in between is seen twice rather than never.
        let watched = WatchedFile::watch(file, move || lock(&watching).on_edit())?;
        lock(&reader).read()?;
        Ok(Self { mailbox, _watched: watched })
    }

    /// Waits until the file asks for something else than before: at first, for anything. Cancelling loses nothing.
    pub async fn update(&mut self) -> Update {
        self.mailbox.take().await
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

struct Reader {
    file: PathBuf,
    config: Config,
    /// What the file last asked for while it was valid.
    desired: Desired,
    /// What was wrong with it when it was last read: an edit makes several events, and is complained about once.
    problems: Option<String>,
    mailbox: Arc<Mailbox>,
}

impl Reader {
    fn on_edit(&mut self) {
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
        let desired = files::desired(&self.file, &self.config)?;
        if let Some(update) = Update::between(&self.desired, &desired) {
            self.desired = desired;
            self.mailbox.put(update);
        }
        Ok(())
    }
}
