//! The root that the tier `neutron` runs a real Neutron in: Debian packages, unpacked below `target` and never installed,
//! so that testing puts no database and no broker on anybody's machine.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    packages::{Need, Recipe, Root, remove},
    progress, setup,
    workspace::Workspace,
};

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

/// What mounts are put on while Neutron runs.
const MOUNT_POINTS: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];

const COMPLETE: &str = include_str!("neutron/complete.sh");
const EBTABLES: &str = include_str!("neutron/ebtables.sh");

/// The root.
pub(crate) const NEED: Need = Need { whose: "Neutron's", variable: "OVERLANE_NEUTRON_ROOT", prepare };

/// Makes the root, unless one of the same recipe is there.
fn prepare(workspace: &Workspace) -> Result<Root> {
    remove_old_logs(&workspace.target("neutron-logs"))?;
    let rest = [COMPLETE, EBTABLES].join("\n\n");
    let recipe = Recipe { name: "neutron", whose: NEED.whose, packages: &PACKAGES, rest: &rest };
    recipe.prepare(workspace, |root| {
        furnish(root)?;
        complete(workspace, root)
    })
}

/// Adds what is in no package.
fn furnish(root: &Path) -> Result<()> {
    for folder in MOUNT_POINTS {
        fs::create_dir_all(root.join(folder)).context("making the root")?;
    }
    let ebtables = root.join("usr/sbin/ebtables");
    fs::write(&ebtables, EBTABLES).context("writing ebtables")?;
    fs::set_permissions(&ebtables, fs::Permissions::from_mode(0o755)).context("writing ebtables")
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
