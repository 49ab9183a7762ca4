//! The way to the transport header of an IPv6 packet that has others before it.

use crate::{
    buffer::Buffer,
    security::packet::{Fragment, Packet, Part},
};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;

/// Headers that are followed. A packet with more of them is not admitted: nobody needs them, and a filter that gives up
/// half-way must not let pass what it has not seen.
const HEADERS_MAX: usize = 8;

const FRAGMENT_LEN: usize = 8;
const MORE_FRAGMENTS: u16 = 1;
/// In units of eight bytes, the low bits being flags: as it stands, it is in bytes.
const FRAGMENT_OFFSET: u16 = 0xfff8;

/// Finds the transport header of a packet that ends at `end`; `None`: there is none within the packet, or within reach.
///
/// Authentication (51), encapsulation (50) and "no next header" (59) count as transport: rules can name them, and what is
/// behind them is theirs.
#[inline(never)]
pub fn skip(buffer: impl Buffer, packet: &mut Packet, end: usize) -> Option<()> {
    let mut protocol = packet.protocol;
    let mut at = usize::from(packet.transport);
    for _ in 0..HEADERS_MAX {
        match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HOST_IDENTITY | SHIM6 => {
                let [next, units]: [u8; 2] = buffer.load(at)?;
                protocol = next;
                at += 8 + 8 * usize::from(units);
            }
            // More than one of them is nobody's doing but an attacker's.
            FRAGMENT if packet.fragment.part == Part::Whole => {
                let header: [u8; FRAGMENT_LEN] = buffer.load(at)?;
                protocol = header[0];
                at += FRAGMENT_LEN;
                let field = u16::from_be_bytes([header[2], header[3]]);
                let offset = u32::from(field & FRAGMENT_OFFSET);
                // One that says it is a fragment and is whole (RFC 6946) is neither.
                if field & MORE_FRAGMENTS != 0 || offset != 0 {
                    let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                    packet.fragment = Fragment::new(protocol, id, offset, end.checked_sub(at)?);
                }
            }
            FRAGMENT => return None,
            _ => break,
        }
        if at > end {
            return None;
        }
        if packet.fragment.part == Part::Later {
            break;
        }
    }
    (packet.protocol, packet.transport) = (protocol, at as u16);
    let is_found = packet.fragment.part == Part::Later || !is_extension_header(protocol);
    is_found.then_some(())
}

#[inline(always)]
fn is_extension_header(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HOST_IDENTITY | SHIM6 | FRAGMENT)
}
