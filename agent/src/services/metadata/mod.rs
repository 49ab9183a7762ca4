//! The process that serves metadata: one per host, supervised by the agent and not part of it, so that requests of machines reach
//! nothing but this. What it serves is in [`overlane_core::services::metadata`]; here are its sockets.

mod admission;
mod body;
mod keeper;
mod nova;
mod once;
mod server;
mod sockets;

use std::{fs, path::Path, sync::Arc};

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use overlane_core::services::metadata::{Directory, State};
use tokio::sync::{Notify, watch};

use self::{keeper::Keeper, server::Service};
use crate::{logs, watched_file::WatchedFile};

/// Serves what `file` says, and follows its changes, until the process is ended.
///
/// # Errors
/// When the file cannot be read or watched.
pub fn serve(file: &Path) -> anyhow::Result<()> {
    logs::start(false, None)?;
    allow_many_connections().context("asking for more file descriptors")?;
    // One thread is enough for what machines ask when they boot, and keeps the process small.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(run(file))
}

async fn run(file: &Path) -> anyhow::Result<()> {
    let edited = Arc::new(Notify::new());
    let notify = Arc::clone(&edited);
    // Watched before it is read: an edit in between is seen twice rather than never.
    let _watched = WatchedFile::watch(file, move || notify.notify_one())?;
    let (directory, current) = watch::channel(Arc::new(read(file)?));
    let mut keeper = Keeper::new(Arc::new(Service::new(current)));
    let mut last_complaint = None;
    loop {
        let keys = directory.borrow().sockets().cloned().collect();
        keeper.keep(keys).await;
        tokio::select! {
            () = edited.notified() => match read(file) {
                Ok(new) => {
                    last_complaint = None;
                    directory.send_replace(Arc::new(new));
                }
                Err(error) => {
                    // One edit makes several events.
                    let complaint = format!("{error:#}");
                    if last_complaint.as_ref() != Some(&complaint) {
                        tracing::error!("{complaint}; the last good one stays in force");
                    }
                    last_complaint = Some(complaint);
                }
            },
            () = keeper.pause() => (),
        }
    }
}

fn read(file: &Path) -> anyhow::Result<Directory> {
    let text = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let state = State::from_json(&text).with_context(|| format!("reading {}", file.display()))?;
    let directory = Directory::new(state);
    for (network, address) in directory.clashes() {
        tracing::warn!(%network, %address, "several ports have this address: none of them gets metadata by it");
    }
    Ok(directory)
}

/// A connection is a descriptor. By default there are a thousand, which is for programs that use select(2).
fn allow_many_connections() -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
}
