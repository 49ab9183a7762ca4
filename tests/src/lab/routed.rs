//! What tests of routers start from: a network node, a compute node, and an "internet" behind an external network.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{
    Agent, BY_INTERFACE, Host, Lab, Lanes, Machine, Namespace, Network, OUTSIDE, Port, Router, Topology, nothing_to_do,
};
use crate::wait::wait_until;

/// The last number of the gateway's addresses in the external network, and of who is beyond.
const GATEWAY: u8 = 151;
const BEYOND: u8 = 254;
/// Numbers of networks: two of machines, and the external one.
const INSIDE: [u8; 2] = [10, 20];
const EXTERNAL: u8 = 50;

/// A router with two networks of machines and a gateway.
pub struct Routed {
    // Agents and machines end before the lab that they are in.
    /// On the network node, on the compute node.
    pub agents: Vec<Agent>,
    /// One in each network of machines, both on the compute node.
    pub machines: Vec<Machine>,
    /// Who is outside.
    pub internet: Namespace,
    /// The hosts, `node` and `compute`.
    pub lab: Lab,
    /// What the hosts are told.
    pub topology: Topology,
    /// Where they are told.
    pub topology_file: PathBuf,
    /// The networks of machines.
    pub inside: [Network; 2],
    /// The external network.
    pub external: Network,
    /// The router.
    pub router: Router,
    /// One in each network of machines.
    pub ports: [Port; 2],
}

impl Routed {
    /// The hosts and the outside, with nothing running.
    ///
    /// # Errors
    /// When something cannot be made.
    pub fn bare() -> Result<Self> {
        Self::bare_on(&["node"])
    }

    /// As `bare`, with a router that is on several network nodes; the compute node is the last of the hosts.
    ///
    /// # Errors
    /// When something cannot be made.
    pub fn bare_on(nodes: &[&str]) -> Result<Self> {
        let addresses: Vec<String> = (0..=nodes.len()).map(|number| format!("10.10.10.{}", 10 + number)).collect();
        let names = nodes.iter().copied().chain(["compute"]);
        let hosts: Vec<(&str, &str)> = names.zip(addresses.iter().map(String::as_str)).collect();
        let lab = Lab::new(&hosts)?;
        lab.wire()?;
        if nodes.len() > 1 {
            nodes.iter().try_for_each(|node| lab.host(node).keep_names_apart())?;
        }
        let internet = lab.world().namespace("internet")?;
        internet.run(&format!("ip link add eth0 type veth peer name to-internet netns {}", lab.fabric().name()))?;
        internet.run("ip link set eth0 up")?;
        lab.fabric().run(&format!("ip link set to-internet master {OUTSIDE} up"))?;
        internet.run(&format!("ip address add 10.0.{EXTERNAL}.{BEYOND}/24 dev eth0"))?;
        internet.run(&format!("ip address add fd00:{EXTERNAL}::{BEYOND}/64 dev eth0 nodad"))?;
        let mut topology = Topology::of(lab.hosts());
        nodes.iter().for_each(|node| topology.make_network_node(node));
        let inside = INSIDE.map(|number| topology.add_network(number));
        let external = topology.add_flat_network(EXTERNAL, "provider");
        let router = topology.add_router(1, nodes);
        for network in &inside {
            topology.add_interface(&router, network);
        }
        topology.add_gateway(&router, &external, GATEWAY, BEYOND);
        let ports =
            [(&inside[0], 21), (&inside[1], 22)].map(|(network, number)| topology.add_port(network, "compute", number));
        // IPv6 is routed: the outside must know the way back.
        for number in INSIDE {
            internet.run(&format!("ip route add fd00:{number}::/64 via fd00:{EXTERNAL}::{GATEWAY}"))?;
        }
        let topology_file = lab.world().folder().join("topology.toml");
        let (agents, machines) = (Vec::new(), Vec::new());
        Ok(Self { agents, machines, internet, lab, topology, topology_file, inside, external, router, ports })
    }

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
    pub fn running_with(prepare: impl FnOnce(&mut Self) -> Result<()>) -> Result<Self> {
        Self::running_on(&["node"], prepare)
    }

    /// As `running_with`, with a router that is on these network nodes.
    ///
    /// # Errors
    /// As for `running`.
    pub fn running_on(nodes: &[&str], prepare: impl FnOnce(&mut Self) -> Result<()>) -> Result<Self> {
        let mut routed = Self::bare_on(nodes)?;
        prepare(&mut routed)?;
        routed.start()?;
        routed.machines[0].wait_for(routed.ports[1].ipv4())?;
        routed.machines[1].wait_for(routed.outside())?;
        routed.settle()?;
        Ok(routed)
    }

    /// Starts agents and machines, and waits for nothing else.
    ///
    /// # Errors
    /// When something cannot be made.
    pub fn start(&mut self) -> Result<()> {
        self.topology.write(&self.topology_file)?;
        for host in self.lab.hosts() {
            host.add_config(BY_INTERFACE);
            self.agents.push(host.start_agent(&self.topology_file, Lanes::Both)?);
        }
        for port in &self.ports.clone() {
            let machine = self.boot(port)?;
            self.machines.push(machine);
        }
        Ok(())
    }

    /// Starts a machine whose default routes lead to the router.
    ///
    /// # Errors
    /// When something cannot be made.
    pub fn boot(&self, port: &Port) -> Result<Machine> {
        let machine = self.lab.host(&port.host).boot(self.lab.world(), port)?;
        for address in [port.ipv4(), port.ipv6()] {
            let (network, separator) = match address.rsplit_once("::") {
                Some((network, _)) => (network, "::"),
                None => (address.rsplit_once('.').expect("an IPv4 address").0, "."),
            };
            machine.run(&format!("ip route add default via {network}{separator}1"))?;
        }
        Ok(machine)
    }

    /// The network node.
    pub fn node(&self) -> &Host {
        self.lab.host("node")
    }

    /// The router's namespace.
    pub fn namespace(&self) -> String {
        format!("qrouter-{}", self.router.id)
    }

    /// Runs a command line in the router's namespace.
    ///
    /// # Errors
    /// When it fails.
    pub fn in_router(&self, line: &str) -> Result<String> {
        self.node().run_in(&self.namespace(), line)
    }

    /// The address of who is outside.
    pub fn outside(&self) -> &'static str {
        "10.0.50.254"
    }

    /// The same, of IPv6.
    pub fn outside_ipv6(&self) -> &'static str {
        "fd00:50::254"
    }

    /// The gateway's address.
    pub fn gateway(&self) -> &'static str {
        "10.0.50.151"
    }

    /// Where files go.
    pub fn folder(&self) -> &Path {
        self.lab.world().folder()
    }

    /// Changes the topology and waits until it is in force.
    ///
    /// # Errors
    /// When it cannot be written, or does not come into force in time.
    pub fn change(&mut self, change: impl FnOnce(&mut Topology)) -> Result<()> {
        change(&mut self.topology);
        self.topology.write(&self.topology_file)?;
        self.settle()
    }

    /// Waits until both hosts have nothing left to do.
    ///
    /// # Errors
    /// When they have, for too long.
    pub fn settle(&self) -> Result<()> {
        self.lab.hosts().iter().try_for_each(nothing_to_do)
    }

    /// Waits until pings from `namespace` to `address` are answered.
    ///
    /// # Errors
    /// When none is in time.
    pub fn wait_for(&self, namespace: &Namespace, address: &str) -> Result<()> {
        let ping = format!("ping -n -c 1 -W 1 {address}");
        wait_until(&format!("{address} answers {}", namespace.name()), || Ok(namespace.run(&ping).is_ok()))
    }
}
