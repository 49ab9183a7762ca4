//! The cloud: a controller, and hosts with agents.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Agent, Broker, CONTROLLER, Change, Container, Node, Server};
use crate::{
    lab::{Lab, World},
    wait::wait_at_most,
};

/// How long everything may take to start on a busy machine.
const START: Duration = Duration::from_secs(180);

/// The name of the host that server, broker and database are on.
const CONTROLLER_NAME: &str = "controller";

/// The hosts of the shared cloud, and what runs on them.
const SHARED_HOSTS: [(&str, &[Agent]); 6] = [
    ("bridge1", &[Agent::LinuxBridge]),
    ("bridge2", &[Agent::LinuxBridge]),
    ("network", &[Agent::LinuxBridge, Agent::Dhcp, Agent::L3]),
    ("lane1", &[Agent::Overlane]),
    ("lane2", &[Agent::Overlane]),
    // For tests that change the agent.
    ("spare", &[]),
];

/// A cloud: a controller at [`CONTROLLER`], and hosts from 10.10.10.11 on. Everything ends when it is dropped, or with the
/// thread that has started it.
pub struct Cloud {
    // What runs ends before the lab that it runs in.
    nodes: BTreeMap<String, Node>,
    /// The broker.
    pub broker: Broker,
    /// The server.
    pub server: Server,
    controller: Arc<Container>,
    lab: Lab,
}

impl Cloud {
    /// Starts a cloud whose hosts have the given names and agents, and waits until all agents are alive.
    ///
    /// # Errors
    /// Without root, or when something does not start, with its log.
    pub fn start(hosts: &[(&str, &[Agent])]) -> Result<Self> {
        let address = |index: usize| format!("10.10.10.{}", 11 + index);
        let addresses: Vec<String> = (0..hosts.len()).map(address).collect();
        let names = hosts.iter().zip(&addresses).map(|((name, _), address)| (*name, address.as_str()));
        let lab = Lab::new(&[(CONTROLLER_NAME, CONTROLLER)].into_iter().chain(names).collect::<Vec<_>>())?;
        lab.wire()?;
        let namespace = &lab.host(CONTROLLER_NAME).namespace;
        let controller = Arc::new(Container::start(lab.world(), namespace, CONTROLLER_NAME)?);
        let broker = Broker::launch(&controller, CONTROLLER, "")?;
        let server = Server::launch(&controller)?;
        let mut cloud = Self { nodes: BTreeMap::new(), broker, server, controller, lab };
        cloud.broker.wait()?;
        cloud.wait_for_server()?;
        for (name, agents) in hosts {
            let node = Node::start(cloud.world(), cloud.lab.host(name))?;
            agents.iter().try_for_each(|agent| node.start_agent(*agent))?;
            cloud.nodes.insert((*name).to_owned(), node);
        }
        for (name, agents) in hosts {
            agents.iter().try_for_each(|agent| cloud.wait_until_alive(name, *agent))?;
        }
        Ok(cloud)
    }

