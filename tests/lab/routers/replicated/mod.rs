//! Routers on several network nodes: on one of them a router is active.

mod changes;
mod faults;
mod losses;

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use overlane_tests::{
    lab::{Agent, Host, Port, Route, Routed, Stream},
    wait::{wait_for, wait_until},
};

const NODES: [&str; 2] = ["node", "other"];
const FLOATING: &str = "10.0.50.160";
/// Three advertisements that do not come, a second each, up to one more second, and what a busy machine adds.
const FAILOVER_MAX: Duration = Duration::from_secs(8);
/// Of a node that says that it gives up, the others wait for less than a second.
const HANDOVER_MAX: Duration = Duration::from_secs(3);

/// Two network nodes with one router, and machines on a third host.
struct Replicated {
    routed: Routed,
}

impl Replicated {
    fn running() -> Result<Self> {
        Self::running_with(|_| Ok(()))
    }

    fn running_with(prepare: impl FnOnce(&mut Routed) -> Result<()>) -> Result<Self> {
        let routed = Routed::running_on(&NODES, |routed| {
            routed.topology.add_floating_ip(&routed.external, 160, Some(&routed.ports[0]));
            // By two machines in turn, which is a line of its own in keepalived's file.
            routed.topology.routers[0].routes = routed.ports.iter().flat_map(routes_by).collect();
            prepare(routed)
        })?;
        Ok(Self { routed })
    }

    fn host(&self, node: &str) -> &Host {
        self.routed.lab.host(node)
    }

    /// Runs a command line in the router's namespace on a node.
    fn in_router(&self, node: &str, line: &str) -> Result<String> {
        self.host(node).run_in(&self.routed.namespace(), line)
    }

    /// What a node says of the router.
    fn state(&self, node: &str) -> Result<String> {
        let rows = self.host(node).show("routers")?;
        Ok(rows.first().context("no router")?["state"].as_str().unwrap_or_default().to_owned())
    }

    /// The active node and the other one, once the two agree.
    fn roles(&self) -> Result<[&'static str; 2]> {
        wait_for("one node is active, and one waits", || {
            let [first, second] = NODES.map(|node| self.state(node));
            Ok(match (first?.as_str(), second?.as_str()) {
                ("active", "standby") => Some([NODES[0], NODES[1]]),
                ("standby", "active") => Some([NODES[1], NODES[0]]),
                _ => None,
            })
        })
    }

    fn wait_until_active(&self, node: &str) -> Result<()> {
        wait_until(&format!("{node} is active"), || Ok(self.state(node)? == "active"))
    }

    /// The process ids of keepalived: of the one that watches, and of the one that speaks.
    fn keepalived(&self, node: &str) -> Result<[Pid; 2]> {
        let file = self.host(node).folder().join("state/ha_confs").join(&self.routed.router.id).join("pid");
        let read = |text: &str| text.trim().parse().map(Pid::from_raw).context("a process id");
        wait_for("keepalived runs", || {
            let watcher = read(&fs::read_to_string(&file)?)?;
            let speaker = read(&fs::read_to_string(format!("/proc/{watcher}/task/{watcher}/children"))?)?;
            Ok(Some([watcher, speaker]))
        })
    }

    /// Whether a node has any of the router's addresses.
    fn has_addresses(&self, node: &str) -> Result<bool> {
        let addresses = self.in_router(node, "ip -br address")?;
        Ok(addresses.lines().any(|line| line.starts_with('q') && line.split_whitespace().count() > 2))
    }

    /// Pulls (`down`) or plugs (`up`) both wires of a node.
    fn set_wires(&self, node: &str, state: &str) -> Result<()> {
        for wire in [format!("to-{node}"), format!("phys-{node}")] {
            self.routed.lab.fabric().run(&format!("ip link set {wire} {state}"))?;
        }
        Ok(())
    }

    /// A node is gone: its wires, its agent, and keepalived.
    fn lose(&mut self, node: &str) -> Result<()> {
        self.set_wires(node, "down")?;
        self.kill_agent(node)?;
        for pid in self.keepalived(node)? {
            kill(pid, Signal::SIGKILL).context("killing keepalived")?;
        }
        Ok(())
    }

    /// Agents are in the order of the hosts, unless one is killed.
    fn kill_agent(&mut self, node: &str) -> Result<()> {
        let index = self.routed.agents.iter().position(|agent| self.is_of(agent, node)).context("an agent runs")?;
        self.routed.agents.remove(index).stop(Signal::SIGKILL).map(drop)
    }

    fn is_of(&self, agent: &Agent, node: &str) -> bool {
        let command = fs::read_to_string(format!("/proc/{}/cmdline", agent.pid())).unwrap_or_default();
        command.contains(&self.host(node).config_file().display().to_string())
    }

    fn start_agent(&mut self, node: &str) -> Result<()> {
        let agent = Agent::start(self.host(node))?;
        self.routed.agents.push(agent);
        Ok(())
    }

    /// From a machine to the outside, from there to a floating IP, and between two networks.
    fn streams(&self) -> Result<[Stream; 3]> {
        let [first, second] = &self.routed.machines[..] else { unreachable!("there are two") };
        Ok([
            Stream::start(self.routed.folder(), &second.namespace, self.routed.outside())?,
            Stream::start(self.routed.folder(), &self.routed.internet, FLOATING)?,
            Stream::start(self.routed.folder(), &first.namespace, second.port.ipv4())?,
        ])
    }
}

fn routes_by(port: &Port) -> [Route; 2] {
    [("172.16.0.0/16", port.ipv4()), ("fd00:99::/64", port.ipv6())]
        .map(|(destination, nexthop)| Route { destination: destination.to_owned(), nexthop: nexthop.to_owned() })
}

/// The longest pause of any, which must not be longer than this.
fn expect_pauses_below(most: Duration, what: &str, streams: impl IntoIterator<Item = Stream>) -> Result<()> {
    let pauses = streams.into_iter().map(Stream::longest_pause).collect::<Result<Vec<_>>>()?;
    println!("{what}: no answer for {pauses:?}");
    anyhow::ensure!(pauses.iter().all(|pause| *pause < most), "{what}: no answer for {pauses:?}");
    Ok(())
}
