//! Folders in which something comes or goes, as the kernel tells it (inotify).

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd, RawFd},
    path::Path,
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::{Interest, unix::AsyncFd};

/// Watched folders.
pub(crate) struct FolderWatch {
    events: AsyncFd<Events>,
}

struct Events(Inotify);

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl FolderWatch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// When the kernel has no more of these to give.
    pub(crate) fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // SAFETY: `Events` owns its descriptor and returns the same one for as long as it lives.
        let events = unsafe { AsyncFd::register_with_interest(Events(inotify), Interest::READABLE)? };
        Ok(Self { events })
    }

    /// Watches a folder, for what `flags` say; whether there is one.
    pub(crate) fn add(&self, folder: &Path, flags: AddWatchFlags) -> bool {
        self.events.get_ref().0.add_watch(folder, flags).is_ok()
    }

    /// Waits until something has happened. Cancelling loses nothing.
    pub(crate) async fn changed(&self) {
        loop {
            let Ok(mut ready) = self.events.readable().await else {
                // The runtime ends.
                return std::future::pending().await;
            };
            match self.events.get_ref().0.read_events() {
                Ok(_) => return,
                Err(_) => ready.clear_ready(),
            }
        }
    }
}
