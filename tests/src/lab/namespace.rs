//! A named network namespace.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, setns};

use super::{Process, process::describe};

/// A network namespace, deleted when dropped unless it is to last.
pub struct Namespace {
    name: String,
    lasts: bool,
}

impl Namespace {
    pub(super) fn create(name: &str, lasts: bool) -> Result<Self> {
        execute(Command::new("ip").args(["netns", "add", name]))?;
        let namespace = Self { name: name.to_owned(), lasts };
        namespace.run("ip link set lo up")?;
        Ok(namespace)
    }

    /// As `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run inside. Not by `ip netns exec`, which hides the bpffs.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program.as_ref());
        command
    }

    /// Runs a command line, whose words are separated by white space, and returns what it prints.
    ///
    /// # Errors
    /// When it fails, with its words.
    pub fn run(&self, line: &str) -> Result<String> {
        execute(&mut self.parse(line)?).with_context(|| format!("in {}", self.name))
    }

    /// Runs a command on a thread that is inside, and returns what it prints.
    ///
    /// # Errors
    /// When it fails, with its words.
    pub fn execute(&self, command: &mut Command) -> Result<String> {
        self.inside(|| execute(command)).with_context(|| format!("in {}", self.name))
    }

    /// Starts a command line in the background; it dies with the result, or with the calling thread.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, line: &str, output: &Path) -> Result<Process> {
        Process::start(&mut self.parse(line)?, output, false)
    }

    fn parse(&self, line: &str) -> Result<Command> {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().context("an empty command line")?);
        command.args(words);
        Ok(command)
    }

    /// Calls `work` on a thread that is inside: what it opens stays inside.
    ///
    /// # Errors
    /// Those of `work`, or when the namespace cannot be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let namespace = File::open(self.path()).with_context(|| format!("opening namespace {}", self.name))?;
        let enter_and_work = || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).context("entering a namespace")?;
            work()
        };
        thread::scope(|scope| match scope.spawn(enter_and_work).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Sets a kernel parameter of the namespace, such as `net/ipv4/ip_forward`.
    ///
    /// # Errors
    /// When there is no such parameter.
    pub fn set_parameter(&self, name: &str, value: &str) -> Result<()> {
        self.inside(|| fs::write(Path::new("/proc/sys").join(name), value).with_context(|| format!("setting {name}")))
    }

    fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !self.lasts {
            let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
        }
    }
}

/// Runs a command to its end and returns what it prints.
pub(crate) fn execute(command: &mut Command) -> Result<String> {
    let line = format!("{command:?}").replace('"', "");
    let output = command.output().with_context(|| format!("running {line}"))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("{line}: {}\n{stdout}{stderr}", describe(output.status));
    }
    Ok(stdout.into_owned())
}
