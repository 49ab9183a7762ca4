//! What the kernel's nf_tables is asked.
//!
//! Names and numbers are those of the kernel's `uapi/linux/netfilter/nf_tables.h` and `nfnetlink.h`.

use std::io;

use rtnetlink::sys::{AsyncSocket as _, SocketAddr, TokioSocket, protocols::NETLINK_NETFILTER};

use super::netfilter::{
    Answer, Attributes, HEADER_LEN, NFPROTO_BRIDGE, NFPROTO_INET, NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, Netfilter,
    PREFIX_LEN, answers, find, message,
};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
/// The multicast group of changes.
const NFNLGRP_NFTABLES: u32 = 7;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;

/// Flags of messages that make something: it may be there already.
pub(super) const CREATE: u16 = 0x400;
/// Behind what is there.
pub(super) const APPEND: u16 = 0x800;

/// What a message asks for (`enum nf_tables_msg_types`).
#[derive(Clone, Copy)]
pub(super) enum Request {
    NewTable = 0,
    DeleteTable = 2,
    NewChain = 3,
    GetChain = 4,
    NewRule = 6,
    GetRule = 7,
    NewSet = 9,
    GetSet = 10,
    NewElement = 12,
    GetElement = 13,
    DeleteElement = 14,
}

/// What the kernel says when a table, a chain, a rule, a set or one of its elements is gone.
const DELETIONS: [u16; 5] = {
    const OF_NFTABLES: u16 = NFNL_SUBSYS_NFTABLES << 8;
    [OF_NFTABLES | 2, OF_NFTABLES | 5, OF_NFTABLES | 8, OF_NFTABLES | 11, OF_NFTABLES | 14]
};

/// Tells of changes to nf_tables, whoever makes them.
///
/// # Errors
/// When the kernel has none, or does not let this process listen.
pub(super) fn subscribe() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 1 << (NFNLGRP_NFTABLES - 1)))?;
    Ok(socket)
}

/// Whether something of a table is gone, or all of it, as a datagram of changes has it: of the bridge's family or of `inet`.
pub(super) fn takes_from(datagram: &[u8], table: &str) -> bool {
    const TABLE: u16 = 1;
    let is_meant = |answer: &Answer| {
        let attributes = answer.body.get(PREFIX_LEN - HEADER_LEN..).unwrap_or_default();
        // In everything that belongs to a table, as in the table itself, it is the first attribute, with a zero byte at its end.
        let name = find(attributes, TABLE).and_then(|name| name.strip_suffix(&[0]));
        matches!(answer.body.first(), Some(&NFPROTO_BRIDGE | &NFPROTO_INET)) && name == Some(table.as_bytes())
    };
    answers(datagram).any(|answer| DELETIONS.contains(&answer.kind) && is_meant(&answer))
}

/// A connection to the tables of one family.
pub(super) struct Nftables {
    netfilter: Netfilter,
    family: u8,
}

impl Nftables {
    pub(super) fn connect(family: u8) -> io::Result<Self> {
        Ok(Self { netfilter: Netfilter::connect()?, family })
    }

    /// Carries out all of the requests, or none.
    pub(super) fn transact(&self, requests: &[(Request, u16, Attributes)]) -> io::Result<()> {
        let last = requests.len() as u32;
        let mut batch = message(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, 0, 0, NFNL_SUBSYS_NFTABLES, &[]);
        for (sequence, (request, flags, attributes)) in (1..).zip(requests) {
            let acknowledge = if sequence == last { NLM_F_ACK } else { 0 };
            let flags = NLM_F_REQUEST | acknowledge | flags;
            batch.extend(message(kind(*request), flags, sequence, self.family, 0, &attributes.0));
        }
        batch.extend(message(NFNL_MSG_BATCH_END, NLM_F_REQUEST, last + 1, 0, NFNL_SUBSYS_NFTABLES, &[]));
        self.netfilter.socket.send(&batch, 0)?;
        let mut refused = None;
        loop {
            let (datagram, _) = self.netfilter.socket.recv_from_full()?;
            for answer in answers(&datagram).filter(|answer| answer.kind == NLMSG_ERROR) {
                match answer.error() {
                    Some(error) => refused = refused.or(Some(error)),
                    None if refused.is_none() => return Ok(()),
                    None => (),
                }
                if answer.sequence >= last
                    && let Some(error) = refused.take()
                {
                    return Err(error);
                }
            }
            if let Some(error) = refused {
                // The kernel puts everything that it has to say about a batch into one datagram as long as it fits.
                return Err(error);
            }
        }
    }

    /// Lists what a request asks for: the attributes of each object.
    pub(super) fn list(&self, request: Request, attributes: &Attributes) -> io::Result<Vec<Vec<u8>>> {
        self.netfilter.list(kind(request), self.family, attributes)
    }
}

fn kind(request: Request) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | request as u16
}
