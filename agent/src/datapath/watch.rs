//! Pins that somebody removes: the loop hears of it at once, and puts them back.

use std::{
    io,
    path::{Path, PathBuf},
};

use nix::sys::inotify::AddWatchFlags;

use super::{links, pin_directory};
use crate::folder_watch::FolderWatch;

/// What is the end of a pin, or of a folder with pins.
const REMOVALS: AddWatchFlags =
    AddWatchFlags::IN_DELETE.union(AddWatchFlags::IN_MOVED_FROM).union(AddWatchFlags::IN_DELETE_SELF);

/// A watch over the folders with the pins of this version.
pub struct PinWatch {
    events: FolderWatch,
    folders: [PathBuf; 3],
    is_complete: bool,
}

impl PinWatch {
    /// Watches what is pinned under `bpffs`, or will be.
    ///
    /// # Errors
    /// When the kernel has no more of these to give.
    pub fn over(bpffs: &Path) -> io::Result<Self> {
        let directory = pin_directory(bpffs);
        let links = directory.join(links::FOLDER);
        let mut watch =
            Self { events: FolderWatch::new()?, folders: [bpffs.to_owned(), directory, links], is_complete: false };
        watch.renew();
        Ok(watch)
    }

    /// Watches folders that were not there before. To be called after every look at the host, which makes them.
    pub fn renew(&mut self) {
        if !self.is_complete {
            let watch = |folder: &PathBuf| self.events.add(folder, REMOVALS);
            self.is_complete = self.folders.iter().all(watch);
        }
    }

    /// Waits until something has been removed. Cancelling loses nothing.
    pub async fn removed(&mut self) {
        self.events.changed().await;
        // A folder that was removed is watched no longer.
        self.is_complete = false;
    }
}
