//! What most tests start from: two hosts, one network, one port on each; and a stream of pings that must not lose one.

use std::path::{Path, PathBuf};

use super::{Agent, Host, Lab, Lanes, Machine, Network, Port, Topology, UPLINK};
use crate::wait::wait_until;
use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

/// Two hosts that share a network.
pub struct Pair {
    // Agents and machines end before the lab that they are in.
    /// Agents that run.
    pub agents: Vec<Agent>,
    /// Machines that run: on the left host, on the right host.
    pub machines: Vec<Machine>,
    /// The hosts.
    pub lab: Lab,
    /// What the hosts are told.
    pub topology: Topology,
    /// Where they are told.
    pub topology_file: PathBuf,
    /// The network that they share.
    pub network: Network,
    /// One on each host.
    pub ports: [Port; 2],
}

/// What maps the physical network "provider" to [`NIC`](super::NIC).
pub const BY_INTERFACE: &str = "[linux_bridge]\nphysical_interface_mappings = provider:phys0\n";

/// The hosts, by name and underlay address.
pub const HOSTS: [(&str, &str); 2] = [("left", "10.10.10.11"), ("right", "10.10.10.12")];

impl Pair {
    /// The hosts, with nothing running on them.
    ///
    /// # Errors
    /// When something cannot be made, or does not come about in time.
    pub fn bare() -> Result<Self> {
        Self::of(&HOSTS)
    }

    /// As `bare`, with the given underlay addresses.
    pub fn of(hosts: &[(&str, &str); 2]) -> Result<Self> {
        Self::in_lab(Lab::new(hosts)?)
    }

    /// As `bare`, with hosts that are there: [`HOSTS`].
    ///
    /// # Errors
    /// When the topology cannot be written.
    pub fn in_lab(lab: Lab) -> Result<Self> {
        let mut topology = Topology::of(lab.hosts());
        let network = topology.add_network(10);
        let ports = [topology.add_port(&network, "left", 1), topology.add_port(&network, "right", 2)];
        let topology_file = lab.world().folder().join("topology.toml");
        topology.write(&topology_file)?;
        Ok(Self { agents: Vec::new(), machines: Vec::new(), lab, topology, topology_file, network, ports })
    }

    /// As `bare`, with the hosts also connected to a physical network ([`Lab::wire`]).
    ///
    /// # Errors
    /// When something cannot be made.
    pub fn wired() -> Result<Self> {
        let pair = Self::bare()?;
        pair.lab.wire()?;
        Ok(pair)
    }

    /// Starts the agent of a host with more configuration than usual, and without a grace period for unused devices.
    ///
    /// # Errors
    /// When it does not become ready, with its log.
    pub fn start_with(&mut self, name: &str, more_config: &str) -> Result<()> {
        let host = self.lab.host(name);
        host.add_config(&format!("unused_device_grace_secs = 0\n{more_config}"));
        let agent = host.start_agent(&self.topology_file, Lanes::Both)?;
        self.agents.push(agent);
        Ok(())
    }

    /// Starts everything with more configuration than usual, and expects that a port of the left host is blocked because of
    /// `why`, and no other one.
    ///
    /// # Errors
    /// When it is not, or anything else does not work.
    pub fn expect_only_blocked(&mut self, port: &Port, more_config: &str, why: &str) -> Result<()> {
        self.start_with("left", more_config)?;
        self.agents[0].wait_for_log(why)?;
        self.start_with("right", more_config)?;
        self.boot()?;
        self.left().wait_for(self.ports[1].ipv4())?;
        expect_blocked(self.host("left"), port, why)
    }

    /// Ends the left host's agent, which is the first one, by a signal; does something `meanwhile`; and starts another one, which
    /// has soon nothing left to do.
    ///
    /// # Errors
    /// When one of this fails.
    pub fn replace_agent(
        &mut self,
        signal: Signal,
        lanes: Lanes,
        meanwhile: impl FnOnce(&Host) -> Result<()>,
    ) -> Result<()> {
        self.agents.remove(0).stop(signal)?;
        let host = self.lab.host("left");
        meanwhile(host)?;
        let agent = host.start_agent(&self.topology_file, lanes)?;
        self.agents.insert(0, agent);
        nothing_to_do(host)
    }

    /// Two agents and two machines that reach each other.
    ///
    /// # Errors
    /// When something cannot be made, or does not come about in time.
    pub fn running(lanes: Lanes) -> Result<Self> {
        let mut pair = Self::bare()?;
        pair.start(lanes)?;
        Ok(pair)
    }

    /// Two agents and two machines whose ports have the groups that `choose` gives them.
    ///
    /// # Errors
    /// When something cannot be made, or does not come about in time.
    pub fn with_groups(lanes: Lanes, choose: impl FnOnce(&mut Topology, &[Port; 2])) -> Result<Self> {
        let mut pair = Self::bare()?;
        choose(&mut pair.topology, &pair.ports);
        pair.topology.write(&pair.topology_file)?;
        pair.start_agents(lanes)?;
        pair.boot()?;
        pair.finish()?;
        Ok(pair)
    }

    /// Starts agents and machines, and waits until these reach each other.
    ///
    /// # Errors
    /// When something cannot be made, or does not come about in time.
    pub fn start(&mut self, lanes: Lanes) -> Result<()> {
        self.start_agents(lanes)?;
        self.boot()?;
        self.settle()
    }

