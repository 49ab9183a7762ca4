//! Pins that somebody removes: the loop hears of it at once, and puts them back.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd, RawFd},
    path::{Path, PathBuf},
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::{Interest, unix::AsyncFd};

use super::{links, pin_directory};

/// What is the end of a pin, or of a folder with pins.
const REMOVALS: AddWatchFlags =
    AddWatchFlags::IN_DELETE.union(AddWatchFlags::IN_MOVED_FROM).union(AddWatchFlags::IN_DELETE_SELF);

/// A watch over the folders with the pins of this version.
pub struct PinWatch {
    events: AsyncFd<Events>,
    folders: [PathBuf; 3],
    is_complete: bool,
}

struct Events(Inotify);

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl PinWatch {
    /// Watches what is pinned under `bpffs`, or will be.
    ///
    /// # Errors
    /// When the kernel has no more of these to give.
    pub fn over(bpffs: &Path) -> io::Result<Self> {
        let directory = pin_directory(bpffs);
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // SAFETY: `Events` owns its descriptor and returns the same one for as long as it lives.
        let events = unsafe { AsyncFd::register_with_interest(Events(inotify), Interest::READABLE)? };
        let links = directory.join(links::FOLDER);
        let mut watch = Self { events, folders: [bpffs.to_owned(), directory, links], is_complete: false };
        watch.renew();
        Ok(watch)
    }

    /// Watches folders that were not there before. To be called after every look at the host, which makes them.
    pub fn renew(&mut self) {
        if !self.is_complete {
            let watch = |folder: &PathBuf| self.events.get_ref().0.add_watch(folder, REMOVALS).is_ok();
            self.is_complete = self.folders.iter().all(watch);
        }
    }

    /// Waits until something has been removed. Cancelling loses nothing.
    pub async fn removed(&mut self) {
        loop {
            let Ok(mut ready) = self.events.readable().await else {
                // The runtime ends.
                return std::future::pending().await;
            };
            match self.events.get_ref().0.read_events() {
                // A folder that was removed is watched no longer.
                Ok(_) => return self.is_complete = false,
                Err(_) => ready.clear_ready(),
            }
        }
    }
}
