//! What happens in the kernel, as it happens: netlink's multicast groups.

use std::{io, os::fd::AsFd as _};

use futures_util::FutureExt as _;
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::{
    MulticastGroup,
    sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE},
};
use tokio::task::unconstrained;

/// Room for bursts: a thousand taps that appear at once make about two megabytes of messages.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// Everything that the plan depends on.
const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// Why the host should be looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Links, addresses, routes, neighbours or static FDB entries have changed.
    Something,
    /// The kernel had more to tell than there was room for: anything may have changed.
    Overflow,
}

/// A subscription to the kernel's changes.
pub struct Monitor {
    socket: TokioSocket,
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
        Ok(Self { socket })
    }

    /// Waits for a change that matters, and swallows those that come right with it. Cancelling loses nothing but
    /// messages of the same burst, which the caller's next look takes in.
    pub async fn changed(&mut self) -> Change {
        loop {
            let Some(mut change) = relevance(self.socket.recv_from_full().await) else { continue };
            // A burst can be longer than what tokio lets a task do in one go.
            while let Some(received) = unconstrained(self.socket.recv_from_full()).now_or_never() {
                if relevance(received) == Some(Change::Overflow) {
                    change = Change::Overflow;
                }
            }
            return change;
        }
    }
}

fn relevance(received: io::Result<(Vec<u8>, SocketAddr)>) -> Option<Change> {
    match received {
        Ok((messages, _)) => is_relevant(&messages).then_some(Change::Something),
        // ENOBUFS above all; whatever else it is, another look cannot hurt.
        Err(_) => Some(Change::Overflow),
    }
}

/// Layout of `struct nlmsghdr` and, behind it, `struct ndmsg` (kernel `uapi/linux/netlink.h`, `neighbour.h`).
const HEADER_LEN: usize = 16;
const MESSAGE_TYPE: usize = 4;
const NEIGHBOUR_FAMILY: usize = HEADER_LEN;
const NEIGHBOUR_STATE: usize = HEADER_LEN + 8;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const AF_BRIDGE: u8 = 7;
/// What somebody has set, rather than the bridge or vxlan device learned: `NUD_NOARP | NUD_PERMANENT`.
const STATIC_STATES: u16 = 0x40 | 0x80;

/// Whether any of the messages in a datagram matters: learned FDB entries come and go with every guest's packets.
fn is_relevant(mut messages: &[u8]) -> bool {
    while let Some(length) = messages.first_chunk().map(|length| u32::from_ne_bytes(*length) as usize) {
        let Some(message) = messages.get(..length.max(HEADER_LEN)) else { return true };
        let is_learned = matches!(u16_at(message, MESSAGE_TYPE), Some(RTM_NEWNEIGH | RTM_DELNEIGH))
            && message.get(NEIGHBOUR_FAMILY) == Some(&AF_BRIDGE)
            && u16_at(message, NEIGHBOUR_STATE).is_some_and(|state| state & STATIC_STATES == 0);
        if !is_learned {
            return true;
        }
        // Messages are aligned to four bytes.
        messages = messages.get(message.len().next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

fn u16_at(message: &[u8], offset: usize) -> Option<u16> {
    message.get(offset..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbour_message(kind: u16, family: u8, state: u16) -> Vec<u8> {
        let mut message = vec![0; 28];
        message[..4].copy_from_slice(&28_u32.to_ne_bytes());
        message[MESSAGE_TYPE..][..2].copy_from_slice(&kind.to_ne_bytes());
        message[NEIGHBOUR_FAMILY] = family;
        message[NEIGHBOUR_STATE..][..2].copy_from_slice(&state.to_ne_bytes());
        message
    }

    #[test]
    fn a_learned_fdb_entry_wakes_nobody() {
        const REACHABLE: u16 = 0x02;
        assert!(!is_relevant(&neighbour_message(RTM_NEWNEIGH, AF_BRIDGE, REACHABLE)));
    }

    #[test]
    fn a_static_fdb_entry_an_underlay_neighbour_and_a_link_do() {
        const AF_INET: u8 = 2;
        const RTM_NEWLINK: u16 = 16;
        assert!(is_relevant(&neighbour_message(RTM_DELNEIGH, AF_BRIDGE, 0x80)));
        assert!(is_relevant(&neighbour_message(RTM_NEWNEIGH, AF_INET, 0x02)));
        assert!(is_relevant(&neighbour_message(RTM_NEWLINK, 0, 0)));
    }

    #[test]
    fn one_relevant_message_among_learned_ones_is_enough() {
        let mut datagram = neighbour_message(RTM_NEWNEIGH, AF_BRIDGE, 0x02);
        datagram.extend(neighbour_message(RTM_DELNEIGH, AF_BRIDGE, 0x40));
        assert!(is_relevant(&datagram));
    }
}
