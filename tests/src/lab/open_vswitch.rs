//! Open vSwitch with its userspace datapath, from Debian packages that are unpacked and not installed. Benches measure against it.

use std::{
    env, fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{Host, Namespace, Process, UPLINK, execute};
use crate::wait::wait_until;

/// The bridge of the machines.
const INTEGRATION: &str = "br-int";
/// The bridge of the uplink, which has the underlay address: the userspace datapath finds the way to tunnel endpoints by it
/// (Open vSwitch's `Documentation/howto/userspace-tunneling.rst`).
const PHYSICAL: &str = "br-phy";

/// Where `cargo xtask bench datapath` has unpacked the packages, if it could.
pub fn root() -> Option<PathBuf> {
    env::var_os("OVERLANE_OPEN_VSWITCH_ROOT").map(PathBuf::from)
}

/// The real-time priority of the daemon: above that of what benches send with.
const PRIORITY: u8 = 2;

/// One host's switch: its database and its daemon. Both end when it is dropped, or with the thread that has started it.
pub struct OpenVSwitch {
    folder: PathBuf,
    programs: Programs,
    // The daemon ends before what it is connected to.
    daemon: Process,
    _database: Process,
}

/// What runs out of the packages: with their own loader and libraries, so that nothing depends on the machine's.
struct Programs {
    root: PathBuf,
    loader: PathBuf,
}

impl OpenVSwitch {
    /// Starts a switch without bridges; its files are in `folder`. All threads of its daemon stay on one CPU, and come before
    /// programs that take turns there.
    ///
    /// # Errors
    /// When a program does not start, with what it says.
    pub fn start(root: &Path, host: &Host, folder: &Path, cpu: usize) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let programs = Programs::find(root)?;
        let (database, socket) = (folder.join("conf.db"), folder.join("db.sock"));
        let schema = root.join("usr/share/openvswitch/vswitch.ovsschema");
        execute(programs.command("usr/bin/ovsdb-tool", folder).arg("create").args([&database, &schema]))?;
        let words = [format!("--remote=punix:{}", socket.display()), control(folder, "ovsdb-server")];
        let mut server = inside(&host.namespace, &[], &programs.command("usr/sbin/ovsdb-server", folder));
        let mut database =
            start(server.args(words).arg(&database), &folder.join("ovsdb-server.log"), || Ok(socket.exists()))?;
        let call = |words: &str| execute(programs.client(folder).arg("--no-wait").args(words.split_whitespace()));
        call("init")?;
        // One thread of each kind: there is one CPU.
        call("set Open_vSwitch . other_config:n-handler-threads=1 other_config:n-revalidator-threads=1")?;
        let place = ["taskset", "--cpu-list", &cpu.to_string(), "chrt", "--fifo", &PRIORITY.to_string()];
        // `/usr/sbin/ovs-vswitchd` is one of the alternatives that installing chooses from.
        let daemon = programs.command("usr/lib/openvswitch-switch/ovs-vswitchd", folder);
        let mut daemon = inside(&host.namespace, &place, &daemon);
        daemon.arg(format!("unix:{}", socket.display())).arg(control(folder, "ovs-vswitchd"));
        let up = folder.join("ovs-vswitchd.ctl");
        let daemon = start(&mut daemon, &folder.join("ovs-vswitchd.log"), || {
            if let Some(status) = database.ended()? {
                bail!("ovsdb-server has ended, {status}: {}", database.output()?);
            }
            Ok(up.exists())
        })?;
        Ok(Self { folder: folder.to_owned(), programs, daemon, _database: database })
    }

    /// Connects taps to a network whose other tunnel endpoint is `remote`. The host's underlay address moves from its uplink to the
    /// bridge of the uplink. Bridges learn, as they do by default, and forget nothing meanwhile.
    ///
    /// # Errors
    /// When something cannot be made, with what the switch says.
    pub fn connect(&self, host: &Host, taps: &[String], vni: u32, remote: IpAddr) -> Result<()> {
        const PATIENT: &str = "other_config:mac-aging-time=3600";
        host.run(&format!("ip address flush dev {UPLINK}"))?;
        let mut line = format!(
            "-- add-br {PHYSICAL} -- set Bridge {PHYSICAL} datapath_type=netdev {PATIENT} -- add-port {PHYSICAL} {UPLINK} \
             -- add-br {INTEGRATION} -- set Bridge {INTEGRATION} datapath_type=netdev {PATIENT} \
             -- add-port {INTEGRATION} vxlan -- set Interface vxlan type=vxlan options:remote_ip={remote} options:key={vni}"
        );
        for tap in taps {
            line += &format!(" -- add-port {INTEGRATION} {tap}");
        }
        execute(self.programs.client(&self.folder).args(line.split_whitespace()))?;
        for bridge in [PHYSICAL, INTEGRATION] {
            host.run(&format!("ip link set {bridge} up"))?;
        }
        host.run(&format!("ip address add {}/24 dev {PHYSICAL}", host.local_ip))?;
        wait_until("Open vSwitch knows the way to the other endpoint", || {
            Ok(self.ask(&format!("ovs/route/lookup {remote}"))?.contains(PHYSICAL))
        })?;
        // The neighbour itself is found when there is something for it.
        self.ask("tnl/neigh/aging 3600").map(drop)
    }

    /// Whether the thread that forwards comes first, as it does from the start, or shares its CPU with the most important of ordinary
    /// programs: for whom nothing would be left when there is more to forward than it can.
    ///
    /// # Errors
    /// When the daemon has ended.
    pub fn come_first(&self, is_first: bool) -> Result<()> {
        let pid = self.daemon.pid().to_string();
        let priority = PRIORITY.to_string();
        let policy = if is_first { ["--fifo", "--pid", &priority, &pid] } else { ["--other", "--pid", "0", &pid] };
        execute(Command::new("chrt").args(policy))?;
        execute(Command::new("renice").args(["--priority", "-20", "--pid", &pid])).map(drop)
    }

    /// Asks the daemon (`ovs-appctl`), and returns what it says.
    ///
    /// # Errors
    /// When it refuses.
    pub fn ask(&self, line: &str) -> Result<String> {
        let mut command = self.programs.command("usr/bin/ovs-appctl", &self.folder);
        command.arg("--target").arg(self.folder.join("ovs-vswitchd.ctl"));
        execute(command.args(line.split_whitespace()))
    }
}

