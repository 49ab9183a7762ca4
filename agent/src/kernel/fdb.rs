//! Forwarding databases of bridges and vxlan devices.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
};

use overlane_core::{
    model::Mac,
    observed::{FdbEntry, FdbTable, Link, LinkKind},
};
use rtnetlink::{
    packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    },
};

use super::{Kernel, KernelError, error::unless};

impl Kernel {
    pub(super) async fn list_fdb(&self, links: &BTreeMap<u32, Link>) -> Result<BTreeSet<FdbEntry>, KernelError> {
        let mut request = NeighbourMessage::default();
        request.header.family = AddressFamily::Bridge;
        let request = RouteNetlinkMessage::GetNeighbour(request);
        let answers = self.dump(request).await.map_err(KernelError::list("forwarding databases"))?;
        let entries = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewNeighbour(message) => parse(&message, links),
            _ => None,
        });
        Ok(entries.collect())
    }

    pub(super) async fn add_fdb(&self, entry: &FdbEntry) -> Result<(), KernelError> {
        // A flood list is several entries with one MAC address: rtnetlink's own request cannot append (rtnetlink#60).
        let flags = if is_flood(entry) { NLM_F_APPEND } else { NLM_F_REPLACE };
        let result = self.change(RouteNetlinkMessage::NewNeighbour(message(entry)), NLM_F_CREATE | flags).await;
        unless(io::ErrorKind::AlreadyExists, result).map_err(KernelError::request("adding FDB entry", entry))
    }

    pub(super) async fn delete_fdb(&self, entry: &FdbEntry) -> Result<(), KernelError> {
        let result = self.change(RouteNetlinkMessage::DelNeighbour(message(entry)), 0).await;
        unless(io::ErrorKind::NotFound, result).map_err(KernelError::request("deleting FDB entry", entry))
    }
}

fn is_flood(entry: &FdbEntry) -> bool {
    entry.mac == Mac::ZERO
}

fn message(entry: &FdbEntry) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = entry.ifindex;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(entry.mac.0.to_vec()));
    match entry.table {
        FdbTable::Bridge => {
            message.header.flags = NeighbourFlags::Controller;
            message.header.state = NeighbourState::Noarp;
        }
        FdbTable::Vxlan { remote } => {
            message.header.flags = NeighbourFlags::Own;
            message.header.state = NeighbourState::Permanent;
            let remote = match remote {
                IpAddr::V4(address) => NeighbourAddress::Inet(address),
                IpAddr::V6(address) => NeighbourAddress::Inet6(address),
            };
            message.attributes.push(NeighbourAttribute::Destination(remote));
        }
    }
    message
}

/// The entry, if it is a static one of a bridge or vxlan device.
fn parse(message: &NeighbourMessage, links: &BTreeMap<u32, Link>) -> Option<FdbEntry> {
    let link = links.get(&message.header.ifindex)?;
    let is_own = message.header.flags.contains(NeighbourFlags::Own);
    let (mut mac, mut remote, mut is_in_bridge) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac),
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => remote = parse_address(bytes),
            NeighbourAttribute::Controller(_) => is_in_bridge = true,
            _ => (),
        }
    }
    let table = match (&link.kind, message.header.state) {
        (LinkKind::Vxlan(_), NeighbourState::Permanent) if is_own => FdbTable::Vxlan { remote: remote? },
        // "Permanent" in a bridge's table marks the devices' own addresses, "noarp" what somebody has set.
        (_, NeighbourState::Noarp) if !is_own && is_in_bridge => FdbTable::Bridge,
        _ => return None,
    };
    Some(FdbEntry { ifindex: link.ifindex, mac: mac?, table })
}

/// In an FDB message the family says "bridge", so the address is bare bytes.
fn parse_address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
