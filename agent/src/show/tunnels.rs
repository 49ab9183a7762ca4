//! `show fdb`, `show neighbors` and `show vteps`: what the maps hold.

use std::net::IpAddr;

use overlane_abi as abi;
use overlane_core::{
    model::Mac,
    offload::{Lane, Superpackets},
};
use serde::Serialize;

use super::{View, table::Row};

/// The owner of a MAC address.
#[derive(Serialize)]
pub(super) struct FdbRow {
    network: String,
    mac_address: String,
    /// The tap, for a port of this host.
    interface: Option<String>,
    /// The other host's tunnel endpoint.
    vtep: Option<IpAddr>,
}

impl Row for FdbRow {
    const TITLES: &'static [&'static str] = &["NETWORK", "MAC", "WHERE"];

    fn cells(&self) -> Vec<String> {
        let remote = self.vtep.map(|vtep| format!("VTEP {vtep}"));
        let place = self.interface.clone().or(remote).unwrap_or_default();
        vec![self.network.clone(), self.mac_address.clone(), place]
    }
}

pub(super) fn fdb(view: &View) -> Vec<FdbRow> {
    let entries = view.observed.datapath.iter().flat_map(|datapath| &datapath.fdb);
    let row = |(key, entry): (&abi::FdbKey, &abi::FdbEntry)| FdbRow {
        network: view.network_name(key.network),
        mac_address: Mac(key.mac).to_string(),
        interface: (entry.ifindex != 0).then(|| view.interface(entry.ifindex)),
        vtep: (entry.ifindex == 0).then(|| entry.vtep.into()),
    };
    entries.map(row).collect()
}

/// An address that the responder knows.
#[derive(Serialize)]
pub(super) struct NeighborRow {
    network: String,
    address: IpAddr,
    mac_address: String,
    is_router: bool,
}

impl Row for NeighborRow {
    const TITLES: &'static [&'static str] = &["NETWORK", "ADDRESS", "MAC", "ROUTER"];

    fn cells(&self) -> Vec<String> {
        let router = if self.is_router { "yes" } else { "no" };
        vec![self.network.clone(), self.address.to_string(), self.mac_address.clone(), router.to_owned()]
    }
}

pub(super) fn neighbors(view: &View) -> Vec<NeighborRow> {
    let entries = view.observed.datapath.iter().flat_map(|datapath| &datapath.neighbors);
    let row = |(key, neighbor): (&abi::NeighborKey, &abi::Neighbor)| NeighborRow {
        network: view.network_name(key.network),
        address: key.address.into(),
        mac_address: Mac(neighbor.mac).to_string(),
        is_router: neighbor.flags & abi::Neighbor::ROUTER != 0,
    };
    entries.map(row).collect()
}

/// Another host.
#[derive(Serialize)]
pub(super) struct VtepRow {
    vtep: IpAddr,
    /// `resolved`, `unresolved` (the next hop does not answer yet), `no-route` or `unused` (no network in common).
    state: &'static str,
    uplink: Option<String>,
    next_hop: Option<IpAddr>,
    next_hop_mac: Option<String>,
    mtu: Option<u32>,
    /// `fast` or `kernel`: what is sent there.
    lane: &'static str,
    /// `xdp` (TCP goes by `tc`), `tc` or `kernel`: what takes up what arrives on the uplink.
    incoming: &'static str,
    /// Why, where XDP was asked for.
    incoming_reason: Option<String>,
    /// Who carries superpackets, and why, while the fast lane carries packets.
    superpackets: Option<Superpackets>,
}

impl Row for VtepRow {
    const TITLES: &'static [&'static str] =
        &["VTEP", "STATE", "UPLINK", "NEXT HOP", "MAC", "MTU", "LANE", "INCOMING", "GSO OUT", "GSO IN", "WHY"];

    fn cells(&self) -> Vec<String> {
        let superpackets = self.superpackets.as_ref();
        let lane = |lane: Option<Lane>| lane.map(Lane::name).unwrap_or_default().to_owned();
        vec![
            self.vtep.to_string(),
            self.state.to_owned(),
            self.uplink.clone().unwrap_or_default(),
            self.next_hop.map(|hop| hop.to_string()).unwrap_or_default(),
            self.next_hop_mac.clone().unwrap_or_default(),
            self.mtu.map(|mtu| mtu.to_string()).unwrap_or_default(),
            self.lane.to_owned(),
            self.incoming.to_owned(),
            lane(superpackets.map(|superpackets| superpackets.sent.lane)),
            lane(superpackets.map(|superpackets| superpackets.received.lane)),
            self.why(),
        ]
    }
}

impl VtepRow {
    fn why(&self) -> String {
        let incoming = self.incoming_reason.as_ref().map(|reason| format!("incoming: {reason}"));
        let superpackets = self.superpackets.as_ref();
        let superpackets = superpackets.map(|superpackets| {
            format!("GSO out: {}; GSO in: {}", superpackets.sent.reason, superpackets.received.reason)
        });
        incoming.into_iter().chain(superpackets).collect::<Vec<_>>().join("; ")
    }
}

/// What takes up what arrives on an uplink.
fn incoming(view: &View, uplink: u32) -> &'static str {
    if view.is_attached(abi::Hook::FromUplinkXdp, uplink) {
        "xdp"
    } else if view.is_attached(abi::Hook::FromUplink, uplink) {
        "tc"
    } else {
        "kernel"
    }
}

pub(super) fn vteps(view: &View) -> Vec<VtepRow> {
    let entries = view.vteps();
    let learned = view.observed.kernel.learned_vteps();
    let is_told = |vtep: &IpAddr| view.desired.networks.values().any(|network| network.flood.contains(vtep));
    let is_used = |vtep: &IpAddr| learned.contains(vtep) || is_told(vtep);
    let row = |vtep: &IpAddr| {
        let path = view.observed.kernel.paths.get(vtep);
        let is_fast = entries.get(vtep).is_some_and(|entry| entry.ifindex != 0);
        VtepRow {
            vtep: *vtep,
            state: match path {
                _ if !is_used(vtep) => "unused",
                None => "no-route",
                Some(path) if path.next_hop_mac.is_none() => "unresolved",
                Some(_) => "resolved",
            },
            uplink: path.map(|path| view.interface(path.uplink)),
            next_hop: path.map(|path| path.next_hop),
            next_hop_mac: path.and_then(|path| path.next_hop_mac).map(|mac| mac.to_string()),
            mtu: path.map(|path| path.mtu),
            lane: if is_fast { "fast" } else { "kernel" },
            incoming: path.map_or("kernel", |path| incoming(view, path.uplink)),
            incoming_reason: path.and_then(|path| view.uplink_choice(path.uplink)).map(|choice| choice.reason),
            superpackets: path.filter(|_| is_fast).and_then(|path| view.superpackets(path.uplink)),
        }
    };
    view.desired.vteps.union(&learned).map(row).collect()
}
