//! Roots made of Debian packages, which are unpacked below `target` and never installed.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    thread,
};

use anyhow::{Context as _, Result, bail};

use crate::{progress, setup, workspace::Workspace};

/// Folders of packages that no program reads.
const LEFT_OUT: [&str; 4] = ["doc", "info", "locale", "man"];

/// Debian's single `/usr`: the packages still name these folders.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// Whether there is a root.
pub(crate) enum Root {
    /// Here.
    Ready(PathBuf),
    /// Packages cannot be had; the text says why.
    Unavailable(String),
}

/// A root that somebody needs.
pub(crate) struct Need {
    /// Whose packages it is made of, for people.
    pub(crate) whose: &'static str,
    /// What tells the tests where it is.
    pub(crate) variable: &'static str,
    /// Makes it, unless it is there.
    pub(crate) prepare: fn(&Workspace) -> Result<Root>,
}

impl Need {
    /// The root, for a caller that cannot do without.
    pub(crate) fn require(&self, workspace: &Workspace) -> Result<PathBuf> {
        match (self.prepare)(workspace)? {
            Root::Ready(root) => Ok(root),
            Root::Unavailable(reason) => bail!("{} packages cannot be had: {reason}", self.whose),
        }
    }
}

/// What a root is made of.
pub(crate) struct Recipe<'a> {
    /// The first part of the names of its folders and logs.
    pub(crate) name: &'a str,
    /// Whose packages these are, for people.
    pub(crate) whose: &'a str,
    /// What is unpacked, with all that it depends on. An empty root needs its own essential packages.
    pub(crate) packages: &'a [&'a str],
    /// Whatever else decides what is in it.
    pub(crate) rest: &'a str,
}

impl Recipe<'_> {
    /// Everything that decides what is in the root.
    fn text(&self) -> String {
        [&self.packages.join("\n"), &LEFT_OUT.join("\n"), self.rest].join("\n\n")
    }

    /// Makes the root, unless one of the same recipe is there; `complete` does what unpacking alone does not.
    pub(crate) fn prepare(&self, workspace: &Workspace, complete: impl FnOnce(&Path) -> Result<()>) -> Result<Root> {
        let root = workspace.target(&format!("{}-root", self.name));
        let stamp = root.join("recipe");
        if fs::read_to_string(&stamp).is_ok_and(|made| made == self.text()) {
            return Ok(Root::Ready(root));
        }
        if !setup::is_debian_12() {
            return Ok(Root::Unavailable("this is not Debian 12, whose packages it uses".to_owned()));
        }
        let packages = workspace.target(&format!("{}-packages", self.name));
        if let Err(error) = self.download(workspace, &packages) {
            return Ok(Root::Unavailable(format!("{error:#}")));
        }
        remove(&root)?;
        let partial = workspace.target(&format!("{}-root.partial", self.name));
        remove(&partial)?;
        lay_out(&partial)?;
        unpack(&packages.join("archives"), &partial)?;
        complete(&partial)?;
        fs::write(partial.join("recipe"), self.text()).context("writing the recipe")?;
        fs::rename(&partial, &root).context("renaming the root")?;
        // Nobody reads them again: another recipe means another list.
        remove(&packages)?;
        Ok(Root::Ready(root))
    }

    /// Downloads the packages as this machine's apt is configured to: its mirrors, keys, proxies and pins.
    fn download(&self, workspace: &Workspace, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder.join("archives/partial")).context("making a folder for packages")?;
        let nothing_installed = folder.join("status");
        fs::write(&nothing_installed, "").context("writing an empty package status")?;
        let mut update = setup::apt(&["update"]);
        progress::step("reading the package lists", &setup::log(workspace, "apt-update"), &mut update)?;
        let mut command = setup::apt(&["install", "--yes", "--no-install-recommends", "--download-only"]);
        command
            .arg("-o")
            .arg(format!("Dir::State::status={}", nothing_installed.display()))
            .arg("-o")
            .arg(format!("Dir::Cache::archives={}", folder.join("archives").display()))
            // The binary caches describe what the machine has installed.
            .args(["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="])
            .args(self.packages);
        let (name, whose) = (self.name, self.whose);
        let title =
            format!("downloading {whose} packages, which are unpacked into target/{name}-root and not installed");
        progress::step(&title, &setup::log(workspace, &format!("{name}-download")), &mut command)?;
        Ok(())
    }
}

/// Makes what packages expect to find.
fn lay_out(root: &Path) -> Result<()> {
    for folder in MERGED {
        fs::create_dir_all(root.join("usr").join(folder)).context("making the root")?;
        symlink(format!("usr/{folder}"), root.join(folder)).context("making the root")?;
    }
    Ok(())
}

/// Unpacks all packages, as many at a time as there are CPUs.
fn unpack(packages: &Path, root: &Path) -> Result<()> {
    eprintln!("unpacking …");
    let entries = fs::read_dir(packages).context("listing packages")?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let queue: Mutex<Vec<PathBuf>> =
        Mutex::new(paths.filter(|path| path.extension().is_some_and(|e| e == "deb")).collect());
    let work = || -> Result<()> {
        loop {
            let next = queue.lock().expect("no worker panics").pop();
            let Some(package) = next else { return Ok(()) };
            unpack_one(&package, root).with_context(|| format!("unpacking {}", package.display()))?;
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no worker panics"))
    })
}

fn unpack_one(package: &Path, root: &Path) -> Result<()> {
    let mut archive = Command::new("dpkg-deb");
    let mut archive =
        archive.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped()).spawn().context("starting dpkg-deb")?;
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--directory").arg(root).arg("--keep-directory-symlink");
    tar.args(LEFT_OUT.map(|folder| format!("--exclude=./usr/share/{folder}/*")));
    let unpacked = tar.stdin(archive.stdout.take().context("reading dpkg-deb")?).status().context("starting tar")?;
    let read = archive.wait().context("waiting for dpkg-deb")?;
    if !(unpacked.success() && read.success()) {
        bail!("dpkg-deb: {read}, tar: {unpacked}");
    }
    Ok(())
}

/// Removes a folder, if it is there.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))
}