impl Programs {
    fn find(root: &Path) -> Result<Self> {
        let libraries = fs::read_dir(root.join("usr/lib")).with_context(|| format!("reading {}", root.display()))?;
        let folders = libraries.filter_map(|entry| fs::read_dir(entry.ok()?.path()).ok());
        let mut files = folders.flatten().filter_map(|entry| Some(entry.ok()?.path()));
        let is_loader =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux"));
        let loader = files.find(is_loader).with_context(|| format!("no loader in {}", root.display()))?;
        Ok(Self { root: root.to_owned(), loader })
    }

    /// A program that keeps everything in `folder`.
    fn command(&self, program: &str, folder: &Path) -> Command {
        let mut command = Command::new(&self.loader);
        command.arg("--library-path").args(self.loader.parent()).arg(self.root.join(program));
        let places = ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"];
        command
            .envs(places.map(|place| (place, folder)))
            .env("OVS_PKGDATADIR", self.root.join("usr/share/openvswitch"));
        command
    }

    /// The client that changes the configuration, and waits until it is in force.
    fn client(&self, folder: &Path) -> Command {
        let mut command = self.command("usr/bin/ovs-vsctl", folder);
        command.arg(format!("--db=unix:{}", folder.join("db.sock").display())).arg("--timeout=20");
        command
    }
}

/// Where a program can be asked.
fn control(folder: &Path, program: &str) -> String {
    format!("--unixctl={}", folder.join(program).with_extension("ctl").display())
}

/// The same command inside a namespace, by way of other programs.
fn inside(namespace: &Namespace, by: &[&str], command: &Command) -> Command {
    let words = by.iter().map(|word| word.as_ref()).chain([command.get_program()]).chain(command.get_args());
    let words: Vec<_> = words.collect();
    let mut inner = namespace.command(words[0]);
    inner.args(&words[1..]).envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    inner
}

/// Starts a program, and waits until it `is_up`.
fn start(command: &mut Command, output: &Path, mut is_up: impl FnMut() -> Result<bool>) -> Result<Process> {
    let mut process = Process::start(command, output, false)?;
    wait_until(&format!("{} is up", output.display()), || {
        if let Some(status) = process.ended()? {
            bail!("it has ended, {status}: {}", process.output()?);
        }
        is_up()
    })?;
    Ok(process)
}
