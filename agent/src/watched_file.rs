//! Hearing of edits of a file, however it is edited.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use notify::{
    EventKind, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};

/// A file whose edits are heard of for as long as this lives.
pub(crate) struct WatchedFile {
    // Stops watching when dropped.
    _watcher: notify::RecommendedWatcher,
}

impl WatchedFile {
    /// Calls `on_edit`, on a thread of its own, whenever the file may be another one. Editors replace files rather than write to
    /// them, so the folder is watched, and the file need not be there.
    ///
    /// # Errors
    /// When the folder cannot be watched.
    pub(crate) fn watch(file: &Path, mut on_edit: impl FnMut() + Send + 'static) -> anyhow::Result<Self> {
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let name = file.file_name().map(ToOwned::to_owned);
        let is_meant = move |event: &notify::Event| {
            is_an_edit(event.kind) && event.paths.iter().any(|path| path.file_name() == name.as_deref())
        };
        // What cannot be told, such as that events were lost, may have been an edit.
        let on_event = move |event: notify::Result<notify::Event>| {
            if event.as_ref().map_or(true, &is_meant) {
                on_edit();
            }
        };
        let mut watcher = notify::recommended_watcher(on_event).context("starting to watch files")?;
        watcher
            .watch(&folder, RecursiveMode::NonRecursive)
            .with_context(|| format!("watching the folder of {}", file.display()))?;
        Ok(Self { _watcher: watcher })
    }
}

/// Whether a file may be another one now. While it is being written it is not: whoever writes it closes it in the end.
fn is_an_edit(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_)) => false,
        _ => true,
    }
}
