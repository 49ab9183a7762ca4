//! Messages to the kernel's nf_tables: made by hand, as the `nft` program must not be needed for a host to be safe.
//!
//! Names and numbers are those of the kernel's `uapi/linux/netfilter/nf_tables.h` and `nfnetlink.h`.

use std::io;

use rtnetlink::sys::{AsyncSocket as _, Socket, SocketAddr, TokioSocket, protocols::NETLINK_NETFILTER};

/// The family of everything here.
const NFPROTO_BRIDGE: u8 = 7;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
/// The multicast group of changes.
const NFNLGRP_NFTABLES: u32 = 7;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
/// Flags of messages that make something: it may be there already.
pub(super) const CREATE: u16 = 0x400;
/// Behind what is there.
pub(super) const APPEND: u16 = 0x800;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;

/// Lengths of `struct nlmsghdr`, and with `struct nfgenmsg` behind it.
const HEADER_LEN: usize = 16;
const PREFIX_LEN: usize = HEADER_LEN + 4;
const ATTRIBUTE_HEADER_LEN: usize = 4;

/// What a message asks for (`enum nf_tables_msg_types`).
#[derive(Clone, Copy)]
pub(super) enum Request {
    NewTable = 0,
    DeleteTable = 2,
    NewChain = 3,
    NewRule = 6,
    GetRule = 7,
    NewSet = 9,
    NewElement = 12,
    GetElement = 13,
    DeleteElement = 14,
}

/// What the kernel says when a table, a chain, a rule, a set or one of its elements is gone.
const DELETIONS: [u16; 5] = {
    const OF_NFTABLES: u16 = NFNL_SUBSYS_NFTABLES << 8;
    [OF_NFTABLES | 2, OF_NFTABLES | 5, OF_NFTABLES | 8, OF_NFTABLES | 11, OF_NFTABLES | 14]
};

/// Attributes of a message, or of another attribute.
#[derive(Clone, Default)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    /// Adds bytes.
    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = (ATTRIBUTE_HEADER_LEN + value.len()) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds a text, which ends with a zero byte.
    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Adds a number. (nf_tables has its numbers in network byte order.)
    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds attributes.
    pub(super) fn nested(self, kind: u16, value: &Self) -> Self {
        self.bytes(kind | NLA_F_NESTED, &value.0)
    }
}

/// Finds the value of an attribute.
pub(super) fn find(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    while let Some((found, value, rest)) = split(attributes) {
        if found == kind {
            return Some(value);
        }
        attributes = rest;
    }
    None
}

/// All values of attributes that follow one another.
pub(super) fn values(mut attributes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (_, value, rest) = split(attributes)?;
        attributes = rest;
        Some(value)
    })
}

fn split(attributes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::from(u16::from_ne_bytes(*attributes.first_chunk()?));
    let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?) & NLA_TYPE_MASK;
    let value = attributes.get(ATTRIBUTE_HEADER_LEN..length)?;
    Some((kind, value, attributes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// Tells of changes to nf_tables, whoever makes them.
///
/// # Errors
/// When the kernel has none, or does not let this process listen.
pub(super) fn subscribe() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 1 << (NFNLGRP_NFTABLES - 1)))?;
    Ok(socket)
}

/// Whether something of a table of the bridge family is gone, or all of it, as a datagram of changes has it.
pub(super) fn takes_from(datagram: &[u8], table: &str) -> bool {
    const TABLE: u16 = 1;
    let is_meant = |answer: &Answer| {
        let attributes = answer.body.get(PREFIX_LEN - HEADER_LEN..).unwrap_or_default();
        // In everything that belongs to a table, as in the table itself, it is the first attribute, with a zero byte at its end.
        let name = find(attributes, TABLE).and_then(|name| name.strip_suffix(&[0]));
        answer.body.first() == Some(&NFPROTO_BRIDGE) && name == Some(table.as_bytes())
    };
    answers(datagram).any(|answer| DELETIONS.contains(&answer.kind) && is_meant(&answer))
}

/// A connection to nf_tables.
pub(super) struct Nftables {
    socket: Socket,
}

impl Nftables {
    pub(super) fn connect() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket })
    }

    /// Carries out all of the requests, or none.
    pub(super) fn transact(&self, requests: &[(Request, u16, Attributes)]) -> io::Result<()> {
        let last = requests.len() as u32;
        let mut batch = message(NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, 0, 0, NFNL_SUBSYS_NFTABLES, &[]);
        for (sequence, (request, flags, attributes)) in (1..).zip(requests) {
            let acknowledge = if sequence == last { NLM_F_ACK } else { 0 };
            let flags = NLM_F_REQUEST | acknowledge | flags;
            batch.extend(message(kind(*request), flags, sequence, NFPROTO_BRIDGE, 0, &attributes.0));
        }
        batch.extend(message(NFNL_MSG_BATCH_END, NLM_F_REQUEST, last + 1, 0, NFNL_SUBSYS_NFTABLES, &[]));
        self.socket.send(&batch, 0)?;
        let mut refused = None;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
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
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        self.socket.send(&message(kind(request), flags, 0, NFPROTO_BRIDGE, 0, &attributes.0), 0)?;
        let mut objects = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for answer in answers(&datagram) {
                match answer.kind {
                    NLMSG_DONE => return Ok(objects),
                    NLMSG_ERROR => match answer.error() {
                        Some(error) => return Err(error),
                        None => return Ok(objects),
                    },
                    _ => objects.push(answer.body.get(PREFIX_LEN - HEADER_LEN..).unwrap_or_default().to_vec()),
                }
            }
        }
    }
}

fn kind(request: Request) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | request as u16
}

fn message(kind: u16, flags: u16, sequence: u32, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(PREFIX_LEN + attributes.len());
    message.extend(((PREFIX_LEN + attributes.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend([family, 0]);
    message.extend(resource.to_be_bytes());
    message.extend(attributes);
    message
}

struct Answer<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

impl Answer<'_> {
    /// The refusal that an acknowledgement carries, unless it says that all is well.
    fn error(&self) -> Option<io::Error> {
        let code = i32::from_ne_bytes(*self.body.first_chunk()?);
        (code != 0).then(|| io::Error::from_raw_os_error(-code))
    }
}

fn answers(mut datagram: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
        let (kind, sequence) = (datagram.get(4..)?.first_chunk()?, datagram.get(8..)?.first_chunk()?);
        let (kind, sequence) = (u16::from_ne_bytes(*kind), u32::from_ne_bytes(*sequence));
        let body = datagram.get(HEADER_LEN..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Answer { kind, sequence, body })
    })
}
