//! DHCP servers of a network node: what clients get of them, and what becomes of both when something goes wrong.

mod changes;
mod clients;
mod faults;
mod hostile;
mod interrupted;
mod ipv6;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use overlane_tests::{
    lab::{Host, Lanes, Machine, Network, Pair, Port, Topology},
    wait::wait_for,
};

/// Two hosts, of which the left one is a network node with the DHCP server of their network. No machine runs yet.
struct Cloud {
    pair: Pair,
    /// Of the DHCP server.
    server: Port,
}

impl Cloud {
    fn running(lanes: Lanes) -> Result<Self> {
        Self::with(lanes, |_, _| ())
    }

    /// As `running`, with a topology that `change` has had its say about; it gets the network, too.
    fn with(lanes: Lanes, change: impl FnOnce(&mut Topology, &Network)) -> Result<Self> {
        let mut cloud = Self::prepare(change)?;
        cloud.start(lanes)?;
        Ok(cloud)
    }

    /// Everything but the agents.
    fn prepare(change: impl FnOnce(&mut Topology, &Network)) -> Result<Self> {
        let mut pair = Pair::bare()?;
        pair.topology.make_network_node("left");
        let server = pair.topology.add_dhcp(&pair.network, "left", 3);
        change(&mut pair.topology, &pair.network);
        pair.topology.write(&pair.topology_file)?;
        // What tests have changed of them.
        for port in &mut pair.ports {
            let known = pair.topology.ports.iter().find(|known| known.id == port.id);
            *port = known.context("a port of the topology")?.clone();
        }
        Ok(Self { pair, server })
    }

    fn start(&mut self, lanes: Lanes) -> Result<()> {
        for name in ["left", "right"] {
            let agent = self.pair.lab.host(name).start_agent(&self.pair.topology_file, lanes)?;
            self.pair.agents.push(agent);
        }
        Ok(())
    }

    fn node(&self) -> &Host {
        self.pair.host("left")
    }

    /// Starts a machine that knows nothing of its address.
    fn boot(&self, port: &Port) -> Result<Machine> {
        let machine = Machine::off(self.pair.lab.world(), &format!("vm-{}", &port.id[..11]), port)?;
        machine.power_on_without_addresses(self.pair.host(&port.host))?;
        Ok(machine)
    }

    /// The machines on the left host and on the right host.
    fn boot_both(&self) -> Result<[Machine; 2]> {
        let [left, right] = &self.pair.ports;
        Ok([self.boot(left)?, self.boot(right)?])
    }

    /// Asks for an address, and returns what else the server says.
    fn lease(&self, machine: &Machine) -> Result<std::collections::BTreeMap<String, String>> {
        machine.lease(self.pair.lab.world())
    }

    fn namespace(&self) -> String {
        format!("qdhcp-{}", self.pair.network.id)
    }

    /// The other end of the server's tap.
    fn link(&self) -> String {
        self.server.tap().replace("tap", "ns-")
    }

    /// A file of the server.
    fn file(&self, name: &str) -> PathBuf {
        self.node().folder().join("state/dhcp").join(&self.pair.network.id).join(name)
    }

    fn read(&self, name: &str) -> Result<String> {
        fs::read_to_string(self.file(name)).with_context(|| format!("reading {name}"))
    }

    /// The process id of the server, once it runs.
    fn pid(&self) -> Result<u64> {
        wait_for("dnsmasq runs", || Ok(self.node().show("dhcp")?[0]["pid"].as_u64()))
    }

    /// Runs a command line where the server is.
    fn inside(&self, line: &str) -> Result<String> {
        self.node().run(&format!("ip netns exec {} {line}", self.namespace()))
    }
}

/// What a lease says about something.
fn said<'a>(lease: &'a std::collections::BTreeMap<String, String>, name: &str) -> &'a str {
    lease.get(name).map_or("", String::as_str)
}

/// Compares, with a message that names both.
fn same<T: Copy + PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<()> {
    ensure!(found == expected, "{what}: found {found:?}, expected {expected:?}");
    Ok(())
}
