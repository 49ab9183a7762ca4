//! Programs that run in the background for as long as somebody holds on to them.

use std::{
    fs::{self, File},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result};
use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    unistd::Pid,
};

/// A program in the background. Dropping it kills it, unless it is to stay.
pub struct Process {
    child: Child,
    output: PathBuf,
    stays: bool,
}

impl Process {
    /// Starts a program whose output, both streams, goes to the file `output`. Unless it `stays`, it dies with the thread
    /// that started it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command, output: &Path, stays: bool) -> Result<Self> {
        let file = File::create(output).with_context(|| format!("creating {}", output.display()))?;
        let same_file = file.try_clone().context("sharing an output file")?;
        if stays {
            // Away from the terminal's Ctrl-C.
            command.process_group(0);
        } else {
            // SAFETY: prctl is async-signal-safe and touches no memory of the parent.
            unsafe { command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into)) };
        }
        command.stdin(Stdio::null()).stdout(file).stderr(same_file);
        let child = command.spawn().with_context(|| format!("starting {:?}", command.get_program()))?;
        Ok(Self { child, output: output.to_owned(), stays })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn output(&self) -> Result<String> {
        fs::read_to_string(&self.output).with_context(|| format!("reading {}", self.output.display()))
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// When the kernel will not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("waiting for a program")
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn end_by(&mut self, signal: Signal) -> Result<ExitStatus> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).context("a process id")?);
        kill(pid, signal).context("sending a signal")?;
        self.child.wait().context("waiting for a program")
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When the kernel will not say.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().context("waiting for a program")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.stays && self.child.kill().is_ok() {
            let _ = self.child.wait();
        }
    }
}

/// How a program ended, for messages.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    }
}
