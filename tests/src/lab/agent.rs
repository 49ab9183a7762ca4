//! The agent of a host, and what it is configured with.

use std::{
    env,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use super::{Host, Process};
use crate::wait::wait_until;

/// The `overlane` program under test.
///
/// # Panics
/// When `cargo xtask` did not say where it is.
pub fn overlane_binary() -> PathBuf {
    env::var_os("OVERLANE_BIN").expect("cargo xtask test and cargo xtask demo set OVERLANE_BIN").into()
}

/// What differs from one configuration to the other.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Without eBPF: `fast_path = off`.
    pub kernel_lane_only: bool,
    /// Further lines of `[vxlan]`.
    pub vxlan: Vec<&'static str>,
    /// Keep the agent when the program that started it ends.
    pub stays: bool,
}

impl Settings {
    pub(super) fn render(&self, host: &Host, topology: &Path) -> String {
        let mut text = format!("[DEFAULT]\nhost = {}\n\n[vxlan]\nlocal_ip = {}\n", host.name, host.local_ip);
        for line in &self.vxlan {
            let _ = writeln!(text, "{line}");
        }
        let fast_path = if self.kernel_lane_only { "off" } else { "auto" };
        let (topology, bpffs) = (topology.display(), host.bpffs().display());
        let _ = write!(
            text,
            "\n[overlane]\ncontrol = file\ntopology = {topology}\nfast_path = {fast_path}\nbpffs = {bpffs}\n"
        );
        text
    }
}

/// A running agent; killed when dropped.
pub struct Agent {
    process: Process,
}

impl Agent {
    pub(super) fn start(host: &Host) -> Result<Self> {
        Self::start_as(host, false)
    }

    /// Starts the agent of a configured host; it may outlive the caller.
    ///
    /// # Errors
    /// When it does not become ready, with its log.
    pub fn start_as(host: &Host, stays: bool) -> Result<Self> {
        let mut agent = Self::launch(host, stays)?;
        wait_until("the agent is ready", || {
            if let Some(status) = agent.process.ended()? {
                bail!("the agent has ended, {status}: {}", agent.log()?);
            }
            Ok(agent.log()?.contains("ready: "))
        })?;
        Ok(agent)
    }

    /// Starts the agent without waiting for anything.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch(host: &Host, stays: bool) -> Result<Self> {
        let mut command = host.namespace.command(overlane_binary());
        command.arg("agent").arg("--config-file").arg(host.config_file());
        let process = Process::start(&mut command, &host.folder().join("agent.log"), stays)?;
        Ok(Self { process })
    }

    /// What it has logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        self.process.output()
    }

    /// Waits until the log contains `text`.
    ///
    /// # Errors
    /// When it does not in time, with the log.
    pub fn wait_for_log(&self, text: &str) -> Result<()> {
        wait_until(&format!("the agent logs {text:?}"), || {
            let log = self.log()?;
            anyhow::ensure!(log.contains(text), "the log is:\n{log}");
            Ok(true)
        })
    }

    /// Stops it by a signal and returns how it ended.
    ///
    /// # Errors
    /// When it cannot be stopped.
    pub fn stop(mut self, signal: Signal) -> Result<ExitStatus> {
        self.process.end_by(signal)
    }

    /// Waits until it has ended by itself; returns how, and its log.
    ///
    /// # Errors
    /// When the kernel will not say.
    pub fn wait(mut self) -> Result<(ExitStatus, String)> {
        let status = self.process.wait()?;
        Ok((status, self.log()?))
    }

    /// Leaves it running when this is dropped.
    pub fn leave(&mut self) {
        self.process.leave();
    }
}
