//! Reading configuration and topology files: the only place where their bytes come from.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use overlane_core::{
    config::{Config, Control, Note, SystemDefaults},
    desired::Desired,
    oslo_ini::Settings,
    problem::{Problem, Problems},
    services::Services,
    topology::Topology,
};

use crate::instance;

/// A valid configuration and what is worth saying about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Options that are ignored, and the like.
    pub notes: Vec<Note>,
    /// Where the configuration was read from, by absolute paths.
    pub files: Vec<PathBuf>,
}

impl Loaded {
    /// What is asked of this host now: by the topology, or by a server, which only the running agent knows.
    ///
    /// # Errors
    /// [`Problems`] in the topology file, a file that cannot be read, or no agent that could be asked.
    pub fn asked(&self) -> anyhow::Result<Asked> {
        match &self.config.control {
            Control::File(topology) => asked(topology, &self.config),
            Control::Neutron(_) => Ok(Asked { desired: told_by_agent()?, services: None }),
        }
    }
}

/// What is asked of a host.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Networks, ports and what goes with them.
    pub desired: Desired,
    /// DHCP servers, routers and the like; `None` where they are not Overlane's business.
    pub services: Option<Services>,
}

/// Read when no file is named.
const DEFAULT_CONFIG_FILE: &str = "/etc/overlane/overlane.conf";

/// The configuration files that are read when none are named.
pub fn default() -> Vec<PathBuf> {
    vec![DEFAULT_CONFIG_FILE.into()]
}

/// The configuration files that are named, and those in directories, by name (`--config-file` and `--config-dir` of
/// oslo.config).
///
/// # Errors
/// [`Problems`]: directories that cannot be read.
pub fn named(files: &[PathBuf], directories: &[PathBuf]) -> Result<Vec<PathBuf>, Problems> {
    let (mut all, mut problems) = (files.to_vec(), Vec::new());
    for directory in directories {
        match conf_files(directory) {
            Ok(found) => all.extend(found),
            Err(error) => problems.push(problem(directory, &error)),
        }
    }
    if problems.is_empty() { Ok(all) } else { Err(Problems(problems)) }
}

fn conf_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    Ok(files)
}

/// Reads the configuration files; later ones win, and options in the environment over all of them.
///
/// # Errors
/// [`Problems`]: all of them at once, unreadable files included.
pub fn load(files: &[PathBuf], environment: &[(String, String)]) -> Result<Loaded, Problems> {
    let mut settings = Settings::default();
    let mut problems = Vec::new();
    for file in files {
        match read(file) {
            Ok(text) => problems.extend(settings.add_file(file, &text)),
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    settings.add_environment(environment.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let (config, notes) = Config::from_settings(&settings, &system_defaults())?;
    let absolute = |file: &PathBuf| std::path::absolute(file).unwrap_or_else(|_| file.clone());
    Ok(Loaded { config, notes, files: files.iter().map(absolute).collect() })
}

fn told_by_agent() -> anyhow::Result<Desired> {
    let told = instance::ask_desired().context(
        "no agent is running on this host, or it does not answer: what the Neutron server asks for, only the agent knows",
    )?;
    serde_json::from_str(&told).context("the running agent is of another version, and not understood")
}

/// Reads a topology file and takes out what it asks of the configured host.
///
/// # Errors
/// [`Problems`] in the file, or a file that cannot be read.
pub fn asked(file: &Path, config: &Config) -> anyhow::Result<Asked> {
    let topology = read_topology(file, config)?;
    Ok(Asked { desired: topology.desired_for(&config.host), services: Some(Services::of(&topology, config)) })
}

pub(crate) fn read_topology(file: &Path, config: &Config) -> Result<Topology, Problems> {
    let text = read(file).map_err(|problem| Problems(vec![problem]))?;
    let topology = Topology::parse(file, &text)?;
    topology.check_host(&config.host, config.local_ip())?;
    Ok(topology)
}

fn read(file: &Path) -> Result<String, Problem> {
    fs::read_to_string(file).map_err(|error| problem(file, &error))
}

fn problem(file: &Path, error: &io::Error) -> Problem {
    let message = match error.kind() {
        io::ErrorKind::NotFound if file == Path::new(DEFAULT_CONFIG_FILE) => {
            "no such file; if the agent reads others, name them with --config-file, as its service does".to_owned()
        }
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "no permission to read it".to_owned(),
        io::ErrorKind::InvalidData => "not UTF-8 text".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    Problem { file: file.to_owned(), line: None, message }
}

fn system_defaults() -> SystemDefaults {
    let host_name = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    SystemDefaults { host_name }
}