    fn start_agents(&mut self, lanes: Lanes) -> Result<()> {
        for name in ["left", "right"] {
            let agent = self.lab.host(name).start_agent(&self.topology_file, lanes)?;
            self.agents.push(agent);
        }
        Ok(())
    }

    /// Starts the machines.
    ///
    /// # Errors
    /// When something cannot be made, or does not come about in time.
    pub fn boot(&mut self) -> Result<()> {
        for port in &self.ports {
            let machine = self.lab.host(&port.host).boot(self.lab.world(), port)?;
            self.machines.push(machine);
        }
        Ok(())
    }

    /// Waits until the machines reach each other and both hosts have nothing left to do.
    ///
    /// # Errors
    /// When something cannot be made, or does not come about in time.
    pub fn settle(&self) -> Result<()> {
        let [left, right] = &self.ports;
        self.machines[0].wait_for(right.ipv4())?;
        self.machines[1].wait_for(left.ipv6())?;
        self.finish()
    }

    /// Waits until both hosts have nothing left to do.
    ///
    /// # Errors
    /// When they have, for too long.
    pub fn finish(&self) -> Result<()> {
        HOSTS.iter().try_for_each(|(name, _)| nothing_to_do(self.host(name)))
    }

    /// Changes the topology and waits until it is in force.
    ///
    /// # Errors
    /// When it cannot be written, or does not come into force in time.
    pub fn change(&mut self, change: impl FnOnce(&mut Topology)) -> Result<()> {
        change(&mut self.topology);
        self.topology.write(&self.topology_file)?;
        self.finish()
    }

    /// Where files go.
    pub fn folder(&self) -> &Path {
        self.lab.world().folder()
    }

    /// A host by name.
    pub fn host(&self, name: &str) -> &Host {
        self.lab.host(name)
    }

    /// The machine on the left host.
    pub fn left(&self) -> &Machine {
        &self.machines[0]
    }

    /// The machine on the right host.
    pub fn right(&self) -> &Machine {
        &self.machines[1]
    }

    /// Both machines ping each other, IPv4 and IPv6, without a loss.
    ///
    /// # Errors
    /// When something cannot be made, or does not come about in time.
    pub fn ping_all(&self, count: u32) -> Result<()> {
        let [left, right] = &self.ports;
        for address in [right.ipv4(), right.ipv6()] {
            self.left().ping(address, count)?;
        }
        for address in [left.ipv4(), left.ipv6()] {
            self.right().ping(address, count)?;
        }
        Ok(())
    }

    /// Makes what the Linux bridge agent leaves on a host: bridge, vxlan device, static entries, taps in the bridge.
    ///
    /// # Errors
    /// When the devices cannot be made.
    pub fn set_up_like_the_linux_bridge_agent(&self, index: usize) -> Result<()> {
        self.set_up_ports_like_the_linux_bridge_agent(index, &self.ports)
    }

    /// As `set_up_like_the_linux_bridge_agent`, for these ports, whose taps are there.
    ///
    /// # Errors
    /// When the devices cannot be made.
    pub fn set_up_ports_like_the_linux_bridge_agent(&self, index: usize, ports: &[Port]) -> Result<()> {
        let (host, bridge, remote) = (self.host(HOSTS[index].0), self.network.bridge(), HOSTS[1 - index].1);
        let (local, others): (Vec<&Port>, Vec<&Port>) = ports.iter().partition(|port| port.host == host.name);
        host.run(&format!("ip link add name {bridge} type bridge forward_delay 0 stp_state 0"))?;
        host.run(&format!("ip link add vxlan-10 type vxlan id 10 local {} dev {UPLINK} dstport 4789", host.local_ip))?;
        host.run(&format!("bridge fdb append 00:00:00:00:00:00 dev vxlan-10 dst {remote}"))?;
        for other in others {
            host.run(&format!("bridge fdb add {} dev vxlan-10 dst {remote}", other.mac_address))?;
        }
        for device in local.iter().map(|port| port.tap()).chain(["vxlan-10".to_owned()]) {
            host.run(&format!("ip link set {device} mtu 1450 master {bridge} up"))?;
        }
        host.run(&format!("ip link set {bridge} up"))?;
        Ok(())
    }
}

/// Expects that a port is blocked, and that the reason contains `why`.
///
/// # Errors
/// When it is not.
pub fn expect_blocked(host: &Host, port: &Port, why: &str) -> Result<()> {
    let rows = host.show("ports")?;
    let row = rows.iter().find(|row| row["port_id"] == port.id.as_str()).context("a row for the port")?;
    let has_reason = row["reason"].as_str().is_some_and(|reason| reason.contains(why));
    anyhow::ensure!(row["state"] == "blocked" && has_reason, "{row}");
    Ok(())
}

/// Waits until an agent has done everything.
///
/// # Errors
/// When it has not in time, with what is still to do and what the agent says.
pub fn nothing_to_do(host: &Host) -> Result<()> {
    let settled = wait_until(&format!("{} has nothing left to do", host.name), || {
        let plan = host.overlane("plan")?;
        anyhow::ensure!(plan.starts_with("Nothing to do."), "still to do:\n{plan}");
        Ok(true)
    });
    settled.with_context(|| format!("what its agent has said last:\n{}", host.last_words_of_agent()))
}
