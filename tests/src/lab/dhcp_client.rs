//! Machines that ask for their addresses, with busybox's udhcpc.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use anyhow::{Context as _, Result};

use super::{Host, Machine, Process, World};

const SCRIPT: &str = include_str!("dhcp_client.sh");
/// What is asked for besides what udhcpc asks for anyway: classless static routes, and the MTU.
const OPTIONS: &str = "-O 121 -O mtu -O hostname -O domain -O dns -O router";

/// What a server has given, by udhcpc's names: `ip`, `mask`, `router`, `dns`, `staticroutes`, `mtu`, …
pub type Lease = BTreeMap<String, String>;

impl Machine {
    /// Makes its tap on `host` and the interface behind it, which has no address yet.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn power_on_without_addresses(&self, host: &Host) -> Result<()> {
        let (tap, mac, name) = (self.port.tap(), &self.port.mac_address, self.namespace.name());
        host.run(&format!("ip link add {tap} type veth peer name eth0 netns {name} address {mac}"))?;
        self.run("ip link set eth0 up")?;
        host.run(&format!("ip link set {tap} up")).map(drop)
    }

    /// Asks until it has a lease, takes what the server gives, and returns that.
    ///
    /// # Errors
    /// When no server answers.
    pub fn lease(&self, world: &World) -> Result<Lease> {
        let lease = self.lease_file(world);
        let _ = fs::remove_file(&lease);
        let mut command = self.namespace.command("busybox");
        command.args(self.client(world)?.split_whitespace()).args(["-q", "-n", "-t", "200"]).env("LEASE", &lease);
        self.namespace.execute(&mut command)?;
        let text = fs::read_to_string(&lease).context("reading the lease")?;
        let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(text.lines().filter_map(pair).collect())
    }

    /// As `lease`, in the background: it is renewed for as long as the result lives. SIGUSR1 has it renewed at once.
    ///
    /// # Errors
    /// When the client cannot be started.
    pub fn start_dhcp_client(&self, world: &World) -> Result<Process> {
        let output = world.folder().join(format!("udhcpc-{}.log", self.namespace.name()));
        let mut command = self.namespace.command("busybox");
        command
            .args(self.client(world)?.split_whitespace())
            .args(["-f", "-t", "200"])
            .env("LEASE", self.lease_file(world));
        Process::start(&mut command, &output, world.lasts())
    }

    fn client(&self, world: &World) -> Result<String> {
        let script = world.folder().join("dhcp_client.sh");
        if !script.exists() {
            // In one step: several machines ask at the same time.
            let partial = world.folder().join(format!("dhcp_client.{}", self.namespace.name()));
            fs::write(&partial, SCRIPT).context("writing a script")?;
            fs::set_permissions(&partial, fs::Permissions::from_mode(0o755)).context("making a script executable")?;
            fs::rename(&partial, &script).context("writing a script")?;
        }
        Ok(format!("udhcpc -i eth0 -T 1 -A 1 -s {} {OPTIONS}", script.display()))
    }

    fn lease_file(&self, world: &World) -> PathBuf {
        world.folder().join(format!("lease-{}", self.namespace.name()))
    }
}
