//! Where namespaces and pins live: a private world vanishes with its test, the shared one is the machine's own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use tempfile::TempDir;

use super::Namespace;

const NAMESPACES: &str = "/run/netns";
const BPFFS: &str = "/sys/fs/bpf";

/// A place for namespaces, pins and files.
pub struct World {
    prefix: &'static str,
    bpffs: PathBuf,
    folder: Folder,
}

enum Folder {
    Temporary(TempDir),
    Lasting(PathBuf),
}

impl World {
    /// A world that only the calling thread and the processes that it starts can see: its own folder of named
    /// namespaces and its own bpffs. Both are gone when the last of them is, however it ends, so tests may use plain
    /// names and may run beside each other and beside anything else.
    ///
    /// # Errors
    /// Without root.
    pub fn private() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS).context("leaving the mount namespace (needs root)")?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("keeping mounts to ourselves")?;
        fs::create_dir_all(NAMESPACES).context("making the folder of namespaces")?;
        for (kind, place) in [("tmpfs", NAMESPACES), ("bpf", BPFFS)] {
            mount(Some(kind), place, Some(kind), MsFlags::empty(), none)
                .with_context(|| format!("mounting {place}"))?;
        }
        let folder = tempfile::Builder::new().prefix("overlane-lab-").tempdir().context("making a folder")?;
        Ok(Self { prefix: "", bpffs: BPFFS.into(), folder: Folder::Temporary(folder) })
    }

    /// The machine's own world, where `prefix` keeps names apart from those of others; `folder` takes the files. Nothing
    /// in it vanishes by itself.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn shared(prefix: &'static str, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let bpffs = Path::new(BPFFS);
        if !is_bpffs(bpffs)? {
            mount(Some("bpf"), bpffs, Some("bpf"), MsFlags::empty(), None::<&str>).context("mounting the bpffs")?;
        }
        Ok(Self { prefix, bpffs: bpffs.to_owned(), folder: Folder::Lasting(folder.to_owned()) })
    }

    /// A new namespace.
    ///
    /// # Errors
    /// When the name is taken, or without root.
    pub fn namespace(&self, name: &str) -> Result<Namespace> {
        let is_lasting = matches!(self.folder, Folder::Lasting(_));
        Namespace::create(&format!("{}{name}", self.prefix), is_lasting)
    }

    /// A bpffs for the pins of `host`: namespaces share the machine's, so each host has a folder in it.
    pub fn bpffs(&self, host: &str) -> PathBuf {
        self.bpffs.join(format!("{}overlane-{host}", self.prefix))
    }

    /// Where files go.
    pub fn folder(&self) -> &Path {
        match &self.folder {
            Folder::Temporary(folder) => folder.path(),
            Folder::Lasting(folder) => folder,
        }
    }
}

fn is_bpffs(path: &Path) -> Result<bool> {
    let statistics = nix::sys::statfs::statfs(path).with_context(|| format!("looking at {}", path.display()))?;
    Ok(statistics.filesystem_type() == nix::sys::statfs::BPF_FS_MAGIC)
}
