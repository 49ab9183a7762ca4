//! Messages to the kernel's netfilter: made by hand, as no other program must be needed for a host to be safe.
//!
//! Names and numbers are those of the kernel's `uapi/linux/netfilter/nfnetlink.h`.

use std::io;

use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

/// Families (`enum nfproto` of `uapi/linux/netfilter.h`).
pub(super) const NFPROTO_INET: u8 = 1;
pub(super) const NFPROTO_IPV4: u8 = 2;
pub(super) const NFPROTO_BRIDGE: u8 = 7;

pub(super) const NLM_F_REQUEST: u16 = 1;
pub(super) const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
pub(super) const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;

/// Lengths of `struct nlmsghdr`, and with `struct nfgenmsg` behind it.
pub(super) const HEADER_LEN: usize = 16;
pub(super) const PREFIX_LEN: usize = HEADER_LEN + 4;
const ATTRIBUTE_HEADER_LEN: usize = 4;

/// Attributes of a message, or of another attribute.
#[derive(Clone, Default)]
pub(super) struct Attributes(pub(super) Vec<u8>);

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

/// A connection to netfilter, in the network namespace that the calling thread is in.
pub(super) struct Netfilter {
    pub(super) socket: Socket,
}

impl Netfilter {
    pub(super) fn connect() -> io::Result<Self> {
        Self::connect_by(NETLINK_NETFILTER)
    }

    /// As `connect`, to whoever else speaks in messages of this shape.
    pub(super) fn connect_by(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket })
    }

    /// Lists what a request asks for: the attributes of each object.
    pub(super) fn list(&self, kind: u16, family: u8, attributes: &Attributes) -> io::Result<Vec<Vec<u8>>> {
        self.socket.send(&message(kind, NLM_F_REQUEST | NLM_F_DUMP, 0, family, 0, &attributes.0), 0)?;
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

    /// Asks for one object: its attributes.
    pub(super) fn ask(&self, kind: u16, family: u8, attributes: &Attributes) -> io::Result<Vec<u8>> {
        self.socket.send(&message(kind, NLM_F_REQUEST, 0, family, 0, &attributes.0), 0)?;
        let (datagram, _) = self.socket.recv_from_full()?;
        let answer = answers(&datagram).next().ok_or(io::ErrorKind::UnexpectedEof)?;
        match answer.kind {
            NLMSG_ERROR => Err(answer.error().unwrap_or_else(|| io::ErrorKind::NotFound.into())),
            _ => Ok(answer.body.get(PREFIX_LEN - HEADER_LEN..).unwrap_or_default().to_vec()),
        }
    }

    /// Has one thing done.
    pub(super) fn request(&self, kind: u16, family: u8, attributes: &Attributes) -> io::Result<()> {
        self.socket.send(&message(kind, NLM_F_REQUEST | NLM_F_ACK, 0, family, 0, &attributes.0), 0)?;
        let (datagram, _) = self.socket.recv_from_full()?;
        let refused = answers(&datagram).filter(|answer| answer.kind == NLMSG_ERROR).find_map(|answer| answer.error());
        refused.map_or(Ok(()), Err)
    }
}

pub(super) fn message(kind: u16, flags: u16, sequence: u32, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
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

/// One message of a datagram.
pub(super) struct Answer<'a> {
    pub(super) kind: u16,
    pub(super) sequence: u32,
    /// What follows the `struct nlmsghdr`.
    pub(super) body: &'a [u8],
}

impl Answer<'_> {
    /// The refusal that an acknowledgement carries, unless it says that all is well.
    pub(super) fn error(&self) -> Option<io::Error> {
        let code = i32::from_ne_bytes(*self.body.first_chunk()?);
        (code != 0).then(|| io::Error::from_raw_os_error(-code))
    }
}

/// The messages of a datagram.
pub(super) fn answers(mut datagram: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
        let (kind, sequence) = (datagram.get(4..)?.first_chunk()?, datagram.get(8..)?.first_chunk()?);
        let (kind, sequence) = (u16::from_ne_bytes(*kind), u32::from_ne_bytes(*sequence));
        let body = datagram.get(HEADER_LEN..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Answer { kind, sequence, body })
    })
}
