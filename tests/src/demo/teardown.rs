//! What `--keep` leaves, how to enter it, and how to take it down.

use std::{
    fs, io,
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use overlane_abi::ABI_VERSION;
use overlane_tests::wait::wait_until;

use crate::{
    deployment::{HOSTS, NAMESPACES, ROUTER},
    report::Report,
};

/// Begins the names of everything that is kept.
pub(crate) const PREFIX: &str = "demo-";
/// Where its files are.
pub(crate) const FOLDER: &str = "/run/overlane-demo";

/// Prints how to enter what was kept.
pub(crate) fn explain(report: &Report) {
    report.title("Everything is left running");
    report.say(&format!(
        "machines:  ip netns exec {PREFIX}app1 ping 10.0.0.22          (also {PREFIX}app2, {PREFIX}web1, {PREFIX}web2)\n\
         hosts:     nsenter --net=/run/netns/{PREFIX}compute1 brctl show   (also {PREFIX}compute2, {PREFIX}controller)\n\
         services:  ip netns exec {ROUTER} ip route   (also the qdhcp-… of ip netns)\n\
         Overlane:  nsenter --net=/run/netns/{PREFIX}compute1 target/release/overlane show ports \
         --config-file {FOLDER}/compute1/overlane.conf\n\
         maps:      bpftool map dump pinned /sys/fs/bpf/{PREFIX}compute1/v{ABI_VERSION}/fdb\n\
         topology:  {FOLDER}/topology.toml (an edit takes effect at once; logs are in {FOLDER}/*/agent.log)\n\
         take down: cargo xtask demo --down"
    ));
}

/// Only one thread takes down at a time.
static TAKING_DOWN: Mutex<()> = Mutex::new(());

/// Ends the processes in kept namespaces, and removes namespaces, pins and files; nothing else, and no matter how much of
/// it is there.
pub(crate) fn take_down() -> Result<()> {
    let _alone = TAKING_DOWN.lock().unwrap_or_else(PoisonError::into_inner);
    take_down_alone()
}

/// As `take_down`, while another thread may still be setting up: until it `has_ended`, which it soon does when everything
/// around it vanishes. Nobody else takes anything down any more after this.
pub(crate) fn take_down_for_good(has_ended: &AtomicBool) -> Result<()> {
    std::mem::forget(TAKING_DOWN.lock().unwrap_or_else(PoisonError::into_inner));
    wait_until("everything ends", || {
        take_down_alone()?;
        Ok(has_ended.load(Ordering::Relaxed))
    })?;
    take_down_alone()
}

fn take_down_alone() -> Result<()> {
    for name in namespaces()? {
        for pid in processes(&name)? {
            // Gone by itself in the meantime is as good.
            let _ = kill(pid, Signal::SIGKILL);
        }
        wait_until(&format!("the processes in {name} end"), || Ok(processes(&name)?.is_empty()))?;
        let status = Command::new("ip").args(["netns", "delete", &name]).status().context("running ip")?;
        anyhow::ensure!(status.success(), "could not delete namespace {name}");
    }
    for (host, _) in HOSTS {
        remove(&format!("/sys/fs/bpf/{PREFIX}{host}"))?;
    }
    remove(FOLDER)
}

fn namespaces() -> Result<Vec<String>> {
    let output = Command::new("ip").args(["netns", "list"]).output().context("running ip")?;
    let names = String::from_utf8_lossy(&output.stdout);
    // Each line is a name, with an id behind it if there is one.
    let names = names.lines().filter_map(|line| line.split_whitespace().next());
    let is_ours = |name: &&str| name.starts_with(PREFIX) || NAMESPACES.contains(name);
    Ok(names.filter(is_ours).map(str::to_owned).collect())
}

fn processes(namespace: &str) -> Result<Vec<Pid>> {
    let output = Command::new("ip").args(["netns", "pids", namespace]).output().context("running ip")?;
    let pids = String::from_utf8_lossy(&output.stdout);
    Ok(pids.lines().filter_map(|pid| pid.trim().parse().ok().map(Pid::from_raw)).collect())
}

fn remove(path: &str) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).with_context(|| format!("removing {path}")),
        _ => Ok(()),
    }
}
