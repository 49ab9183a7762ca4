//! The root that the tier `neutron` runs a real Neutron in: Debian packages, unpacked below `target` and never installed,
//! so that testing puts no database and no broker on anybody's machine.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    thread,
};

use anyhow::{Context as _, Result, bail};

use crate::{progress, setup, workspace::Workspace};

/// What is unpacked, with all that it depends on. An empty root needs its own essential packages.
const PACKAGES: [&str; 29] = [
    "base-files",
    "bash",
    "coreutils",
    "dash",
    "findutils",
    "grep",
    "hostname",
    "libc-bin",
    "mawk",
    "mount",
    "procps",
    "sed",
    "util-linux",
    // The server and the agents. The package neutron-server would bring a web server besides.
    "neutron-common",
    "neutron-dhcp-agent",
    "neutron-l3-agent",
    "neutron-linuxbridge-agent",
    // What they talk to.
    "mariadb-client-core",
    "mariadb-server-core",
    "python3-pymysql",
    "rabbitmq-server",
    // What agents and machines call.
    "conntrack",
    "dnsmasq-base",
    "ebtables",
    "iproute2",
    "ipset",
    "iptables",
    "iputils-arping",
    "udhcpc",
];

/// Folders of packages that no program reads.
const LEFT_OUT: [&str; 4] = ["doc", "info", "locale", "man"];

/// Debian's single `/usr`: the packages still name these folders.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// What mounts are put on while Neutron runs.
const MOUNT_POINTS: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];

const COMPLETE: &str = include_str!("neutron/complete.sh");
const EBTABLES: &str = include_str!("neutron/ebtables.sh");

/// Tells the tests where the root is.
pub(crate) const ROOT_VARIABLE: &str = "OVERLANE_NEUTRON_ROOT";

/// Whether there is a root.
pub(crate) enum Root {
    /// Here.
    Ready(PathBuf),
    /// Packages cannot be had; the text says why.
    Unavailable(String),
}

/// Makes the root, unless one of the same recipe is there.
pub(crate) fn prepare(workspace: &Workspace) -> Result<Root> {
    let root = workspace.target("neutron-root");
    remove_old_logs(&workspace.target("neutron-logs"))?;
    let stamp = root.join("recipe");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == recipe()) {
        return Ok(Root::Ready(root));
    }
    if !setup::is_debian_12() {
        return Ok(Root::Unavailable("this is not Debian 12, whose packages it uses".to_owned()));
    }
    let packages = workspace.target("neutron-packages");
    if let Err(error) = download(workspace, &packages) {
        return Ok(Root::Unavailable(format!("{error:#}")));
    }
    remove(&root)?;
    let partial = workspace.target("neutron-root.partial");
    remove(&partial)?;
    lay_out(&partial)?;
    unpack(&packages.join("archives"), &partial)?;
    complete(workspace, &partial)?;
    fs::write(partial.join("recipe"), recipe()).context("writing the recipe")?;
    fs::rename(&partial, &root).context("renaming the root")?;
    // Nobody reads them again: another recipe means another list.
    remove(&packages)?;
    Ok(Root::Ready(root))
}

/// As [`prepare`], for a caller that cannot do without.
pub(crate) fn require(workspace: &Workspace) -> Result<PathBuf> {
    match prepare(workspace)? {
        Root::Ready(root) => Ok(root),
        Root::Unavailable(reason) => bail!("Neutron's packages cannot be had: {reason}"),
    }
}

/// Everything that decides what is in the root.
fn recipe() -> String {
    [&PACKAGES.join("\n"), &LEFT_OUT.join("\n"), COMPLETE, EBTABLES].join("\n\n")
}

/// Downloads the packages as this machine's apt is configured to: its mirrors, keys, proxies and pins.
fn download(workspace: &Workspace, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder.join("archives/partial")).context("making a folder for packages")?;
    let nothing_installed = folder.join("status");
    fs::write(&nothing_installed, "").context("writing an empty package status")?;
    progress::step("reading the package lists", &setup::log(workspace, "apt-update"), &mut setup::apt(&["update"]))?;
    let mut command = setup::apt(&["install", "--yes", "--no-install-recommends", "--download-only"]);
    command
        .arg("-o")
        .arg(format!("Dir::State::status={}", nothing_installed.display()))
        .arg("-o")
        .arg(format!("Dir::Cache::archives={}", folder.join("archives").display()))
        // The binary caches describe what the machine has installed.
        .args(["-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache="])
        .args(PACKAGES);
    let title = "downloading Neutron's packages, which are unpacked into target/neutron-root and not installed";
    progress::step(title, &setup::log(workspace, "neutron-download"), &mut command)?;
    Ok(())
}

/// Makes what packages expect to find.
fn lay_out(root: &Path) -> Result<()> {
    for folder in MERGED {
        fs::create_dir_all(root.join("usr").join(folder)).context("making the root")?;
        symlink(format!("usr/{folder}"), root.join(folder)).context("making the root")?;
    }
    for folder in MOUNT_POINTS {
        fs::create_dir_all(root.join(folder)).context("making the root")?;
    }
    let ebtables = root.join("usr/sbin/ebtables");
    fs::write(&ebtables, EBTABLES).context("writing ebtables")?;
    fs::set_permissions(&ebtables, fs::Permissions::from_mode(0o755)).context("writing ebtables")
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

/// Runs [`COMPLETE`] where it can neither see nor leave anything outside.
fn complete(workspace: &Workspace, root: &Path) -> Result<()> {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(format!("--root={}", root.display()))
        .args(["/bin/sh", "-c", COMPLETE])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin");
    progress::step("preparing Neutron and its database", &setup::log(workspace, "neutron-complete"), &mut command)?;
    Ok(())
}

/// What the programs of a run have logged is kept until the next one, and longer while that run goes on. The names of its
/// folders begin with its process id.
fn remove_old_logs(logs: &Path) -> Result<()> {
    for entry in fs::read_dir(logs).into_iter().flatten() {
        let folder = entry.context("listing logs")?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_running = name.split('-').next().is_some_and(|pid| Path::new("/proc").join(pid).exists());
        if !is_running {
            remove(&folder)?;
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))
}
