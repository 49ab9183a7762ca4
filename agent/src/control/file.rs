//! The topology file as a control plane: watched, and a broken edit changes nothing.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use notify::{RecursiveMode, Watcher as _};
use overlane_core::{config::Config, desired::Desired};
use tokio::sync::watch;

use crate::files;

/// A topology file whose changes are followed for as long as this lives.
pub struct TopologyFile {
    desired: watch::Receiver<Desired>,
    // Stops watching when dropped.
    _watcher: notify::RecommendedWatcher,
}

impl TopologyFile {
    /// Reads the file and starts watching it.
    ///
    /// # Errors
    /// [`overlane_core::problem::Problems`] when the file is not valid now, or when it cannot be watched.
    pub fn open(file: &Path, config: &Config) -> anyhow::Result<Self> {
        let (sender, desired) = watch::channel(Desired::default());
        // Editors replace files rather than write to them, so the folder is watched. Watching starts before the first
        // reading: an edit in between is seen twice rather than never.
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let reader = Reader { file: file.to_owned(), config: config.clone() };
        sender.send_replace(reader.read()?);
        let mut watcher = notify::recommended_watcher(move |event| reader.on_event(&event, &sender))
            .context("starting to watch files")?;
        watcher
            .watch(&folder, RecursiveMode::NonRecursive)
            .with_context(|| format!("watching the folder of {}", file.display()))?;
        Ok(Self { desired, _watcher: watcher })
    }

    /// What the file last asked for while it was valid.
    pub fn desired(&mut self) -> Desired {
        self.desired.borrow_and_update().clone()
    }

    /// Waits until the file asks for something else. Cancelling loses nothing.
    pub async fn changed(&mut self) {
        if self.desired.changed().await.is_err() {
            // The watcher is gone, which cannot be while `self` lives; then nothing will ever change.
            std::future::pending::<()>().await;
        }
    }
}

struct Reader {
    file: PathBuf,
    config: Config,
}

impl Reader {
    fn read(&self) -> anyhow::Result<Desired> {
        files::desired(&self.file, &self.config)
    }

    fn on_event(&self, event: &notify::Result<notify::Event>, sender: &watch::Sender<Desired>) {
        if let Ok(event) = event
            && (event.kind.is_access() || !event.paths.iter().any(|path| path.file_name() == self.file.file_name()))
        {
            return;
        }
        match self.read() {
            Ok(desired) => {
                sender.send_if_modified(|current| {
                    let changed = *current != desired;
                    *current = desired;
                    changed
                });
            }
            Err(error) => {
                for line in format!("{error:#}").lines() {
                    tracing::error!("{line}");
                }
                tracing::error!("topology not accepted: the last good one stays in force");
            }
        }
    }
}
