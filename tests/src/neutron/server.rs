//! The server: the database, and `neutron-server` on it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::{
    container::{Container, in_root},
    files, root,
};
use crate::{lab::Process, wait::wait_until};

/// Runs a change when the module that it is for has been loaded.
const CHANGE_HOOK: &str = include_str!("change.py");

/// What makes a server an older or newer one, or one with broken data or a wrong clock: Python that is run in the real server,
/// and knows the module that it changes as `module`.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// The module's full name.
    pub module: &'static str,
    /// The code.
    pub code: &'static str,
}

/// `neutron-server`, and the database that it keeps everything in.
pub struct Server {
    host: Arc<Container>,
    process: Mutex<Process>,
    _database: Process,
}

impl Server {
    /// Starts both, and returns before the server is ready.
    ///
    /// # Errors
    /// When one of them cannot be started.
    pub(super) fn launch(host: &Arc<Container>) -> Result<Self> {
        files::write_common(host.folder(), host.name())?;
        files::write_server(host.folder())?;
        let database = start_database(host)?;
        Ok(Self { process: Mutex::new(spawn(host, None)?), host: host.clone(), _database: database })
    }

    /// What it has logged since it was started.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        self.process().output()
    }

    /// Whether it has ended by itself.
    ///
    /// # Errors
    /// When it has, with the end of its log.
    pub fn expect_running(&self) -> Result<()> {
        let ended = self.process().ended()?;
        ensure!(ended.is_none(), "neutron-server has ended: {}", self.log()?);
        Ok(())
    }

    /// Stops it by a signal; the database goes on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn stop(&self, signal: Signal) -> Result<()> {
        self.process().end_by(signal).map(drop)
    }

    /// Starts it again after `stop`, without waiting.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_again(&self) -> Result<()> {
        *self.process() = spawn(&self.host, None)?;
        Ok(())
    }

    /// As `start_again`, as a server of another kind.
    ///
    /// # Errors
    /// As for `start_again`.
    pub fn start_changed(&self, change: &Change) -> Result<()> {
        let folder = self.host.folder().join("change");
        fs::create_dir_all(&folder).context("making a folder for a change")?;
        let hook = CHANGE_HOOK.replace("MODULE", change.module);
        for (name, text) in [("sitecustomize.py", hook.as_str()), ("change.py", change.code)] {
            fs::write(folder.join(name), text).with_context(|| format!("writing {name}"))?;
        }
        *self.process() = spawn(&self.host, Some(&folder))?;
        Ok(())
    }

    /// Asks the database, which costs the server nothing: rows of text, columns separated by tabs.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn query(&self, statement: &str) -> Result<String> {
        let mut command = in_root("mariadb");
        command.arg("--no-defaults").arg(format!("--socket={}", socket(&self.host).display()));
        command.args(["--batch", "--skip-column-names", "--execute", statement, "neutron"]);
        self.host.execute(&mut command)
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn socket(host: &Container) -> PathBuf {
    host.folder().join("mysql.sock")
}

fn spawn(host: &Container, modules: Option<&Path>) -> Result<Process> {
    let mut command = in_root("neutron-server");
    command.envs(modules.map(|folder| ("PYTHONPATH", folder)));
    for file in ["neutron.conf", "ml2_conf.ini", "server.conf"] {
        command.arg("--config-file").arg(host.folder().join(file));
    }
    host.start_program("neutron-server", &mut command)
}

/// Starts the database on a copy of the one that is prepared in the root, and waits until it answers.
fn start_database(host: &Container) -> Result<Process> {
    let (data, socket) = (host.folder().join("mysql"), socket(host));
    host.run(&format!("cp -r {}/var/lib/overlane/mysql {}", root().display(), data.display()))?;
    let mut command = in_root("mariadbd");
    command
        .args(["--no-defaults", "--user=root", "--skip-networking", "--innodb-flush-log-at-trx-commit=0"])
        .args(["--innodb-buffer-pool-size=64M", "--performance-schema=off"])
        .arg(format!("--datadir={}", data.display()))
        .arg(format!("--socket={}", socket.display()))
        .arg(format!("--pid-file={}", host.folder().join("mysql.pid").display()));
    let mut process = host.start_program("mariadb", &mut command)?;
    wait_until("the database answers", || {
        ensure!(process.ended()?.is_none(), "the database has ended: {}", process.output()?);
        Ok(std::os::unix::net::UnixStream::connect(&socket).is_ok())
    })
    .context("starting the database")?;
    Ok(process)
}
