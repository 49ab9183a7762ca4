//! Reading configuration and topology files: the only place where their bytes come from.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use overlane_core::{
    config::{Config, Control, MulticastGroups, Note, SystemDefaults, VxlanConfig},
    desired::Desired,
    oslo_ini::Settings,
    problem::{Problem, Problems},
    topology::Topology,
};

/// A valid configuration and what is worth saying about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Options that are ignored, and the like.
    pub notes: Vec<Note>,
}

impl Loaded {
    /// What the topology asks of this host now.
    ///
    /// # Errors
    /// [`Problems`] in the topology file, or a file that cannot be read.
    pub fn desired(&self) -> anyhow::Result<Desired> {
        let Control::File(topology) = &self.config.control;
        desired(topology, &self.config)
    }
}

/// Reads the configuration files; later ones win.
///
/// # Errors
/// [`Problems`]: all of them at once, unreadable files included.
pub fn load(files: &[PathBuf]) -> Result<Loaded, Problems> {
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
    let (config, notes) = Config::from_settings(&settings, &system_defaults())?;
    Ok(Loaded { config, notes })
}

/// Reads a topology file and takes out what it asks of the configured host.
///
/// # Errors
/// [`Problems`] in the file, or a file that cannot be read.
pub fn desired(file: &Path, config: &Config) -> anyhow::Result<Desired> {
    Ok(read_topology(file, config)?.desired_for(&config.host))
}

fn read_topology(file: &Path, config: &Config) -> Result<Topology, Problems> {
    let text = read(file).map_err(|problem| Problems(vec![problem]))?;
    let topology = Topology::parse(file, &text)?;
    topology.check_host(&config.host, config.local_ip())?;
    Ok(topology)
}

/// `overlane config check`: prints what will be used, or fails with every problem.
///
/// # Errors
/// [`Problems`] in any of the files.
pub fn check(files: &[PathBuf], out: &mut impl Write) -> anyhow::Result<()> {
    let loaded = load(files)?;
    let Config { host, vxlan, control: Control::File(topology), .. } = &loaded.config;
    let Config { multicast, physical_networks, unused_device_grace, compute_taps, fast_path, bpffs, debug, .. } =
        &loaded.config;
    writeln!(out, "host            {host}")?;
    writeln!(out, "topology        {}", topology.display())?;
    for (name, device) in physical_networks {
        writeln!(out, "physical        {name} by {device}")?;
    }
    match vxlan {
        Some(vxlan) => check_vxlan(vxlan, multicast.as_ref(), out)?,
        None => writeln!(out, "enable_vxlan    false")?,
    }
    writeln!(out, "unused devices  kept for {} s", unused_device_grace.as_secs())?;
    writeln!(out, "compute_taps    {compute_taps}")?;
    writeln!(out, "fast_path       {fast_path}")?;
    writeln!(out, "bpffs           {}", bpffs.display())?;
    writeln!(out, "debug           {debug}")?;
    for note in &loaded.notes {
        writeln!(out, "note            {note}")?;
    }
    let checked = read_topology(topology, &loaded.config)?;
    checked.check_segments(&loaded.config)?;
    let desired = checked.desired_for(host);
    let ports: usize = desired.networks.values().map(|network| network.local_ports.len()).sum();
    let (networks, vteps) = (desired.networks.len(), desired.vteps.len());
    writeln!(out, "\nvalid; on this host: networks {networks}, ports {ports}; other hosts: {vteps}")?;
    Ok(())
}

fn check_vxlan(vxlan: &VxlanConfig, multicast: Option<&MulticastGroups>, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "local_ip        {}", vxlan.local_ip)?;
    writeln!(out, "udp_dstport     {}", vxlan.udp_dstport)?;
    let source_ports =
        vxlan.source_ports.map_or("the kernel's local port range".to_owned(), |(a, b)| format!("{a} to {b}"));
    writeln!(out, "source ports    {source_ports}")?;
    writeln!(out, "ttl             {}", vxlan.ttl.map_or("the system's default".to_owned(), |ttl| ttl.to_string()))?;
    match multicast {
        Some(groups) => writeln!(out, "members         learned, by multicast to {groups}")?,
        None => writeln!(out, "members         told by the control plane")?,
    }
    writeln!(out, "dscp            {}", vxlan.dscp)?;
    writeln!(out, "arp_responder   {}", vxlan.arp_responder)?;
    Ok(())
}

fn read(file: &Path) -> Result<String, Problem> {
    let problem = |error: io::Error| Problem {
        file: file.to_owned(),
        line: None,
        message: match error.kind() {
            io::ErrorKind::NotFound => "no such file".to_owned(),
            io::ErrorKind::PermissionDenied => "no permission to read it".to_owned(),
            io::ErrorKind::InvalidData => "not UTF-8 text".to_owned(),
            _ => format!("cannot be read: {error}"),
        },
    };
    fs::read_to_string(file).map_err(problem)
}

fn system_defaults() -> SystemDefaults {
    let host_name = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    SystemDefaults { host_name }
}
