//! A host that programs take for a machine of its own.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, setns, unshare};

use super::root;
use crate::{
    lab::{Namespace, Process, World, execute},
    wait::wait_until,
};

/// Where programs are looked for.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// What the kernel tells user space on every architecture that this runs on (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Makes the mounts, and then sleeps as process 1 whose children need no burial. The host's `/run` is a folder of the
/// world's, and contains the world's folder under its own name, so that paths of files are the same everywhere. Neutron's
/// root sees the same `/dev`, `/proc`, `/run` and `/sys`, and is read-only besides.
const INIT: &str = r#"
set -eu
name=$1 world=$2 folder=$3 root=$4
hostname "$name"
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
run=$folder/run
mkdir -p "$run/lock" "$run/netns" "$run/${world#/run/}"
mount --bind "$world" "$run/${world#/run/}"
mount --rbind "$run" /run
mount --make-shared /run
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
for place in dev proc run sys; do mount --rbind "/$place" "$root/$place"; done
mount -t tmpfs tmpfs "$root/tmp"
touch "$folder/ready"
trap '' CHLD
exec sleep infinity
"#;

/// A host with mounts, processes, network and host name of its own. What runs in it ends with it; it ends when it is
/// dropped, or with the thread that has made it.
pub struct Container {
    name: String,
    folder: PathBuf,
    logs: PathBuf,
    init: u32,
    // Dropped, it takes process 1 along, and that one everything else.
    _unshare: Process,
}

impl Container {
    /// Makes a host of a network namespace; `folder` is for its files.
    ///
    /// # Errors
    /// Without root, or when a mount fails.
    pub fn start(world: &World, namespace: &Namespace, name: &str) -> Result<Self> {
        let folder = world.folder().join(name);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let logs = logs(name)?;
        let mut command = namespace.command("unshare");
        command.args([
            "--mount",
            "--pid",
            "--uts",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation",
            "private",
        ]);
        command.args(["/bin/sh", "-c", INIT, "init", name]).args([world.folder(), &folder, &root()]).env("PATH", PATH);
        let mut unshare = Process::start(&mut command, &logs.join("init.log"), false)?;
        wait_until(&format!("{name} is up"), || {
            if let Some(status) = unshare.ended()? {
                bail!("its mounts cannot be made, {status}: {}", unshare.output()?);
            }
            Ok(folder.join("ready").exists())
        })?;
        let pid = unshare.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).context("finding process 1")?;
        let init = children.trim().parse().with_context(|| format!("finding process 1 in {children:?}"))?;
        Ok(Self { name: name.to_owned(), folder, logs, init, _unshare: unshare })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its files; the path is the same inside and outside.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs a command line, whose words are separated by white space, and returns what it prints.
    ///
    /// # Errors
    /// When it fails, with its words.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().context("an empty command line")?);
        self.execute(command.args(words).env("PATH", PATH))
    }

    /// Runs a command and returns what it prints.
    ///
    /// # Errors
    /// When it fails, with its words.
    pub fn execute(&self, command: &mut Command) -> Result<String> {
        self.inside(|| execute(command)).with_context(|| format!("on {}", self.name))
    }

    /// Starts a program in the background; its output goes to `NAME.log`, below `target/neutron-logs`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_program(&self, name: &str, command: &mut Command) -> Result<Process> {
        let output = self.logs.join(format!("{name}.log"));
        // The host ends it: the thread that enters the host is gone at once.
        self.inside(|| Process::start(command, &output, true)).with_context(|| format!("on {}", self.name))
    }

    /// The resident memory of all that runs here.
    ///
    /// # Errors
    /// When the kernel will not say.
    pub fn resident_bytes(&self) -> Result<u64> {
        // Process 1 only sleeps.
        let kibibytes = self.execute(in_root("ps").args(["-e", "-o", "pid=,rss="]))?;
        let own = kibibytes.lines().filter_map(|line| line.split_whitespace().collect::<Vec<_>>().try_into().ok());
        let own = own.filter(|[pid, _]: &[&str; 2]| *pid != "1");
        Ok(own.filter_map(|[_, resident]| resident.parse::<u64>().ok()).sum::<u64>() * 1024)
    }

    /// The CPU time that all that runs here has used so far, in seconds; what has ended does not count.
    ///
    /// # Errors
    /// When the kernel will not say.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let ticks = self.inside(|| {
            let processes = fs::read_dir("/proc").context("listing processes")?.filter_map(Result::ok);
            // One that has ended meanwhile has no times any more.
            let times = processes.filter_map(|process| fs::read_to_string(process.path().join("stat")).ok());
            Ok(times.filter_map(|stat| ticks_of(&stat)).sum::<u64>())
        })?;
        Ok(ticks as f64 / TICKS_PER_SECOND)
    }

    /// Calls `work` on a thread that is inside, except that its own process id is of the outside.
    ///
    /// # Errors
    /// Those of `work`, or when the host has ended.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let open = |kind: &str| {
            let path = format!("/proc/{}/ns/{kind}", self.init);
            File::open(&path).with_context(|| format!("opening {path}"))
        };
        let namespaces = [
            (open("net")?, CloneFlags::CLONE_NEWNET),
            (open("uts")?, CloneFlags::CLONE_NEWUTS),
            (open("pid")?, CloneFlags::CLONE_NEWPID),
            (open("mnt")?, CloneFlags::CLONE_NEWNS),
        ];
        let enter_and_work = || {
            // A thread that shares its working directory with others cannot change its mounts.
            unshare(CloneFlags::CLONE_FS).context("leaving the common working directory")?;
            for (namespace, kind) in &namespaces {
                setns(namespace, *kind).context("entering a host")?;
            }
            work()
        };
        thread::scope(|scope| match scope.spawn(enter_and_work).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

/// User and system time of a process (`proc_pid_stat(5)`, fields 14 and 15), in ticks. Its name may hold anything.
fn ticks_of(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// A folder for what the programs of one host say. It outlasts the host: when a test fails, it is what there is to read.
fn logs(name: &str) -> Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let logs = root().with_file_name("neutron-logs").join(format!("{}-{count}-{name}", process::id()));
    fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
    Ok(logs)
}

/// A program of the root that Neutron is unpacked in; it finds the host's `/run` there, and with it the host's folder, but
/// nothing of the caller's environment.
pub fn in_root(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("chroot");
    command.arg(root()).arg(program).env_clear().env("PATH", PATH).env("HOME", "/root").env("LANG", "C.UTF-8");
    command
}
