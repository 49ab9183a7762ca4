//! The process that serves metadata: one per host, supervised by the agent and not part of it, so that requests of machines reach
//! nothing but this. What it serves is in [`overlane_core::services::metadata`]; here are its sockets.

mod admission;
mod body;
mod keeper;
mod nova;
mod once;
mod server;
mod sockets;

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use nix::sys::inotify::AddWatchFlags;
use overlane_core::{
    config::LogConfig,
    services::metadata::{Directory, State},
};
use tokio::sync::watch;

use self::{keeper::Keeper, server::Service};
use crate::{folder_watch::FolderWatch, logs};

/// What makes a file another one: it is replaced, or was written.
const EDITS: AddWatchFlags = AddWatchFlags::IN_MOVED_TO.union(AddWatchFlags::IN_CLOSE_WRITE);

/// Serves what `file` says, and follows its changes, until the process is ended.
///
/// # Errors
/// When the file cannot be read or watched.
pub fn serve(file: &Path) -> anyhow::Result<()> {
    logs::start(&LogConfig::default())?;
    // A connection is a descriptor.
    super::raise_descriptor_limit();
    // One thread is enough for what machines ask when they boot, and keeps the process small.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(run(file))
}

async fn run(file: &Path) -> anyhow::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let edits = FolderWatch::new().context("starting to watch files")?;
    // Watched before it is read: an edit in between is seen twice rather than never.
    anyhow::ensure!(edits.add(folder, EDITS), "watching {}: there is no such folder", folder.display());
    let mut source = Source { file: file.to_owned(), seen: None };
    let first = source.read()?.unwrap_or_default();
    let (directory, current) = watch::channel(Arc::new(first));
    let mut keeper = Keeper::new(Arc::new(Service::new(current)));
    loop {
        let keys = directory.borrow().sockets().cloned().collect();
        keeper.keep(keys).await;
        tokio::select! {
            () = edits.changed() => match source.read() {
                Ok(Some(new)) => {
                    directory.send_replace(Arc::new(new));
                }
                // Something else in the folder.
                Ok(None) => (),
                Err(error) => tracing::error!("{error:#}; the last good one stays in force"),
            },
            () = keeper.pause() => (),
        }
    }
}

/// The file, and the hash of what was in it when it was last read: it can be large.
struct Source {
    file: PathBuf,
    seen: Option<u64>,
}

impl Source {
    /// Reads the file; `None` when it is the same as before, good or not.
    fn read(&mut self) -> anyhow::Result<Option<Directory>> {
        let doing = || format!("reading {}", self.file.display());
        let text = fs::read(&self.file).with_context(doing)?;
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        if self.seen.replace(hasher.finish()) == Some(hasher.finish()) {
            return Ok(None);
        }
        let directory = Directory::new(State::from_json(&text).with_context(doing)?);
        for (network, address) in directory.clashes() {
            tracing::warn!(%network, %address, "several ports have this address: none of them gets metadata by it");
        }
        Ok(Some(directory))
    }
}
