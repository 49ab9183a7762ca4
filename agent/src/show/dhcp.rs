//! `show dhcp`: the DHCP servers of this host.

use overlane_core::services::{
    NamespaceSpec,
    dhcp::{self, leases::Leases},
};
use serde::Serialize;

use super::{View, table::Row};

/// A network's DHCP server.
#[derive(Serialize)]
pub(super) struct DhcpRow {
    network: String,
    namespace: String,
    /// The other end of its tap.
    interface: String,
    addresses: Vec<String>,
    /// Of dnsmasq; none when it does not run.
    pid: Option<u32>,
    /// Addresses that are kept for a port.
    reservations: usize,
    /// Addresses that somebody has, or had before this server knew of leases.
    leases: usize,
}

impl Row for DhcpRow {
    const TITLES: &'static [&'static str] =
        &["NETWORK", "NAMESPACE", "INTERFACE", "ADDRESSES", "PROCESS", "RESERVATIONS", "LEASES"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.network.clone(),
            self.namespace.clone(),
            self.interface.clone(),
            self.addresses.join(" "),
            self.pid.map_or_else(|| "none".to_owned(), |pid| pid.to_string()),
            self.reservations.to_string(),
            self.leases.to_string(),
        ]
    }
}

pub(super) fn dhcp(view: &View) -> Vec<DhcpRow> {
    view.services.wanted.namespaces.iter().filter_map(|(name, spec)| row(view, name, spec)).collect()
}

fn row(view: &View, namespace: &str, spec: &NamespaceSpec) -> Option<DhcpRow> {
    let reservations = spec.reservations.as_ref()?;
    let found = &view.services.found;
    let program = spec.processes.keys().find(|name| name.program == dhcp::PROGRAM)?;
    let there = found.namespaces.get(namespace).and_then(|there| there.links.get(&reservations.link));
    let leases = found.files.get(&reservations.leases).map(|text| Leases::parse(text).leases.len());
    let network = view.desired.networks.iter().find(|(id, _)| id.to_string() == program.of);
    Some(DhcpRow {
        network: network.map_or_else(|| program.of.clone(), |(_, network)| network.name.clone()),
        namespace: namespace.to_owned(),
        interface: reservations.link.clone(),
        addresses: there.iter().flat_map(|link| &link.addresses).map(ToString::to_string).collect(),
        pid: found.processes.get(program).and_then(|running| running.first()).map(|process| process.pid),
        reservations: reservations.addresses.len(),
        leases: leases.unwrap_or_default(),
    })
}
