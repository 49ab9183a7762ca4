//! Named network namespaces, as `ip netns` has them: bind mounts below `/run/netns`.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
    path::{Path, PathBuf},
    thread,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, statfs},
};

/// Where they are.
pub const NAMESPACES: &str = "/run/netns";
/// The calling thread's.
const OWN: &str = "/proc/thread-self/ns/net";

/// A named network namespace that is there.
pub struct Namespace {
    name: String,
    file: File,
    /// Where the thread comes from.
    home: File,
}

impl Namespace {
    /// Opens a namespace.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn open(name: &str) -> io::Result<Self> {
        Ok(Self { name: name.to_owned(), file: File::open(path(name))?, home: File::open(OWN)? })
    }

    /// Makes a namespace that nobody else can find until it is [published](Self::publish): it goes with whoever holds it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create(name: &str) -> io::Result<Self> {
        let home = File::open(OWN)?;
        // A thread of its own: this one stays where it is.
        let make = || -> io::Result<File> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open(OWN)
        };
        let made =
            thread::scope(|scope| scope.spawn(make).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(Self { name: name.to_owned(), file: made?, home })
    }

    /// Puts a new namespace where others find it by its name. A file there that is no namespace is what is left of one that somebody
    /// was kept from making, and makes room.
    ///
    /// # Errors
    /// When there is a namespace of that name, or the kernel refuses.
    pub fn publish(&self) -> io::Result<()> {
        share_folder()?;
        let path = path(&self.name);
        match File::options().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_plain_file(&path)? => (),
            result => drop(result?),
        }
        let itself = format!("/proc/thread-self/fd/{}", self.file.as_raw_fd());
        mount(Some(itself.as_str()), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|error| {
            let _ = fs::remove_file(&path);
            error.into()
        })
    }

    /// Deletes a namespace; gone-already is success. What holds on to it keeps it alive without a name.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete(name: &str) -> io::Result<()> {
        let path = path(name);
        // Of a namespace that somebody has unmounted, the file is left.
        let _ = umount2(&path, MntFlags::MNT_DETACH);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Names of all that are there.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn list() -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(NAMESPACES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its descriptor, for netlink.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Whether the name still stands for this namespace: somebody may have deleted it, or made another of the name.
    pub fn is_current(&self) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let same = || -> io::Result<bool> {
            let (own, named) = (self.file.metadata()?, fs::metadata(path(&self.name))?);
            Ok((own.dev(), own.ino()) == (named.dev(), named.ino()))
        };
        same().unwrap_or(false)
    }

    /// Calls `work` with the thread inside: sockets that it opens and programs that it starts stay inside, and `/proc/sys/net` is
    /// that of the namespace. It must not start threads, which would stay there.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    ///
    /// # Panics
    /// When the thread cannot return: it would go on with the wrong network.
    pub fn inside<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)?;
        let result = work();
        setns(&self.home, CloneFlags::CLONE_NEWNET).expect("a thread can return to the namespace that it came from");
        Ok(result)
    }
}

/// Whether a file is just that, and no namespace.
fn is_plain_file(path: &Path) -> io::Result<bool> {
    Ok(path.is_file() && statfs(path)?.filesystem_type() != NSFS_MAGIC)
}

fn path(name: &str) -> PathBuf {
    Path::new(NAMESPACES).join(name)
}

/// Makes the folder one that mount namespaces share, as `ip netns add` does: whoever deletes a namespace deletes it everywhere.
fn share_folder() -> io::Result<()> {
    fs::create_dir_all(NAMESPACES)?;
    let share = || mount(None::<&str>, NAMESPACES, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    if share().is_ok() {
        return Ok(());
    }
    // It is no mount point yet.
    mount(Some(NAMESPACES), NAMESPACES, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    Ok(share()?)
}
