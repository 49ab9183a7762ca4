//! The kernel's connection table: looking for connections, and cutting them.
//!
//! Names and numbers are those of the kernel's `uapi/linux/netfilter/nfnetlink_conntrack.h`.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use overlane_core::services::Connection;

use super::netfilter::{Attributes, NFPROTO_IPV4, Netfilter, find};

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const NLA_F_NESTED: u16 = 0x8000;

/// Cuts the connections of IPv4 that `is_cut`, in the namespace that the calling thread is in, and says how many those were.
///
/// # Errors
/// When the kernel cannot be asked, or refuses.
pub fn cut(is_cut: impl Fn(&Connection) -> bool) -> io::Result<usize> {
    let netfilter = Netfilter::connect()?;
    let kind = |message| NFNL_SUBSYS_CTNETLINK << 8 | message;
    let entries = netfilter.list(kind(IPCTNL_MSG_CT_GET), NFPROTO_IPV4, &Attributes::default())?;
    let mut n_cut = 0;
    for entry in entries.iter().filter(|entry| connection(entry).is_some_and(|connection| is_cut(&connection))) {
        let (Some(original), Some(id)) = (find(entry, CTA_TUPLE_ORIG), find(entry, CTA_ID)) else { continue };
        // The id is compared as well: what has begun between the same ends meanwhile is another connection.
        let which = Attributes::default().bytes(CTA_TUPLE_ORIG | NLA_F_NESTED, original).bytes(CTA_ID, id);
        match netfilter.request(kind(IPCTNL_MSG_CT_DELETE), NFPROTO_IPV4, &which) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            result => result.map(|()| n_cut += 1)?,
        }
    }
    Ok(n_cut)
}

struct Tuple {
    protocol: u8,
    source: SocketAddr,
    destination: SocketAddr,
}

fn connection(entry: &[u8]) -> Option<Connection> {
    let (original, reply) = (tuple(find(entry, CTA_TUPLE_ORIG)?)?, tuple(find(entry, CTA_TUPLE_REPLY)?)?);
    Some(Connection {
        protocol: original.protocol,
        source: original.source.ip(),
        destination: original.destination,
        answerer: reply.source,
        answered: reply.destination.ip(),
    })
}

fn tuple(attributes: &[u8]) -> Option<Tuple> {
    let (ip, protocol) = (find(attributes, CTA_TUPLE_IP)?, find(attributes, CTA_TUPLE_PROTO)?);
    let address = |kind| Some(IpAddr::V4(Ipv4Addr::from_octets(*find(ip, kind)?.first_chunk()?)));
    // ICMP has none.
    let port = |kind| find(protocol, kind).and_then(|port| Some(u16::from_be_bytes(*port.first_chunk()?))).unwrap_or(0);
    Some(Tuple {
        protocol: *find(protocol, CTA_PROTO_NUM)?.first()?,
        source: SocketAddr::new(address(CTA_IP_V4_SRC)?, port(CTA_PROTO_SRC_PORT)),
        destination: SocketAddr::new(address(CTA_IP_V4_DST)?, port(CTA_PROTO_DST_PORT)),
    })
}
