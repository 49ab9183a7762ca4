//! A host of the cloud, and the agents on it.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    container::{Container, in_root},
    files,
};
use crate::lab::{Host, Process, World, overlane_binary};

/// What runs on hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Agent {
    /// `neutron-linuxbridge-agent`.
    LinuxBridge,
    /// `overlane agent`, with the files of the above.
    Overlane,
    /// `neutron-dhcp-agent`.
    Dhcp,
    /// `neutron-l3-agent`.
    L3,
}

impl Agent {
    /// What Neutron calls it. Overlane says that it is the agent that it replaces: the server binds ports to no other.
    pub(super) fn agent_type(self) -> &'static str {
        match self {
            Self::LinuxBridge | Self::Overlane => "Linux bridge agent",
            Self::Dhcp => "DHCP agent",
            Self::L3 => "L3 agent",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::LinuxBridge => "neutron-linuxbridge-agent",
            Self::Overlane => "overlane",
            Self::Dhcp => "neutron-dhcp-agent",
            Self::L3 => "neutron-l3-agent",
        }
    }

    fn files(self) -> &'static [&'static str] {
        match self {
            Self::LinuxBridge | Self::Overlane => &["neutron.conf", "ml2_conf.ini", "linuxbridge_agent.ini"],
            Self::Dhcp => &["neutron.conf", "dhcp_agent.ini"],
            Self::L3 => &["neutron.conf", "l3_agent.ini"],
        }
    }

    fn command(self, folder: &Path) -> Command {
        let mut command = match self {
            Self::Overlane => {
                let mut command = Command::new(overlane_binary());
                // What it did is wanted when a test fails.
                command.arg("agent").env("RUST_LOG", "overlane=debug");
                command
            }
            _ => in_root(self.program()),
        };
        for file in self.files() {
            command.arg("--config-file").arg(folder.join(file));
        }
        command
    }
}

/// A host that ports can be bound to.
pub struct Node {
    container: Arc<Container>,
    agents: Mutex<BTreeMap<Agent, Process>>,
}

impl Node {
    pub(super) fn start(world: &World, host: &Host) -> Result<Self> {
        let container = Arc::new(Container::start(world, &host.namespace, &host.name)?);
        files::write_common(container.folder(), &host.name)?;
        files::write_agents(container.folder(), &host.local_ip.to_string())?;
        Ok(Self { container, agents: Mutex::default() })
    }

    /// The host itself.
    pub fn container(&self) -> &Arc<Container> {
        &self.container
    }

    /// Starts an agent.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_agent(&self, agent: Agent) -> Result<()> {
        self.start_agent_with(agent, &[])
    }

    /// As `start_agent`, with more in its environment.
    ///
    /// # Errors
    /// As for `start_agent`.
    pub fn start_agent_with(&self, agent: Agent, environment: &[(&str, &str)]) -> Result<()> {
        let mut command = agent.command(self.container.folder());
        command.envs(environment.iter().copied());
        let process = self.container.start_program(agent.program(), &mut command)?;
        self.agents().insert(agent, process);
        Ok(())
    }

    /// Stops an agent by a signal, and waits for its end.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop_agent(&self, agent: Agent, signal: Signal) -> Result<()> {
        let process = self.agents().remove(&agent);
        process.with_context(|| format!("{agent:?} does not run"))?.end_by(signal).map(drop)
    }

    /// What an agent has logged since it was started.
    ///
    /// # Errors
    /// When it was not.
    pub fn log(&self, agent: Agent) -> Result<String> {
        self.agents().get(&agent).with_context(|| format!("{agent:?} does not run"))?.output()
    }

    /// The agents that run.
    pub fn running(&self) -> Vec<Agent> {
        self.agents().keys().copied().collect()
    }

    /// Fails when an agent has ended by itself.
    ///
    /// # Errors
    /// When one has, with its log.
    pub fn expect_running(&self) -> Result<()> {
        for (agent, process) in self.agents().iter_mut() {
            if let Some(status) = process.ended()? {
                bail!("{agent:?} on {} has ended, {status}: {}", self.container.name(), process.output()?);
            }
        }
        Ok(())
    }

    /// Replaces a text in one of the agents' files, which has to be there, and returns the file as it was.
    ///
    /// # Errors
    /// When the file cannot be read or written, or lacks the text.
    pub fn edit(&self, file: &str, from: &str, to: &str) -> Result<String> {
        let path = self.container.folder().join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {file}"))?;
        ensure!(text.contains(from), "{file} lacks {from:?}: {text}");
        fs::write(&path, text.replace(from, to)).with_context(|| format!("writing {file}"))?;
        Ok(text)
    }

    /// Puts a file back that was replaced by `edit`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn restore(&self, file: &str, text: &str) -> Result<()> {
        fs::write(self.container.folder().join(file), text).with_context(|| format!("writing {file}"))
    }

    /// What `overlane show ports` says of a tap.
    ///
    /// # Errors
    /// When it fails, or says nothing.
    pub fn shown_port(&self, tap: &str) -> Result<Value> {
        let rows: Vec<Value> = serde_json::from_str(&self.overlane("show ports --output json")?)?;
        rows.into_iter().find(|row| row["tap"] == tap).with_context(|| format!("{tap} is not shown"))
    }

    /// Runs `overlane` with `words`, and the configuration files of this host, and returns what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn overlane(&self, words: &str) -> Result<String> {
        let file = |file: &&str| format!(" --config-file {}", self.container.folder().join(file).display());
        self.overlane_without_files(&(words.to_owned() + &Agent::Overlane.files().iter().map(file).collect::<String>()))
    }

    /// As `overlane`, of the files that the running agent has.
    ///
    /// # Errors
    /// When it fails.
    pub fn overlane_without_files(&self, words: &str) -> Result<String> {
        self.container.execute(Command::new(overlane_binary()).args(words.split_whitespace()))
    }

    fn agents(&self) -> MutexGuard<'_, BTreeMap<Agent, Process>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
