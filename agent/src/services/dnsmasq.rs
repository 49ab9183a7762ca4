//! What dnsmasq needs besides what every program does: a version that can do it, and somebody who gives leases back.

use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV6, UdpSocket},
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    net::if_::if_nametoindex,
    sys::socket::{setsockopt, sockopt::BindToDevice},
};
use overlane_core::services::{
    Reservations,
    dhcp::{
        self,
        leases::{DHCP_SERVER_PORT, DHCPV6_CLIENT_PORT, DHCPV6_SERVER_PORT, DHCPV6_SERVERS, Lease, Leases},
    },
};

use crate::kernel::Namespace;

/// How often it is looked whether leases have gone, and for how long.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const LOOKS: u32 = 60;

/// Whether the dnsmasq of this host can do what is asked of it.
///
/// # Errors
/// When it is missing ([`io::ErrorKind::NotFound`]), or too old, with what to do.
pub(super) fn check() -> io::Result<()> {
    let output = Command::new(dhcp::PROGRAM).arg("--version").output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let version = dhcp::parse_version(&said)
        .ok_or_else(|| io::Error::other(format!("{} --version says {:?}", dhcp::PROGRAM, said.trim())))?;
    dhcp::why_too_old(version).map_or(Ok(()), |reason| Err(io::Error::other(reason)))
}

/// Has the server in a namespace forget leases, and waits until it has.
///
/// # Errors
/// When it cannot be asked, or does not forget them.
pub(super) async fn release(namespace: &Namespace, from: &Reservations, leases: &[Lease]) -> anyhow::Result<()> {
    let server_id = Leases::parse(&fs::read_to_string(&from.leases).unwrap_or_default()).server_id.unwrap_or_default();
    namespace.inside(|| send(from, leases, &server_id))?.with_context(|| format!("sending by {}", from.link))?;
    for _ in 0..LOOKS {
        let text = fs::read_to_string(&from.leases).unwrap_or_default();
        if from.stale(&text).iter().all(|lease| !leases.contains(lease)) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    anyhow::bail!("{} does not forget them", dhcp::PROGRAM)
}

fn send(from: &Reservations, leases: &[Lease], server_id: &[u8]) -> io::Result<()> {
    // As if they came in by the link: it is by their link that the server tells networks apart.
    let by_link = |socket: UdpSocket| -> io::Result<UdpSocket> {
        setsockopt(&socket, BindToDevice, &from.link.clone().into())?;
        Ok(socket)
    };
    for lease in leases {
        match lease {
            Lease::V4 { .. } => {
                let socket = by_link(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?)?;
                for server in &from.servers {
                    socket.send_to(&lease.release(*server, server_id), (*server, DHCP_SERVER_PORT))?;
                }
            }
            Lease::V6 { .. } => {
                let socket = by_link(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, DHCPV6_CLIENT_PORT))?)?;
                let servers =
                    SocketAddrV6::new(DHCPV6_SERVERS, DHCPV6_SERVER_PORT, 0, if_nametoindex(from.link.as_str())?);
                socket.send_to(&lease.release(Ipv4Addr::UNSPECIFIED, server_id), servers)?;
            }
        }
    }
    Ok(())
}
