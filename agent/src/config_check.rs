//! `overlane config check`: what will be used.

use std::{
    io::{self, Write},
    path::Path,
};

use overlane_core::{
    config::{Config, Control, LogConfig, MulticastGroups, NeutronConfig, VxlanConfig},
    services::Services,
};

use crate::files::{self, Loaded};

/// Prints what will be used, or fails with every problem.
///
/// # Errors
/// [`overlane_core::problem::Problems`] in the topology.
pub fn check(loaded: &Loaded, out: &mut impl Write) -> anyhow::Result<()> {
    let Config { host, vxlan, control, multicast, physical_networks, .. } = &loaded.config;
    let Config { unused_device_grace, compute_taps, fast_path, uplink_lanes, bpffs, qos, log, environment, .. } =
        &loaded.config;
    writeln!(out, "host            {host}")?;
    match control {
        Control::File(topology) => writeln!(out, "topology        {}", topology.display())?,
        Control::Neutron(neutron) => check_neutron(neutron, out)?,
    }
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
    writeln!(out, "uplink_lane     {uplink_lanes}")?;
    writeln!(out, "bpffs           {}", bpffs.display())?;
    writeln!(out, "QoS queues      kernel_hz {}, tbf_latency {} ms", qos.kernel_hz, qos.tbf_latency_ms)?;
    writeln!(out, "log             to {}", destination(log))?;
    writeln!(out, "debug           {}", log.debug)?;
    for name in environment {
        // Never its value: it may be a password.
        writeln!(out, "environment     {name}")?;
    }
    for note in &loaded.notes {
        writeln!(out, "note            {note}")?;
    }
    match control {
        Control::File(topology) => check_topology(topology, &loaded.config, out),
        Control::Neutron(_) => Ok(writeln!(out, "\nvalid; what is on this host, the Neutron server says")?),
    }
}

fn check_topology(topology: &Path, config: &Config, out: &mut impl Write) -> anyhow::Result<()> {
    let checked = files::read_topology(topology, config)?;
    checked.check_segments(config)?;
    let desired = checked.desired_for(&config.host);
    let ports: usize = desired.networks.values().map(|network| network.local_ports.len()).sum();
    let (networks, vteps) = (desired.networks.len(), desired.vteps.len());
    writeln!(out, "\nvalid; on this host: networks {networks}, ports {ports}; other hosts: {vteps}")?;
    if checked.is_network_node(&config.host) {
        let services = Services::of(&checked, config);
        let count = |prefix: &str| services.namespaces.keys().filter(|name| name.starts_with(prefix)).count();
        let (dhcp, routers, files) = (count("qdhcp-"), count("qrouter-"), config.services.state_path.display());
        writeln!(out, "a network node: DHCP servers {dhcp}, routers {routers}; their files: {files}")?;
    }
    Ok(())
}

fn check_neutron(neutron: &NeutronConfig, out: &mut impl Write) -> io::Result<()> {
    let on_or_off = |is_on| if is_on { "on" } else { "off" };
    let transport = &neutron.transport;
    writeln!(out, "server          by {}, exchange {}", transport.url, transport.exchange)?;
    writeln!(out, "TLS             {}", on_or_off(transport.tls.is_some()))?;
    writeln!(out, "reports         every {} s", neutron.report_interval.as_secs_f64())?;
    writeln!(out, "security groups {}", on_or_off(neutron.has_groups))?;
    writeln!(out, "QoS             {}", on_or_off(neutron.has_qos))?;
    writeln!(out, "trunks          {}", on_or_off(neutron.has_trunks))?;
    let names = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    write!(out, "extensions      {}", names(&neutron.extensions.used))?;
    if !neutron.extensions.unused.is_empty() {
        write!(out, "; not carried out by this version: {}", names(&neutron.extensions.unused))?;
    }
    writeln!(out)
}

fn destination(log: &LogConfig) -> String {
    match log.path() {
        Some(path) if log.use_stderr => format!("{} and stderr", path.display()),
        Some(path) => path.display().to_string(),
        None => "stderr".to_owned(),
    }
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
