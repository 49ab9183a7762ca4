//! A host, and the machines on it.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use anyhow::{Context as _, Result};
use aya::{
    Pod,
    maps::{HashMap, Map, MapData},
    programs::{SchedClassifier, TcAttachType},
};
use overlane_abi::ABI_VERSION;
use serde_json::Value;

use super::{Agent, Lanes, Namespace, Port, Process, World, execute, overlane_binary};
use crate::wait::wait_until;

/// A host: a namespace with an uplink, and a folder with its configuration.
pub struct Host {
    /// What the topology calls it.
    pub name: String,
    /// Its tunnel endpoint.
    pub local_ip: IpAddr,
    /// Where its devices are.
    pub namespace: Namespace,
    folder: PathBuf,
    bpffs: PathBuf,
    lasts: bool,
    more_config: Mutex<String>,
    /// Who keeps the names of namespaces that only this host has.
    names: Mutex<Option<Process>>,
}

impl Host {
    pub(super) fn new(world: &World, name: &str, local_ip: IpAddr) -> Result<Self> {
        let folder = world.folder().join(name);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let namespace = world.namespace(name)?;
        Ok(Self {
            name: name.to_owned(),
            local_ip,
            namespace,
            folder,
            bpffs: world.bpffs(name),
            lasts: world.lasts(),
            more_config: Mutex::default(),
            names: Mutex::default(),
        })
    }

