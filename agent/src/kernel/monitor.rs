//! What happens in the kernel, as it happens: netlink's multicast groups.

use std::{io, os::fd::AsFd as _};

use futures_util::FutureExt as _;
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::{
    MulticastGroup,
    packet_core::NetlinkPayload,
    packet_route::{AddressFamily, RouteNetlinkMessage, neighbour::NeighbourMessage},
    sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE},
};
use tokio::task::unconstrained;

use overlane_core::observed::Learned;

use super::{
    fdb::{self, FdbChange},
    guard,
    listing::messages,
    nftables, xdp,
};

/// Room for bursts: a thousand taps that appear at once make about two megabytes of messages.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// Everything that the plan depends on.
const GROUPS: [MulticastGroup; 7] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Tc,
];

/// What the kernel reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Links, addresses, routes, neighbours or queueing disciplines have changed, or somebody has taken something from the guard.
    pub devices: bool,
    /// The kernel had more to tell than there was room for: anything may have changed.
    pub overflow: bool,
    /// FDB entries that have come or gone, in order: static ones, and learned ones if they are followed.
    pub fdb: Vec<FdbChange>,
}

/// A subscription to the kernel's changes.
pub struct Monitor {
    socket: TokioSocket,
    /// Of nf_tables, where the kernel has it: what becomes of the guard.
    nftables: Option<TokioSocket>,
    /// What devices can do with XDP, where it matters and the kernel tells.
    xdp: Option<TokioSocket>,
    learned: Learned,
}

impl Monitor {
    pub(super) fn subscribe() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        let groups = GROUPS.iter().fold(0, |groups, group| groups | 1 << (*group as u32 - 1));
        socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
        // SAFETY: the descriptor belongs to `socket`, which outlives the borrow.
        let descriptor = unsafe { std::os::fd::BorrowedFd::borrow_raw(std::os::fd::AsRawFd::as_raw_fd(&socket)) };
        // Best effort: without the privilege the default has to do, and overflows are noticed.
        let _ = setsockopt(&descriptor.as_fd(), sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES);
        Ok(Self { socket, nftables: nftables::subscribe().ok(), xdp: None, learned: Learned::default() })
    }

    /// From now on also reports what bridges and vxlan devices learn, as far as that is wanted; returns whether it was anything else
    /// before.
    pub fn follow(&mut self, learned: Learned) -> bool {
        let is_other = self.learned != learned;
        self.learned = learned;
        is_other
    }

    /// From now on also reports when devices can do more with XDP, or less.
    pub fn follow_xdp(&mut self) {
        if self.xdp.is_none() {
            self.xdp = xdp::subscribe().ok();
        }
    }

    /// Waits for changes that matter, and takes those that come right with them. Cancelling loses nothing: a message is taken
    /// from the socket only when it is returned.
    pub async fn changed(&mut self) -> Changes {
        let mut changes = Changes::default();
        while changes == Changes::default() {
            tokio::select! {
                received = self.socket.recv_from_full() => changes.take(received, &self.learned),
                received = receive(&mut self.nftables) => changes.take_of_guard(received),
                // What has changed, or what there was no room for: either way it is looked at.
                _ = receive(&mut self.xdp) => changes.devices = true,
            }
        }
        changes.take_waiting(self);
        changes
    }

    /// Takes the changes that have been reported by now.
    pub fn changed_by_now(&mut self) -> Changes {
        let mut changes = Changes::default();
        changes.take_waiting(self);
        changes
    }
}

/// The next datagram; never, of a socket that is not there.
async fn receive(socket: &mut Option<TokioSocket>) -> io::Result<(Vec<u8>, SocketAddr)> {
    match socket {
        Some(socket) => socket.recv_from_full().await,
        None => std::future::pending().await,
    }
}

impl Changes {
    fn take_waiting(&mut self, monitor: &mut Monitor) {
        // A burst can be longer than what tokio lets a task do in one go.
        while let Some(received) = unconstrained(monitor.socket.recv_from_full()).now_or_never() {
            self.take(received, &monitor.learned);
        }
        while let Some(received) = unconstrained(receive(&mut monitor.nftables)).now_or_never() {
            self.take_of_guard(received);
        }
        while unconstrained(receive(&mut monitor.xdp)).now_or_never().is_some() {
            self.devices = true;
        }
    }

    fn take_of_guard(&mut self, received: io::Result<(Vec<u8>, SocketAddr)>) {
        // What there was no room for may have been about the guard.
        self.devices |= received.map_or(true, |(messages, _)| nftables::takes_from(&messages, guard::TABLE));
    }

    fn take(&mut self, received: io::Result<(Vec<u8>, SocketAddr)>, learned: &Learned) {
        match received {
            Ok((messages, _)) => self.read(&messages, learned),
            // ENOBUFS above all; whatever else it is, another look cannot hurt.
            Err(_) => self.overflow = true,
        }
    }

