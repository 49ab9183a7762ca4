//! A guest on the left host, and a machine on the right one.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use overlane_tests::{
    guest::{Guest, busybox},
    lab::{HOSTS, Lanes, Machine, Pair, Port, Process, Topology},
    wait::wait_until,
};

pub(crate) struct Bed {
    // Ends before the lab that it is in.
    pub(crate) guest: Guest,
    pub(crate) pair: Pair,
}

impl Bed {
    /// Both run, and the hosts have nothing left to do; the guest has no address yet. `change` changes the topology before that.
    pub(crate) fn new(lanes: Lanes, change: impl FnOnce(&mut Topology, &[Port; 2])) -> Result<Self> {
        let mut pair = Pair::bare()?;
        change(&mut pair.topology, &pair.ports);
        pair.topology.write(&pair.topology_file)?;
        for (name, _) in HOSTS {
            let agent = pair.host(name).start_agent(&pair.topology_file, lanes)?;
            pair.agents.push(agent);
        }
        let machine = pair.host("right").boot(pair.lab.world(), &pair.ports[1])?;
        pair.machines.push(machine);
        let guest = Guest::boot(pair.host("left"), &pair.ports[0])?;
        pair.finish()?;
        Ok(Self { guest, pair })
    }

    /// As `new`, and the guest has the addresses of its port and reaches the machine.
    pub(crate) fn configured(lanes: Lanes, change: impl FnOnce(&mut Topology, &[Port; 2])) -> Result<Self> {
        let bed = Self::new(lanes, change)?;
        bed.guest.configure(&bed.pair.ports[0])?;
        Ok(bed)
    }

    /// The machine on the other host.
    pub(crate) fn machine(&self) -> &Machine {
        &self.pair.machines[0]
    }

    /// Starts a program of busybox in the machine.
    pub(crate) fn start(&self, words: &str) -> Result<Process> {
        let name = words.split(' ').next().context("a program")?;
        let output = self.pair.folder().join(format!("{name}.log"));
        self.machine().namespace.start(&format!("{} {words}", busybox().display()), &output)
    }

    /// A folder that does not outlive the test.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.pair.folder().join(name);
        std::fs::create_dir_all(&folder).context("making a folder")?;
        Ok(folder)
    }

    /// Waits until something in the machine listens at a TCP port.
    pub(crate) fn wait_for_listener(&self, port: u16) -> Result<()> {
        wait_until(&format!("something listens at port {port}"), || {
            Ok(!self.machine().run(&format!("ss --listening --tcp --no-header sport = :{port}"))?.is_empty())
        })
    }
}
