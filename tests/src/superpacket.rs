//! Superpackets: packets that stand for many, as a guest hands them to its tap.

use crate::{
    packet::{ETHERNET, Ends, Frame},
    tap::Offload,
};

/// Payload of each segment.
pub const SEGMENT: u16 = 1300;
const PAYLOAD: usize = 10 * SEGMENT as usize;

/// A superpacket as a guest's virtio driver hands it over: its checksum is that of the pseudo-header only.
pub fn superpacket(ends: &Ends, kind: u8) -> (Offload, Frame) {
    let frame = if kind == Offload::UDP { ends.udp(PAYLOAD) } else { ends.tcp(PAYLOAD) };
    unfinished(ends, kind, frame)
}

/// As `superpacket`, of a conversation between two ports: TCP goes on at `number`, and acknowledges `acknowledged`.
pub fn superpacket_between(
    ends: &Ends,
    kind: u8,
    ports: [u16; 2],
    [number, acknowledged]: [u32; 2],
) -> (Offload, Frame) {
    const ACK: u8 = 16;
    let payload = [0; PAYLOAD];
    let frame = match kind {
        Offload::UDP => ends.udp_between(ports[0], ports[1], &payload),
        _ => ends.numbered_segment(ports, ACK, [number, acknowledged], &payload),
    };
    unfinished(ends, kind, frame)
}

fn unfinished(ends: &Ends, kind: u8, mut frame: Frame) -> (Offload, Frame) {
    let ip_len = if ends.source.is_ipv6() { 40 } else { 20 };
    let (transport_len, checksum_offset) = if kind == Offload::UDP { (8, 6) } else { (20, 16) };
    let transport = ETHERNET + ip_len;
    let checksum = pseudo_header_checksum(ends, &frame, transport);
    frame.0[transport + checksum_offset..transport + checksum_offset + 2].copy_from_slice(&checksum.to_be_bytes());
    let offload = Offload {
        needs_checksum: true,
        kind,
        header_len: (transport + transport_len) as u16,
        segment_size: SEGMENT,
        checksum_start: transport as u16,
        checksum_offset: checksum_offset as u16,
    };
    (offload, frame)
}

/// The sum, not complemented, of addresses, protocol and length (RFC 9293 §3.1, RFC 8200 §8.1).
fn pseudo_header_checksum(ends: &Ends, frame: &Frame, transport: usize) -> u16 {
    let addresses = if ends.source.is_ipv6() { &frame.0[22..54] } else { &frame.0[26..34] };
    let protocol = if ends.source.is_ipv6() { frame.0[20] } else { frame.0[23] };
    let length = (frame.0.len() - transport) as u32;
    let words = addresses.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum = words.sum::<u32>() + u32::from(protocol) + (length >> 16) + (length & 0xffff);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
