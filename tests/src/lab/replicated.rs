//! A router on two network nodes, of which one may be lost.

use std::fs;

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Agent, Host, Port, Route, Routed, Stream, execute};
use crate::wait::{wait_for, wait_until};

/// The nodes.
const NODES: [&str; 2] = ["node", "other"];

/// Two network nodes with one router, and machines on a third host.
pub struct Replicated {
    /// All that there is.
    pub routed: Routed,
}

impl Replicated {
    /// The floating IP of the first machine.
    pub const FLOATING: &str = "10.0.50.160";

    /// Everything runs, and the machines reach each other and the outside.
    ///
    /// # Errors
    /// When something cannot be made, or does not come about in time.
    pub fn running() -> Result<Self> {
        Self::running_with(|_| Ok(()))
    }

    /// As `running`, with another topology.
    ///
    /// # Errors
    /// As for `running`.
    pub fn running_with(prepare: impl FnOnce(&mut Routed) -> Result<()>) -> Result<Self> {
        let routed = Routed::running_on(&NODES, |routed| {
            routed.topology.add_floating_ip(&routed.external, 160, Some(&routed.ports[0]));
            // By two machines in turn, which is a line of its own in keepalived's file.
            routed.topology.routers[0].routes = routed.ports.iter().flat_map(routes_by).collect();
            prepare(routed)
        })?;
        Ok(Self { routed })
    }

    /// A host.
    pub fn host(&self, node: &str) -> &Host {
        self.routed.lab.host(node)
    }

    /// Runs a command line in the router's namespace on a node.
    ///
    /// # Errors
    /// When it fails.
    pub fn in_router(&self, node: &str, line: &str) -> Result<String> {
        self.host(node).run_in(&self.routed.namespace(), line)
    }

    /// What a node says of the router.
    ///
    /// # Errors
    /// When it cannot be found out.
    pub fn state(&self, node: &str) -> Result<String> {
        let rows = self.host(node).show("routers")?;
        Ok(rows.first().context("no router")?["state"].as_str().unwrap_or_default().to_owned())
    }

    /// The active node and the other one, once the two agree.
    ///
    /// # Errors
    /// When they do not in time.
    pub fn roles(&self) -> Result<[&'static str; 2]> {
        wait_for("one node is active, and one waits", || {
            let [first, second] = NODES.map(|node| self.state(node));
            Ok(match (first?.as_str(), second?.as_str()) {
                ("active", "standby") => Some([NODES[0], NODES[1]]),
                ("standby", "active") => Some([NODES[1], NODES[0]]),
                _ => None,
            })
        })
    }

    /// Waits until a node says that it is active.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_until_active(&self, node: &str) -> Result<()> {
        wait_until(&format!("{node} is active"), || Ok(self.state(node)? == "active"))
    }

    /// The process ids of keepalived: of the one that watches, and of the one that speaks.
    ///
    /// # Errors
    /// When it does not run in time.
    pub fn keepalived(&self, node: &str) -> Result<[Pid; 2]> {
        let file = self.host(node).folder().join("state/ha_confs").join(&self.routed.router.id).join("pid");
        let read = |text: &str| text.trim().parse().map(Pid::from_raw).context("a process id");
        wait_for("keepalived runs", || {
            let watcher = read(&fs::read_to_string(&file)?)?;
            let speaker = read(&fs::read_to_string(format!("/proc/{watcher}/task/{watcher}/children"))?)?;
            Ok(Some([watcher, speaker]))
        })
    }

    /// Whether a node has any of the router's addresses.
    ///
    /// # Errors
    /// When it cannot be found out.
    pub fn has_addresses(&self, node: &str) -> Result<bool> {
        let addresses = self.in_router(node, "ip -br address")?;
        Ok(addresses.lines().any(|line| line.starts_with('q') && line.split_whitespace().count() > 2))
    }

    /// Pulls (`down`) or plugs (`up`) both wires of a node.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn set_wires(&self, node: &str, state: &str) -> Result<()> {
        for wire in [format!("to-{node}"), format!("phys-{node}")] {
            self.routed.lab.fabric().run(&format!("ip link set {wire} {state}"))?;
        }
        Ok(())
    }

    /// A node is gone: its wires, its agent, and keepalived.
    ///
    /// # Errors
    /// When something of it cannot be taken.
    pub fn lose(&mut self, node: &str) -> Result<()> {
        self.set_wires(node, "down")?;
        self.kill_agent(node)?;
        for pid in self.keepalived(node)? {
            kill(pid, Signal::SIGKILL).context("killing keepalived")?;
        }
        Ok(())
    }

    /// Agents are in the order of the hosts, unless one is killed.
    ///
    /// # Errors
    /// When none runs.
    pub fn kill_agent(&mut self, node: &str) -> Result<()> {
        let index = self.routed.agents.iter().position(|agent| self.is_of(agent, node)).context("an agent runs")?;
        self.routed.agents.remove(index).stop(Signal::SIGKILL).map(drop)
    }

    fn is_of(&self, agent: &Agent, node: &str) -> bool {
        let command = fs::read_to_string(format!("/proc/{}/cmdline", agent.pid())).unwrap_or_default();
        command.contains(&self.host(node).config_file().display().to_string())
    }

    /// A node that was lost has booted: nothing is there of what it had.
    ///
    /// # Errors
    /// When its agent does not become ready.
    pub fn boot(&mut self, node: &str) -> Result<()> {
        let mut delete = self.host(node).command("ip");
        execute(delete.args(["netns", "delete", &self.routed.namespace()]))?;
        self.set_wires(node, "up")?;
        self.start_agent(node)
    }

    /// Starts the agent of a node again.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn start_agent(&mut self, node: &str) -> Result<()> {
        let agent = Agent::start(self.host(node))?;
        self.routed.agents.push(agent);
        Ok(())
    }

    /// From a machine to the outside, from there to a floating IP, and between two networks.
    ///
    /// # Errors
    /// When they do not flow in time.
    pub fn streams(&self) -> Result<[Stream; 3]> {
        let [first, second] = &self.routed.machines[..] else { unreachable!("there are two") };
        Ok([
            Stream::start(self.routed.folder(), &second.namespace, self.routed.outside())?,
            Stream::start(self.routed.folder(), &self.routed.internet, Self::FLOATING)?,
            Stream::start(self.routed.folder(), &first.namespace, second.port.ipv4())?,
        ])
    }
}

fn routes_by(port: &Port) -> [Route; 2] {
    [("172.16.0.0/16", port.ipv4()), ("fd00:99::/64", port.ipv6())]
        .map(|(destination, nexthop)| Route { destination: destination.to_owned(), nexthop: nexthop.to_owned() })
}
