//! The agent of a host, and what it is configured with.

use std::{
    env,
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

/// Which lanes an agent may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lanes {
    /// The fast lane where it can, the kernel lane for the rest: what users have.
    Both,
    /// `fast_path = off`.
    KernelOnly,
}

impl Lanes {
    /// The configuration file of a host.
    pub(super) fn render(self, host: &Host, topology: &Path) -> String {
        let (topology, bpffs, state) = (topology.display(), host.bpffs().display(), host.folder().join("state"));
        let fast_path = match self {
            Self::Both => "auto",
            Self::KernelOnly => "off",
        };
        format!(
            "[DEFAULT]\nhost = {}\n\n[vxlan]\nlocal_ip = {}\n\n\
             [overlane]\ncontrol = file\ntopology = {topology}\nfast_path = {fast_path}\nbpffs = {bpffs}\n\
             state_path = {}\n",
            host.name,
            host.local_ip,
            state.display()
        )
    }
}

/// A running agent; killed when dropped, unless its host lasts.
pub struct Agent {
    process: Process,
}

impl Agent {
    /// Starts the agent of a configured host and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready, with its log.
    pub fn start(host: &Host) -> Result<Self> {
        let mut agent = Self::launch(host)?;
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
    pub fn launch(host: &Host) -> Result<Self> {
        Self::launch_from(host, &overlane_binary())
    }

    /// As `launch`, from another file than the one under test.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch_from(host: &Host, program: &Path) -> Result<Self> {
        let mut command = host.command(program);
        command.arg("agent").arg("--config-file").arg(host.config_file());
        let process = Process::start(&mut command, &host.folder().join("agent.log"), host.lasts())?;
        Ok(Self { process })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
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
}
