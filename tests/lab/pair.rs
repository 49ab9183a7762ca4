//! What most tests start from: two hosts, one network, one port on each.

use std::path::PathBuf;

use anyhow::Result;
use overlane_tests::lab::{Agent, Host, Lab, Lanes, Machine, Network, Port, Topology};

/// Two hosts that share a network.
pub(crate) struct Pair {
    // Agents and machines end before the lab that they are in.
    pub(crate) agents: Vec<Agent>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) lab: Lab,
    pub(crate) topology: Topology,
    pub(crate) topology_file: PathBuf,
    pub(crate) network: Network,
    /// One on each host.
    pub(crate) ports: [Port; 2],
}

pub(crate) const HOSTS: [(&str, &str); 2] = [("left", "10.10.10.11"), ("right", "10.10.10.12")];

impl Pair {
    /// The hosts, with nothing running on them.
    pub(crate) fn bare() -> Result<Self> {
        Self::of(&HOSTS)
    }

    /// As `bare`, with the given underlay addresses.
    pub(crate) fn of(hosts: &[(&str, &str); 2]) -> Result<Self> {
        let lab = Lab::new(hosts)?;
        let mut topology = Topology::of(lab.hosts());
        let network = topology.add_network(10);
        let ports = [topology.add_port(&network, "left", 1), topology.add_port(&network, "right", 2)];
        let topology_file = lab.world().folder().join("topology.toml");
        topology.write(&topology_file)?;
        Ok(Self { agents: Vec::new(), machines: Vec::new(), lab, topology, topology_file, network, ports })
    }

    /// Two agents and two machines that reach each other.
    pub(crate) fn running(lanes: Lanes) -> Result<Self> {
        let mut pair = Self::bare()?;
        pair.start(lanes)?;
        Ok(pair)
    }

    /// Starts agents and machines, and waits until these reach each other.
    pub(crate) fn start(&mut self, lanes: Lanes) -> Result<()> {
        for name in ["left", "right"] {
            let agent = self.lab.host(name).start_agent(&self.topology_file, lanes)?;
            self.agents.push(agent);
        }
        self.boot()?;
        self.settle()
    }

    /// Starts the machines.
    pub(crate) fn boot(&mut self) -> Result<()> {
        for port in &self.ports {
            let machine = self.lab.host(&port.host).boot(self.lab.world(), port)?;
            self.machines.push(machine);
        }
        Ok(())
    }

    /// Waits until the machines reach each other and both hosts have nothing left to do.
    pub(crate) fn settle(&self) -> Result<()> {
        let [left, right] = &self.ports;
        self.machines[0].wait_for(right.ipv4())?;
        self.machines[1].wait_for(left.ipv6())?;
        for name in ["left", "right"] {
            nothing_to_do(self.host(name))?;
        }
        Ok(())
    }

    pub(crate) fn host(&self, name: &str) -> &Host {
        self.lab.host(name)
    }

    /// The machine on the left host.
    pub(crate) fn left(&self) -> &Machine {
        &self.machines[0]
    }

    /// The machine on the right host.
    pub(crate) fn right(&self) -> &Machine {
        &self.machines[1]
    }

    /// Both machines ping each other, IPv4 and IPv6, without a loss.
    pub(crate) fn ping_all(&self, count: u32) -> Result<()> {
        let [left, right] = &self.ports;
        for address in [right.ipv4(), right.ipv6()] {
            self.left().ping(address, count)?;
        }
        for address in [left.ipv4(), left.ipv6()] {
            self.right().ping(address, count)?;
        }
        Ok(())
    }
}

/// Waits until an agent has done everything.
pub(crate) fn nothing_to_do(host: &Host) -> Result<()> {
    overlane_tests::wait::wait_until(&format!("{} has nothing left to do", host.name), || {
        let plan = host.overlane("plan")?;
        anyhow::ensure!(plan.starts_with("Nothing to do."), "still to do:\n{plan}");
        Ok(true)
    })
}
