//! Telling the neighbours of addresses that have come: gratuitous ARP and unsolicited neighbour advertisements.

use std::{
    collections::HashMap,
    net::IpAddr,
    os::fd::{AsRawFd as _, OwnedFd},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    ifaddrs::getifaddrs,
    libc::{AF_PACKET, sockaddr_ll},
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike as _, sendto, socket,
    },
};
use overlane_core::{model::Mac, services::announcement};

use crate::kernel::Namespace;

/// When the same is said again: a frame may be lost, and a tap that is new is put into its bridge only afterwards.
const AGAIN: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];

/// An address that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announcement {
    /// The name of its link.
    pub(super) link: String,
    pub(super) address: IpAddr,
}

/// Tells the neighbours, now and some more times in the background.
///
/// # Errors
/// When there is no socket to be had.
pub(super) fn announce(namespace: &Namespace, announcements: &[Announcement]) -> anyhow::Result<()> {
    let open = || {
        let interfaces = getifaddrs()?.filter_map(|interface| {
            let link = interface.address?.as_link_addr().copied()?;
            Some((interface.interface_name, (link.ifindex(), Mac(link.addr()?))))
        });
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // Protocol 0: it sends, and receives nothing.
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None::<SockProtocol>)?;
        Ok::<_, nix::Error>((socket, interfaces.collect::<HashMap<_, _>>()))
    };
    let (socket, interfaces) = namespace.inside(open)?.context("opening a packet socket")?;
    let known = announcements.iter().filter_map(|one| Some((*interfaces.get(&one.link)?, one.address)));
    let frames: Vec<(usize, Vec<u8>)> = known
        .flat_map(|((ifindex, mac), address)| announcement(mac, address).into_iter().map(move |frame| (ifindex, frame)))
        .collect();
    // The socket stays in its namespace, wherever the thread is.
    let say = move || {
        for (ifindex, frame) in &frames {
            // A link that is gone has no neighbours.
            let _ = send(&socket, *ifindex, frame);
        }
    };
    say();
    tokio::spawn(async move {
        for wait in AGAIN {
            tokio::time::sleep(wait).await;
            say();
        }
    });
    Ok(())
}

fn send(socket: &OwnedFd, ifindex: usize, frame: &[u8]) -> nix::Result<()> {
    let to = sockaddr_ll {
        sll_family: AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: i32::try_from(ifindex).map_err(|_| nix::Error::EINVAL)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: `to` is a whole `sockaddr_ll` that says so in its first field, and it is copied.
    let to = unsafe { LinkAddr::from_raw((&raw const to).cast(), Some(size_of::<sockaddr_ll>() as u32)) };
    let to = to.ok_or(nix::Error::EINVAL)?;
    sendto(socket.as_raw_fd(), frame, &to, MsgFlags::empty()).map(drop)
}
