//! Forwarding databases of bridges and vxlan devices. Their size follows the cloud, so changes are sent by the hundred.

use std::{collections::BTreeSet, io, net::IpAddr};

use overlane_core::{
    model::Mac,
    observed::{FdbEntry, FdbTable, KernelState, Learned},
};
use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
    },
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
    },
};

use super::{Kernel, KernelError, error::unless};

/// Changes in one message to the kernel. If all of them failed, their answers must have room in the socket's buffer.
const BATCH: usize = 128;

impl Kernel {
    /// Lists static entries, and what has been learned as far as that is wanted.
    pub(super) fn list_fdb(&self, learned: &Learned) -> Result<BTreeSet<FdbEntry>, KernelError> {
        let mut request = NeighbourMessage::default();
        request.header.family = AddressFamily::Bridge;
        let request = RouteNetlinkMessage::GetNeighbour(request);
        let entries = self.list(request, |answer| match answer {
            RouteNetlinkMessage::NewNeighbour(message) => parse(&message, learned),
            _ => None,
        });
        Ok(entries.map_err(KernelError::list("forwarding databases"))?.into_iter().collect())
    }

    /// Makes changes, in order; made-already and gone-already are success.
    ///
    /// # Errors
    /// For each change on its own, [`KernelError::Request`] when the kernel refuses it.
    pub fn change_fdb(&mut self, changes: &[FdbChange]) -> Vec<Result<(), KernelError>> {
        let results = changes.chunks(BATCH).flat_map(|batch| match self.change_batch(batch) {
            Ok(results) => results,
            // Without a working socket nothing is known of any of them.
            Err(error) => batch.iter().map(|_| Err(io::Error::new(error.kind(), error.to_string()))).collect(),
        });
        let explain = |(change, result): (&FdbChange, io::Result<()>)| match change {
            FdbChange::Add(entry) => {
                unless(io::ErrorKind::AlreadyExists, result).map_err(KernelError::request("adding FDB entry", entry))
            }
            FdbChange::Delete(entry) => {
                unless(io::ErrorKind::NotFound, result).map_err(KernelError::request("deleting FDB entry", entry))
            }
        };
        changes.iter().zip(results).map(explain).collect()
    }

    /// Sends changes in one go. The kernel answers those that fail, and the last one, with which it is done.
    fn change_batch(&self, batch: &[FdbChange]) -> io::Result<Vec<io::Result<()>>> {
        let mut bytes = Vec::new();
        let last = batch.len() as u32;
        for (number, change) in (1..).zip(batch) {
            let mut request = change.request();
            request.header.sequence_number = number;
            request.header.flags |= if number == last { NLM_F_ACK } else { 0 };
            request.finalize();
            let begin = bytes.len();
            bytes.resize(begin + request.buffer_len(), 0);
            request.serialize(&mut bytes[begin..]);
        }
        self.bulk.send(&bytes, 0)?;
        let mut results: Vec<io::Result<()>> = batch.iter().map(|_| Ok(())).collect();
        loop {
            let (answer, _) = self.bulk.recv_from_full()?;
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
            let number = answer.header.sequence_number;
            if let (NetlinkPayload::Error(error), Some(result)) =
                (answer.payload, number.checked_sub(1).and_then(|index| results.get_mut(index as usize)))
            {
                *result = if error.code.is_some() { Err(error.to_io()) } else { Ok(()) };
            }
            if number == last {
                return Ok(results);
            }
        }
    }
}

/// A change of an entry: one to be made, or one that the kernel reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdbChange {
    /// The entry is there from now on; it takes the place of what a MAC address had before.
    Add(FdbEntry),
    /// The entry is gone.
    Delete(FdbEntry),
}

impl FdbChange {
    /// The entry.
    pub fn entry(&self) -> &FdbEntry {
        match self {
            Self::Add(entry) | Self::Delete(entry) => entry,
        }
    }

    /// Takes note of what the kernel reports, and returns whether it is news.
    pub fn note(&self, kernel: &mut KernelState) -> bool {
        match self {
            Self::Add(entry) => kernel.add_fdb(*entry),
            Self::Delete(entry) => kernel.fdb.remove(entry),
        }
    }

    fn request(&self) -> NetlinkMessage<RouteNetlinkMessage> {
        let (message, flags) = match self {
            // A flood list is several entries with one MAC address.
            Self::Add(entry) if entry.mac == Mac::ZERO => {
                (RouteNetlinkMessage::NewNeighbour(message(entry)), NLM_F_CREATE | NLM_F_APPEND)
            }
            Self::Add(entry) => (RouteNetlinkMessage::NewNeighbour(message(entry)), NLM_F_CREATE | NLM_F_REPLACE),
            Self::Delete(entry) => (RouteNetlinkMessage::DelNeighbour(message(entry)), 0),
        };
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request
    }
}

pub(super) fn message(entry: &FdbEntry) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = entry.ifindex;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(entry.mac.0.to_vec()));
    match entry.table {
        FdbTable::Bridge => {
            message.header.flags = NeighbourFlags::Controller;
            message.header.state = NeighbourState::Noarp;
        }
        FdbTable::BridgeLearned => {
            message.header.flags = NeighbourFlags::Controller;
            message.header.state = NeighbourState::Reachable;
        }
        FdbTable::Vxlan { remote } | FdbTable::Learned { remote } => {
            let is_learned = matches!(entry.table, FdbTable::Learned { .. });
            message.header.flags = NeighbourFlags::Own;
            message.header.state = if is_learned { NeighbourState::Reachable } else { NeighbourState::Permanent };
            let remote = match remote {
                IpAddr::V4(address) => NeighbourAddress::Inet(address),
                IpAddr::V6(address) => NeighbourAddress::Inet6(address),
            };
            message.attributes.push(NeighbourAttribute::Destination(remote));
        }
    }
    message
}

/// The entry, if it is a static one of a bridge or vxlan device, or one that has been learned, if that is wanted:
/// these come and go with every guest's packets.
pub(super) fn parse(message: &NeighbourMessage, learned: &Learned) -> Option<FdbEntry> {
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
    let mac = mac?;
    let is_followed = learned.macs.contains(&mac);
    let table = match message.header.state {
        // Only vxlan devices have entries of their own that lead to an address.
        NeighbourState::Permanent if is_own => FdbTable::Vxlan { remote: remote? },
        // The kernel calls an entry stale in the message that says it is gone.
        NeighbourState::Reachable | NeighbourState::Stale if is_own && (learned.from_tunnels || is_followed) => {
            FdbTable::Learned { remote: remote? }
        }
        NeighbourState::Reachable | NeighbourState::Stale if !is_own && is_in_bridge && is_followed => {
            FdbTable::BridgeLearned
        }
        // "Permanent" in a bridge's table marks the devices' own addresses, "noarp" what somebody has set.
        NeighbourState::Noarp if !is_own && is_in_bridge => FdbTable::Bridge,
        _ => return None,
    };
    Some(FdbEntry { ifindex: message.header.ifindex, mac, table })
}

/// In an FDB message the family says "bridge", so the address is bare bytes.
fn parse_address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
