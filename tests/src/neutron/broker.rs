//! RabbitMQ: the broker of a cloud, or one alone for tests of messaging.

use std::{
    fs,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::container::{Container, in_root};
use crate::{
    lab::{Namespace, Process, World},
    wait::wait_at_most,
};

/// Erlang takes seconds to start, and more on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CONTROL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";

/// A broker with the user `guest`, whose password is `guest`. What is durable outlives its restarts, not itself.
pub struct Broker {
    host: Arc<Container>,
    process: Mutex<Process>,
}

impl Broker {
    /// Starts a broker that listens on `address`, port 5672, and waits until it does. `settings` are more lines of
    /// `rabbitmq.conf`.
    ///
    /// # Errors
    /// When it does not start, with its log.
    pub fn start(host: &Arc<Container>, address: &str, settings: &str) -> Result<Self> {
        let broker = Self::launch(host, address, settings)?;
        broker.wait()?;
        Ok(broker)
    }

    /// As `start`, without waiting.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch(host: &Arc<Container>, address: &str, settings: &str) -> Result<Self> {
        let folder = host.folder().join("broker");
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let shown = folder.display();
        let files = [
            ("rabbitmq.conf", format!("listeners.tcp.1 = {address}:5672\nloopback_users = none\n{settings}")),
            ("enabled_plugins", "[].".to_owned()),
            // Read by the broker and by its control program, both shell scripts.
            (
                "environment",
                format!(
                    "NODENAME=broker@localhost\nCONFIG_FILE={shown}/rabbitmq.conf\nPID_FILE={shown}/pid\n\
                     ENABLED_PLUGINS_FILE={shown}/enabled_plugins\nMNESIA_BASE={shown}/data\nLOG_BASE={shown}/log\n\
                     SERVER_ADDITIONAL_ERL_ARGS=\"+sbwt none +sbwtdcpu none +sbwtdio none\"\n"
                ),
            ),
        ];
        for (name, text) in files {
            fs::write(folder.join(name), text).with_context(|| format!("writing {name}"))?;
        }
        let process = spawn(host)?;
        Ok(Self { host: host.clone(), process: Mutex::new(process) })
    }

    /// Waits until it serves.
    ///
    /// # Errors
    /// When it does not in time, with its log.
    pub fn wait(&self) -> Result<()> {
        wait_at_most(PATIENCE, "the broker is ready", || {
            let mut process = self.process();
            let log = process.output()?;
            ensure!(process.ended()?.is_none(), "the broker has ended: {log}");
            Ok(log.contains("Starting broker... completed").then_some(()))
        })
    }

    /// Where it runs.
    pub(super) fn host(&self) -> &Container {
        &self.host
    }

    /// Runs `rabbitmqctl` with `words` and returns what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn control(&self, words: &str) -> Result<String> {
        let mut command = in_root(CONTROL);
        command.arg("--quiet").args(words.split_whitespace());
        set_environment(&self.host, &mut command);
        self.host.execute(&mut command)
    }

    /// Stops it in an orderly way.
    ///
    /// # Errors
    /// When it will not stop.
    pub fn stop(&self) -> Result<()> {
        self.control("stop")?;
        self.process().wait().map(drop)
    }

    /// Kills it.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self) -> Result<()> {
        let pid = fs::read_to_string(self.host.folder().join("broker/pid")).context("reading the broker's pid")?;
        self.host.run(&format!("kill -KILL {pid}"))?;
        self.process().wait().map(drop)
    }

    /// Starts it again after `stop` or `kill`, and waits until it serves.
    ///
    /// # Errors
    /// When it does not start, with its log.
    pub fn start_again(&self) -> Result<()> {
        *self.process() = spawn(&self.host)?;
        self.wait()
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spawn(host: &Container) -> Result<Process> {
    let mut command = in_root(SERVER);
    set_environment(host, &mut command);
    host.start_program("broker", &mut command)
}

/// Where the scripts find their settings, and the cookie by which they know each other.
fn set_environment(host: &Container, command: &mut std::process::Command) {
    let folder = host.folder().join("broker");
    command.env("HOME", &folder).env("RABBITMQ_CONF_ENV_FILE", folder.join("environment"));
}

/// A broker on a host of its own, in a world of its own, that listens on 127.0.0.1: clients run in its namespace.
pub struct LoneBroker {
    /// The broker.
    pub broker: Broker,
    /// Where it can be reached.
    pub namespace: Namespace,
    /// Where files go, and more namespaces.
    pub world: World,
}

impl LoneBroker {
    /// Starts one; `settings` are more lines of `rabbitmq.conf`. The calling thread moves into its world.
    ///
    /// # Errors
    /// Without root, or when it does not start, with its log.
    pub fn start(settings: &str) -> Result<Self> {
        let world = World::private()?;
        let namespace = world.namespace("broker")?;
        let host = Arc::new(Container::start(&world, &namespace, "broker")?);
        let broker = Broker::start(&host, "127.0.0.1", settings)?;
        Ok(Self { broker, namespace, world })
    }
}