    /// Runs a command line on the host.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(&self, line: &str) -> Result<String> {
        self.namespace.run(line)
    }

    /// Its configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.folder.join("overlane.conf")
    }

    /// Its files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where its maps and programs are pinned.
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// Where an agent of this version pins its maps; its links are in `links` there.
    pub fn pins(&self) -> PathBuf {
        self.bpffs.join(format!("v{ABI_VERSION}"))
    }

    /// Where an agent of an older version would.
    pub fn older_pins(&self) -> PathBuf {
        self.bpffs.join("v0")
    }

    /// Makes what a stopped agent has pinned look like an older version's. To the agent that starts next, this is what one
    /// with another layout of the maps has left: programs that are attached, and maps that it must not read.
    ///
    /// # Errors
    /// When nothing is pinned.
    pub fn pretend_to_be_older(&self) -> Result<()> {
        fs::rename(self.pins(), self.older_pins()).context("making an old version")
    }

    /// Whether it stays when the program that made it ends.
    pub fn lasts(&self) -> bool {
        self.lasts
    }

    /// Gives the host names of namespaces of its own, as another machine has: else the hosts of a world share them, and two cannot
    /// have the same.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn keep_names_apart(&self) -> Result<()> {
        let mut keeper = self.namespace.command("unshare");
        let script = "mount -t tmpfs netns /run/netns && echo ready && exec sleep infinity";
        keeper.args(["--mount", "--propagation", "private", "sh", "-c", script]);
        let keeper = Process::start(&mut keeper, &self.folder.join("names.log"), self.lasts)?;
        wait_until("the names are apart", || Ok(keeper.output()?.contains("ready")))?;
        *self.names.lock().expect("nobody panics with it") = Some(keeper);
        Ok(())
    }

    /// A command that runs `program` as a host's agent runs: with the names of namespaces that it has.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let names = self.names.lock().expect("nobody panics with it");
        let Some(keeper) = names.as_ref() else { return self.namespace.command(program) };
        let mut command = self.namespace.command("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", keeper.pid())).arg("--").arg(program.as_ref());
        command
    }

    /// Runs a command line in a namespace that the host's agent has made.
    ///
    /// # Errors
    /// When it fails.
    pub fn run_in(&self, namespace: &str, line: &str) -> Result<String> {
        let mut command = self.command("nsenter");
        command.arg(format!("--net=/run/netns/{namespace}")).args(line.split_whitespace());
        execute(&mut command).with_context(|| format!("in {namespace} on {}", self.name))
    }

    /// Adds lines to the configuration that is written from now on; they begin in section `[overlane]`.
    pub fn add_config(&self, lines: &str) {
        self.more_config.lock().expect("nobody panics with it").push_str(lines);
    }

    /// Writes the configuration.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configure(&self, topology: &Path, lanes: Lanes) -> Result<()> {
        let more_config = self.more_config.lock().expect("nobody panics with it");
        let text = lanes.render(self, topology) + &more_config;
        fs::write(self.config_file(), text).context("writing a configuration")
    }

    /// Starts the agent and waits until it is ready.
    ///
    /// # Errors
    /// When it cannot be started or gives up, with its log.
    pub fn start_agent(&self, topology: &Path, lanes: Lanes) -> Result<Agent> {
        self.configure(topology, lanes)?;
        Agent::start(self)
    }

    /// The end of what its agent has logged, for messages.
    pub(super) fn last_words_of_agent(&self) -> String {
        const LINES: usize = 20;
        let log = fs::read_to_string(self.folder.join("agent.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// Runs `overlane` with `words`, and the configuration file of this host, and returns what it prints.
    ///
    /// # Errors
    /// When it fails.
    pub fn overlane(&self, words: &str) -> Result<String> {
        let mut command = self.command(overlane_binary());
        command.args(words.split_whitespace()).arg("--config-file").arg(self.config_file());
        execute(&mut command).with_context(|| format!("on {}", self.name))
    }

    /// The names of the programs at the tcx hooks of a device, as the kernel lists them.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn attached(&self, device: &str) -> Result<Vec<String>> {
        let query = |side| {
            SchedClassifier::query_tcx(device, side).with_context(|| format!("asking for the programs of {device}"))
        };
        self.namespace.inside(|| {
            let (_, ingress) = query(TcAttachType::Ingress)?;
            let (_, egress) = query(TcAttachType::Egress)?;
            let programs = ingress.iter().chain(&egress);
            Ok(programs.filter_map(|program| program.name_as_str().map(str::to_owned)).collect())
        })
    }

    /// A hash map that its agent has pinned.
    ///
    /// # Errors
    /// When there is none, or it has other types.
    pub fn map<K: Pod, V: Pod>(&self, name: &str) -> Result<HashMap<MapData, K, V>> {
        let data = MapData::from_pin(self.pins().join(name)).with_context(|| format!("opening the map {name}"))?;
        Map::from_map_data(data)?.try_into().with_context(|| format!("the types of the map {name}"))
    }

    /// The rows of `overlane show`.
    ///
    /// # Errors
    /// When it fails.
    pub fn show(&self, subject: &str) -> Result<Vec<Value>> {
        let text = self.overlane(&format!("show {subject} --output json"))?;
        serde_json::from_str(&text).context("reading JSON")
    }

    /// Packets with an outcome, as `overlane show counters` has them; `interface` may be the beginning of a name.
    ///
    /// # Errors
    /// When it fails.
    pub fn counted(&self, program: &str, interface: &str, outcome: &str) -> Result<u64> {
        let rows = self.show("counters")?;
        let is_meant = |row: &&Value| {
            row["program"] == program && row["interface"].as_str().is_some_and(|name| name.starts_with(interface))
        };
        Ok(rows.iter().filter(is_meant).filter_map(|row| row["outcomes"][outcome].as_u64()).sum())
    }

    /// Starts a machine on a port of this host: a namespace whose `eth0` is the other end of the tap.
    ///
    /// # Errors
    /// When namespace or devices cannot be made.
    pub fn boot(&self, world: &World, port: &Port) -> Result<Machine> {
        let machine = Machine::off(world, &format!("vm-{}", &port.id[..11]), port)?;
        machine.power_on(self)?;
        Ok(machine)
    }

    /// Makes the tap of a port, sets it up, and gives its other end, `interface` of `inside`, the port's addresses.
    ///
    /// # Errors
    /// When the devices cannot be made.
    pub fn plug(&self, inside: &Namespace, port: &Port, interface: &str) -> Result<()> {
        self.make_tap(inside, port, interface)?;
        self.run(&format!("ip link set {} up", port.tap())).map(drop)
    }

    /// As `plug`, but the tap stays down: whoever makes it for a machine has more to do with it.
    ///
    /// # Errors
    /// When the devices cannot be made.
    pub fn make_tap(&self, inside: &Namespace, port: &Port, interface: &str) -> Result<()> {
        let (tap, mac, name) = (port.tap(), &port.mac_address, inside.name());
        self.run(&format!("ip link add {tap} type veth peer name {interface} netns {name} address {mac}"))?;
        // The room that the tunnel leaves: a guest learns it by DHCP.
        inside.run(&format!("ip link set {interface} mtu 1450 up"))?;
        for address in &port.fixed_ips {
            let (prefix_len, nodad) = if address.contains(':') { (64, "nodad") } else { (24, "") };
            inside.run(&format!("ip address add {address}/{prefix_len} dev {interface} {nodad}"))?;
        }
        Ok(())
    }
}

/// A machine: a namespace with one network interface, `eth0`.
pub struct Machine {
    /// Its inside.
    pub namespace: Namespace,
    /// Its port.
    pub port: Port,
}

impl Machine {
    /// A machine that has no interface yet.
    ///
    /// # Errors
    /// When the namespace cannot be made.
    pub fn off(world: &World, name: &str, port: &Port) -> Result<Self> {
        Ok(Self { namespace: world.namespace(name)?, port: port.clone() })
    }

    /// Makes its tap on `host` and the interface behind it.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn power_on(&self, host: &Host) -> Result<()> {
        host.plug(&self.namespace, &self.port, "eth0")
    }

    /// Runs a command line in the machine.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(&self, line: &str) -> Result<String> {
        self.namespace.run(line)
    }

    /// Waits until `address` answers.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_for(&self, address: &str) -> Result<()> {
        let ping = format!("ping -c 1 -W 1 {address}");
        wait_until(&format!("{} reaches {address}", self.namespace.name()), || self.run(&ping).map(|_| true))
    }

    /// Sends `count` pings, and fails when one is lost.
    ///
    /// # Errors
    /// When one is lost.
    pub fn ping(&self, address: &str, count: u32) -> Result<()> {
        self.namespace.ping(address, count).map(drop)
    }

    /// Starts an iperf3 server that serves one client.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub fn serve_iperf(&self, folder: &Path) -> Result<Process> {
        let output = folder.join(format!("iperf3-{}.log", self.namespace.name()));
        let mut server = self.namespace.start("iperf3 --server --one-off --forceflush", &output)?;
        wait_until("iperf3 listens", || {
            anyhow::ensure!(server.ended()?.is_none(), "iperf3 has ended: {}", server.output()?);
            Ok(server.output()?.contains("Server listening"))
        })?;
        Ok(server)
    }

    /// Sends TCP to a server for a while and returns the throughput in bits per second, as received.
    ///
    /// # Errors
    /// When iperf3 fails.
    pub fn iperf(&self, address: &str, secs: u32) -> Result<f64> {
        let output = self.run(&format!("iperf3 --client {address} --time {secs} --json --connect-timeout 5000"))?;
        let report: Value = serde_json::from_str(&output).context("reading iperf3's report")?;
        report["end"]["sum_received"]["bits_per_second"].as_f64().context("finding the throughput in iperf3's report")
    }
}
