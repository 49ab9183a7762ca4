//! Where namespaces and pins live: a private world vanishes with its test, the shared one is the machine's own.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::{
        signal::{Signal, kill},
        statfs::{BPF_FS_MAGIC, statfs},
    },
    unistd::Pid,
};

use super::Namespace;

const BPFFS: &str = "/sys/fs/bpf";
/// Holds the folder of named namespaces, and files.
const RUN: &str = "/run";

/// A place for namespaces, pins and files.
pub struct World {
    prefix: String,
    folder: PathBuf,
    lasts: bool,
    mounts: File,
    /// Whether what runs in it ends with it.
    is_private: bool,
}

impl World {
    /// A world that only the calling thread and the processes that it starts can see: its own `/run`,
    /// where named namespaces are, and its own bpffs. Both are gone when the last of them is, however it ends, so tests may use plain
    /// names and may run beside each other and beside anything else.
    ///
    /// # Errors
    /// Without root.
    pub fn private() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS).context("leaving the mount namespace (needs root)")?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("keeping mounts to ourselves")?;
        for (kind, place) in [("tmpfs", RUN), ("bpf", BPFFS)] {
            mount(Some(kind), place, Some(kind), MsFlags::empty(), none)
                .with_context(|| format!("mounting {place}"))?;
        }
        let folder = Path::new(RUN).join("overlane-lab");
        fs::create_dir(&folder).context("making a folder")?;
        Ok(Self { prefix: String::new(), folder, lasts: false, mounts: own_mounts()?, is_private: true })
    }

    /// Moves the calling thread into this world, as the thread that has made it is.
    ///
    /// # Errors
    /// Without root.
    pub fn enter(&self) -> Result<()> {
        // A thread that shares its working directory with others cannot change its mounts.
        unshare(CloneFlags::CLONE_FS).context("leaving the common working directory")?;
        setns(&self.mounts, CloneFlags::CLONE_NEWNS).context("entering a world")
    }

    /// The machine's own world, where `prefix` keeps names apart from those of others; `folder` takes the files. Nothing
    /// in it vanishes by itself.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn shared(prefix: &str, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        if statfs(BPFFS).context("looking at the bpffs")?.filesystem_type() != BPF_FS_MAGIC {
            mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>).context("mounting the bpffs")?;
        }
        Ok(Self {
            prefix: prefix.to_owned(),
            folder: folder.to_owned(),
            lasts: true,
            mounts: own_mounts()?,
            is_private: false,
        })
    }

    /// A part of this world where `prefix` keeps names apart, so that another lab's hosts may have the same ones. It is there for
    /// as long as this world.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn part(&self, prefix: &str) -> Result<Self> {
        let folder = self.folder.join(prefix);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let prefix = format!("{}{prefix}", self.prefix);
        Ok(Self { prefix, folder, lasts: self.lasts, mounts: own_mounts()?, is_private: false })
    }

    /// A new namespace.
    ///
    /// # Errors
    /// When the name is taken, or without root.
    pub fn namespace(&self, name: &str) -> Result<Namespace> {
        Namespace::create(&format!("{}{name}", self.prefix), self.lasts)
    }

    /// A bpffs for the pins of `host`: namespaces share the machine's, so each host has a folder in it.
    pub fn bpffs(&self, host: &str) -> PathBuf {
        Path::new(BPFFS).join(format!("{}{host}", self.prefix))
    }

    /// Where files go.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether what is made here is to stay.
    pub fn lasts(&self) -> bool {
        self.lasts
    }
}

/// What agents have started outlives them, but not their world: whoever sees its files ends, whatever else it has mounted since.
impl Drop for World {
    fn drop(&mut self) {
        let Some(own) = self.is_private.then(|| fs::metadata(&self.folder).ok()).flatten() else { return };
        let entries = fs::read_dir("/proc").into_iter().flatten();
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        for pid in pids.filter(|pid| *pid != std::process::id()) {
            let seen = format!("/proc/{pid}/root{}", self.folder.display());
            if fs::metadata(seen).is_ok_and(|seen| (seen.dev(), seen.ino()) == (own.dev(), own.ino()))
                && let Ok(pid) = pid.try_into()
            {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

fn own_mounts() -> Result<File> {
    File::open("/proc/thread-self/ns/mnt").context("opening the mount namespace")
}