    /// The cloud that all tests of a program share, for tests that do not disturb each other. Networks and ports are a
    /// test's own.
    ///
    /// # Errors
    /// When it did not start.
    pub fn shared() -> Result<RwLockReadGuard<'static, Self>> {
        let cloud = shared()?.read().unwrap_or_else(PoisonError::into_inner);
        cloud.world().enter()?;
        Ok(cloud)
    }

    /// As `shared`, for a test that stops what others need.
    ///
    /// # Errors
    /// When it did not start.
    pub fn alone() -> Result<RwLockWriteGuard<'static, Self>> {
        let cloud = shared()?.write().unwrap_or_else(PoisonError::into_inner);
        cloud.world().enter()?;
        Ok(cloud)
    }

    /// A host by name.
    ///
    /// # Panics
    /// When there is none: a mistake in the test.
    pub fn node(&self, name: &str) -> &Node {
        self.nodes.get(name).expect("the test names a host of its cloud")
    }

    /// The hosts' namespaces and wires.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The world that everything is in.
    pub fn world(&self) -> &World {
        self.lab.world()
    }

    /// Where server, broker and database are.
    pub fn controller(&self) -> &Container {
        &self.controller
    }

    /// Waits until the server answers users and agents. An agent that asks too early waits for its time limit.
    ///
    /// # Errors
    /// When it does not in time, with its log.
    pub fn wait_for_server(&self) -> Result<()> {
        wait_at_most(START, "the server answers", || {
            self.server.expect_running()?;
            Ok(self.get("/networks?limit=1").is_ok().then_some(()))
        })?;
        wait_at_most(START, "the server takes messages", || {
            let queues = self.broker.control("list_queues --no-table-headers name consumers")?;
            let is_served = |queue: &str| {
                queues
                    .lines()
                    .filter_map(|line| line.split_once('\t'))
                    .any(|(name, count)| name == queue && count != "0")
            };
            let missing = ["q-plugin", "q-reports-plugin", "q-l3-plugin"].into_iter().find(|queue| !is_served(queue));
            ensure!(missing.is_none(), "nobody listens to {missing:?}: {queues}");
            Ok(Some(()))
        })
    }

    /// Has another server in the place of the cloud's while `work` lasts; afterwards the cloud is as before, whatever became of
    /// the work.
    ///
    /// # Errors
    /// Those of `work`, or when a server does not start.
    pub fn with_changed_server<T>(&self, change: &Change, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.server.stop(Signal::SIGTERM)?;
        self.server.start_changed(change)?;
        let result = self.wait_for_server().and_then(|()| work());
        // It may have ended by itself.
        let stopped = self.server.stop(Signal::SIGTERM);
        self.server.start_again()?;
        self.wait_for_server()?;
        self.wait_for_reports()?;
        stopped.and(result)
    }

    /// Waits until every agent has reported to a server that was away, or its broker: before, one may still wait for an answer
    /// that was lost, and the server binds no port to a host that it has not heard of for long.
    ///
    /// # Errors
    /// When one does not in time, with the agent's log.
    pub fn wait_for_reports(&self) -> Result<()> {
        let running =
            || self.nodes.iter().flat_map(|(name, node)| node.running().into_iter().map(move |agent| (name, agent)));
        let last = running().map(|(name, agent)| self.last_report(name, agent)).collect::<Result<Vec<_>>>()?;
        running().zip(last).try_for_each(|((name, agent), last)| {
            wait_at_most(START, &format!("{agent:?} on {name} reports"), || {
                let report = self.last_report(name, agent)?;
                let log = || self.node(name).log(agent).unwrap_or_default();
                ensure!(report != last, "the last one is of {report}; it says:\n{}", log());
                Ok(Some(()))
            })
        })
    }

    /// When an agent has reported last, by the server's clock.
    fn last_report(&self, host: &str, agent: Agent) -> Result<Value> {
        Ok(self.show_agent(host, agent)?["heartbeat_timestamp"].take())
    }

    /// Waits until the server believes that an agent is alive.
    ///
    /// # Errors
    /// When it does not in time, with the agent's log.
    pub fn wait_until_alive(&self, host: &str, agent: Agent) -> Result<()> {
        wait_at_most(START, &format!("{agent:?} on {host} is alive"), || {
            self.node(host).expect_running()?;
            let answer = self.get(&format!("/agents?host={host}&alive=true"))?;
            let agents = answer["agents"].as_array().context("agents")?;
            Ok(agents.iter().any(|row| row["agent_type"] == agent.agent_type()).then_some(()))
        })
    }

    /// Has the server forget an agent that has ended, as if it had never been.
    ///
    /// # Errors
    /// When it knows none.
    pub fn forget_agent(&self, host: &str, agent: Agent) -> Result<()> {
        let id = self.show_agent(host, agent)?["id"].as_str().context("an id")?.to_owned();
        self.delete(&format!("/agents/{id}"))
    }

    /// What the server says of an agent of a host.
    ///
    /// # Errors
    /// When it knows none.
    pub fn show_agent(&self, host: &str, agent: Agent) -> Result<Value> {
        let answer = self.get(&format!("/agents?host={host}"))?;
        let agents = answer["agents"].as_array().context("agents")?;
        let found = agents.iter().find(|row| row["agent_type"] == agent.agent_type());
        found.cloned().with_context(|| format!("{agent:?} on {host} has not reported"))
    }
}

/// Starts the shared cloud when it is first asked for. What it starts dies with the thread that started it, so that thread
/// lasts as long as the program.
fn shared() -> Result<&'static RwLock<Cloud>> {
    static SHARED: OnceLock<Result<RwLock<Cloud>, String>> = OnceLock::new();
    let cloud = SHARED.get_or_init(|| {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let cloud = Cloud::start(&SHARED_HOSTS).map(RwLock::new).map_err(|error| format!("{error:#}"));
            let sent = sender.send(cloud);
            while sent.is_ok() {
                thread::park();
            }
        });
        receiver.recv().unwrap_or_else(|_| Err("the thread that starts it has panicked".to_owned()))
    });
    cloud.as_ref().map_err(|error| anyhow!("starting the shared cloud: {error}"))
}