    /// Reads the messages of a datagram.
    fn read(&mut self, datagram: &[u8], learned: &Learned) {
        for message in messages(datagram) {
            match message.map(|message| message.payload) {
                Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(message))) if is_fdb(&message) => {
                    self.fdb.extend(fdb::parse(&message, learned).map(FdbChange::Add));
                }
                Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(message))) if is_fdb(&message) => {
                    self.fdb.extend(fdb::parse(&message, learned).map(FdbChange::Delete));
                }
                // What this version does not know may matter.
                _ => self.devices = true,
            }
        }
    }
}

fn is_fdb(message: &NeighbourMessage) -> bool {
    message.header.family == AddressFamily::Bridge
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use overlane_core::{
        model::Mac,
        observed::{FdbEntry, FdbTable},
    };
    use rtnetlink::{
        packet_core::NetlinkMessage,
        packet_route::{
            link::LinkMessage,
            neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourState},
        },
    };

    use super::*;

    fn datagram(messages: &[RouteNetlinkMessage]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for message in messages {
            let mut message = NetlinkMessage::from(message.clone());
            message.finalize();
            let begin = bytes.len();
            bytes.resize(begin + message.buffer_len().next_multiple_of(4), 0);
            message.serialize(&mut bytes[begin..]);
        }
        bytes
    }

    fn read(messages: &[RouteNetlinkMessage]) -> Changes {
        let mut changes = Changes::default();
        changes.read(&datagram(messages), &Learned::default());
        changes
    }

    fn from_tunnels() -> Learned {
        Learned { from_tunnels: true, ..Learned::default() }
    }

    fn entry() -> FdbEntry {
        let remote = IpAddr::from([10, 10, 10, 12]);
        FdbEntry { ifindex: 7, mac: Mac([2, 0, 0, 0, 0, 1]), table: FdbTable::Vxlan { remote } }
    }

    #[test]
    fn a_learned_fdb_entry_wakes_nobody() {
        let mut learned = fdb::message(&entry());
        learned.header.state = NeighbourState::Reachable;
        assert_eq!(read(&[RouteNetlinkMessage::NewNeighbour(learned)]), Changes::default());
    }

    #[test]
    fn what_a_vxlan_device_learns_is_reported_where_members_are_learned() {
        let FdbTable::Vxlan { remote } = entry().table else { unreachable!("a vxlan device's") };
        let learned = FdbEntry { table: FdbTable::Learned { remote }, ..entry() };
        let mut changes = Changes::default();
        changes.read(&datagram(&[RouteNetlinkMessage::NewNeighbour(fdb::message(&learned))]), &from_tunnels());
        assert_eq!(changes, Changes { fdb: vec![FdbChange::Add(learned)], ..Changes::default() });
    }

    #[test]
    fn where_a_bridge_learns_an_address_that_moves_is_reported_and_nothing_else_that_it_learns() {
        let learned = FdbEntry { table: FdbTable::BridgeLearned, ..entry() };
        let other = FdbEntry { mac: Mac([2, 0, 0, 0, 0, 9]), ..learned };
        let followed = Learned { macs: [learned.mac].into(), ..Learned::default() };
        let message = |entry: &FdbEntry| {
            let mut message = fdb::message(entry);
            message.attributes.push(NeighbourAttribute::Controller(3));
            message.header.flags = NeighbourFlags::empty();
            RouteNetlinkMessage::NewNeighbour(message)
        };
        let mut changes = Changes::default();
        changes.read(&datagram(&[message(&learned), message(&other)]), &followed);
        assert_eq!(changes, Changes { fdb: vec![FdbChange::Add(learned)], ..Changes::default() });
    }

    #[test]
    fn static_fdb_entries_are_reported_one_by_one_and_in_order() {
        let message = fdb::message(&entry());
        let messages = [RouteNetlinkMessage::NewNeighbour(message.clone()), RouteNetlinkMessage::DelNeighbour(message)];
        let expected = Changes { fdb: vec![FdbChange::Add(entry()), FdbChange::Delete(entry())], ..Changes::default() };
        assert_eq!(read(&messages), expected);
    }

    #[test]
    fn an_underlay_neighbour_or_a_link_calls_for_a_look_at_devices() {
        let mut neighbor = NeighbourMessage::default();
        neighbor.header.family = AddressFamily::Inet;
        let expected = Changes { devices: true, ..Changes::default() };
        assert_eq!(read(&[RouteNetlinkMessage::NewNeighbour(neighbor)]), expected);
        assert_eq!(read(&[RouteNetlinkMessage::NewLink(LinkMessage::default())]), expected);
    }
}
