//! Listings: what the kernel has any number of, taken apart as it comes.

use std::{io, sync::atomic::Ordering};

use rtnetlink::{
    packet_core::{DecodeError, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
};

use super::Kernel;

/// What was made or removed while the kernel listed it may have hidden others: it says so, and is asked again. A host on which
/// something always is has to do with what there is.
const ATTEMPTS: usize = 5;

impl Kernel {
    /// What `wanted` makes of each message of a listing. They are not collected, as a link's takes 14 KB once it is taken apart, nearly
    /// all of it room for attributes. The kernel makes them while they are read, so there is nothing to wait for meanwhile.
    pub(super) fn list<T>(
        &self,
        what: RouteNetlinkMessage,
        mut wanted: impl FnMut(RouteNetlinkMessage) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut request = NetlinkMessage::from(what);
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        request.finalize();
        let mut found = Vec::new();
        for _ in 0..ATTEMPTS {
            found.clear();
            let mut is_whole = true;
            self.take_apart(&mut request, |message, flags| {
                is_whole &= flags & NLM_F_DUMP_INTR == 0;
                found.extend(message.and_then(&mut wanted));
            })?;
            if is_whole {
                break;
            }
        }
        Ok(found)
    }

    /// Shows `take` each message of a listing, and the flags of all of its messages.
    fn take_apart(
        &self,
        request: &mut NetlinkMessage<RouteNetlinkMessage>,
        mut take: impl FnMut(Option<RouteNetlinkMessage>, u16),
    ) -> io::Result<()> {
        // What is left of a listing that was given up has another number.
        let number = self.listings.fetch_add(1, Ordering::Relaxed);
        request.header.sequence_number = number;
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.bulk.send(&bytes, 0)?;
        loop {
            let (datagram, _) = self.bulk.recv_from_full()?;
            // One that this version does not know is left out.
            for message in messages(&datagram).flatten().filter(|message| message.header.sequence_number == number) {
                let flags = message.header.flags;
                match message.payload {
                    NetlinkPayload::InnerMessage(message) => take(Some(message), flags),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Done(_) | NetlinkPayload::Error(_) => {
                        take(None, flags);
                        return Ok(());
                    }
                    _ => (),
                }
            }
        }
    }
}

/// The messages of a datagram; an error for each that this version does not know.
pub(super) fn messages(
    mut datagram: &[u8],
) -> impl Iterator<Item = Result<NetlinkMessage<RouteNetlinkMessage>, DecodeError>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
        let message = NetlinkMessage::deserialize(datagram);
        // Messages are aligned to four bytes.
        datagram = datagram.get(length.max(1).next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::link::LinkMessage;

    use super::*;

    /// No message of rtnetlink has this number.
    const UNKNOWN: u16 = 0xfff0;

    fn bytes(ifindex: u32) -> Vec<u8> {
        let mut message = LinkMessage::default();
        message.header.index = ifindex;
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::NewLink(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn indices(datagram: &[u8]) -> Vec<Option<u32>> {
        let index = |message: Result<NetlinkMessage<_>, _>| match message.ok()?.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Some(link.header.index),
            _ => None,
        };
        messages(datagram).map(index).collect()
    }

    #[test]
    fn a_message_that_is_not_known_hides_none_behind_it() {
        let mut unknown = bytes(2);
        unknown[4..6].copy_from_slice(&UNKNOWN.to_ne_bytes());
        assert_eq!(indices(&[bytes(1), unknown, bytes(3)].concat()), [Some(1), None, Some(3)]);
    }

    #[test]
    fn a_datagram_that_is_cut_off_or_makes_no_sense_ends() {
        let whole = [bytes(1), bytes(2)].concat();
        assert_eq!(indices(&whole[..whole.len() - 1]), [Some(1), None]);
        assert_eq!(indices(&[0; 8]).len(), 8 / 4);
        assert_eq!(indices(&[]), []);
    }
}
