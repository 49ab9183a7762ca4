//! The metadata service, and what it is told.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use overlane_core::{
    model::{NetworkId, PortId},
    services::metadata::{Assignment, FixedIp, Instance, Interface, Socket, SocketKey, State},
};
use uuid::Uuid;

use crate::{
    lab::{Namespace, Process, overlane_binary},
    wait::wait_until,
};

/// A running `overlane metadata`; killed when dropped.
pub struct MetadataService {
    process: Process,
    file: PathBuf,
}

impl MetadataService {
    /// Starts it in a host's namespace, and waits until it listens where `state` says.
    ///
    /// # Errors
    /// When it does not, with its log.
    pub fn start(host: &Namespace, folder: &Path, state: &State) -> Result<Self> {
        let file = folder.join("metadata.json");
        write(&file, &state.to_json().context("writing JSON")?)?;
        let mut command = host.command(overlane_binary());
        command.arg("metadata").arg("--state").arg(&file);
        let process = Process::start(&mut command, &folder.join("metadata.log"), false)?;
        let service = Self { process, file };
        for socket in &state.sockets {
            service.wait_for_log(&format!("listening at {}", socket.key))?;
        }
        Ok(service)
    }

    /// Tells it something else, in one step, as the agent does.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn tell(&self, state: &State) -> Result<()> {
        self.tell_text(&state.to_json().context("writing JSON")?)
    }

    /// As `tell`, whatever the text is.
    ///
    /// # Errors
    /// As for `tell`.
    pub fn tell_text(&self, text: &str) -> Result<()> {
        write(&self.file, text)
    }

    /// What it has logged.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        self.process.output()
    }

    /// Waits until the log contains `text`.
    ///
    /// # Errors
    /// When it does not in time, with the log.
    pub fn wait_for_log(&self, text: &str) -> Result<()> {
        wait_until(&format!("the metadata service logs {text:?}"), || {
            let log = self.log()?;
            anyhow::ensure!(log.contains(text), "the log is:\n{log}");
            Ok(true)
        })
    }

    /// Its resident memory in KiB.
    ///
    /// # Errors
    /// When the kernel will not say.
    pub fn memory_kib(&self) -> Result<u64> {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.process.pid())).context("looking at a process")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("its memory")?;
        line.split_whitespace().next().context("its memory")?.parse().context("its memory")
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    let partial = file.with_extension("partial");
    fs::write(&partial, text).context("writing the metadata")?;
    fs::rename(&partial, file).context("renaming the metadata")
}

/// The id of a network with a number.
pub fn network_id(number: u128) -> NetworkId {
    NetworkId(Uuid::from_u128(number))
}

/// A place to listen at, for machines of these networks.
///
/// # Errors
/// When the address is none.
pub fn socket(
    namespace: &Namespace,
    address: &str,
    interface: Option<&str>,
    port: u16,
    networks: &[NetworkId],
) -> Result<Socket> {
    let address = address.parse().context("an address")?;
    let (namespace, interface) = (namespace.name().to_owned(), interface.map(str::to_owned));
    Ok(Socket { key: SocketKey { namespace, address, port, interface }, networks: networks.to_vec() })
}

/// A machine whose id is `id`, with a port that has these addresses.
///
/// # Errors
/// When an address is none.
pub fn instance(id: &str, network_id: NetworkId, mac: &str, addresses: &[&str]) -> Result<Instance> {
    let fixed_ip = |address: &&str| {
        let address: IpAddr = address.parse().context("an address")?;
        let (prefix_len, assignment) = if address.is_ipv4() { (24, Assignment::Dhcp) } else { (64, Assignment::Slaac) };
        let (routes, dns_nameservers) = (Vec::new(), Vec::new());
        Ok(FixedIp { address, prefix_len, assignment, gateway: None, routes, dns_nameservers, floating_ip: None })
    };
    let fixed_ips = addresses.iter().map(fixed_ip).collect::<Result<_>>()?;
    let port_id = PortId(Uuid::new_v4());
    let mac = mac.parse().context("a MAC address")?;
    let interfaces = vec![Interface { port_id, network_id, mac, mtu: Some(1450), fixed_ips }];
    Ok(Instance { id: id.to_owned(), hostname: format!("{id}.example"), interfaces, ..Instance::default() })
}
