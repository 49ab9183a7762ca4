//! From packets as the reference knows them to frames.

use std::net::IpAddr;

use overlane_core::{
    model::Mac,
    security::{
        Direction,
        model::{Content, Fragment, Ip, Message, Packet, Quoted, Segment, Transport},
    },
};

use super::{OWN_MAC, REMOTE_MAC};
use crate::packet::{ETHERNET, Ends, Frame, arp};

/// Bytes of UDP payload, so that a packet can be cut in pieces.
const PAYLOAD: usize = 64;

/// The frame of a packet that a port sends or receives.
pub fn frame(packet: &Packet, direction: Direction) -> Frame {
    let destination_mac = if direction == Direction::Egress { REMOTE_MAC } else { OWN_MAC };
    let ends = |source, destination| Ends {
        source_mac: packet.source_mac.0,
        destination_mac: destination_mac.0,
        source,
        destination,
        traffic_class: 0,
    };
    let anything = || ends([192, 0, 2, 1].into(), [192, 0, 2, 2].into()).udp(20);
    let frame = match &packet.content {
        Content::Arp { sender_mac, sender, target } => {
            let ends = ends((*sender).into(), (*target).into());
            let mut frame = arp(&ends, 1, [0; 6]);
            frame.0[ETHERNET + 8..ETHERNET + 14].copy_from_slice(&sender_mac.0);
            frame
        }
        // A header of four words only.
        Content::MalformedIp => anything().with_byte(ETHERNET, 0x44),
        Content::LinkControl => {
            let mut frame = other(anything());
            frame.0[..6].copy_from_slice(&[0x01, 0x80, 0xc2, 0, 0, 0]);
            frame
        }
        Content::Other => other(anything()),
        Content::Ip(ip) => in_pieces(ip, transport(&ends(ip.source, ip.destination), ip)),
    };
    if packet.is_tagged { frame.tagged(5) } else { frame }
}

/// An ethertype for experiments (IEEE 802).
fn other(frame: Frame) -> Frame {
    frame.with_byte(12, 0x88).with_byte(13, 0xb5)
}

fn transport(ends: &Ends, ip: &Ip) -> Frame {
    match ip.transport {
        Transport::Tcp { source, destination, segment } => ends.segment(source, destination, flags(segment)),
        Transport::Ports { source, destination } if ip.protocol == 17 => {
            ends.udp_between(source, destination, &[0; PAYLOAD])
        }
        Transport::Ports { source, destination } => {
            let ports = [source.to_be_bytes(), destination.to_be_bytes()].concat();
            ends.ip(ip.protocol, &[ports, vec![0; PAYLOAD]].concat())
        }
        Transport::Icmp { kind, code, message } => icmp(ends, kind, code, &message),
        Transport::Unknown => ends.ip(ip.protocol, &[0; PAYLOAD]),
    }
}

fn flags(segment: Segment) -> u8 {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    const RST: u8 = 4;
    const ACK: u8 = 16;
    match segment {
        Segment::Syn => SYN,
        Segment::SynAck => SYN | ACK,
        Segment::Ack => ACK,
        Segment::Fin => FIN | ACK,
        Segment::Rst => RST,
        Segment::Nonsense => SYN | FIN,
    }
}

fn icmp(ends: &Ends, kind: u8, code: u8, message: &Message) -> Frame {
    match message {
        Message::Echo { id } => {
            let [high, low] = id.to_be_bytes();
            ends.icmp(kind, code, [high, low, 0, 1], &[])
        }
        Message::Discovery { link_layer, target } => {
            let target = target.map(|target| target.octets().to_vec()).unwrap_or_default();
            let option = link_layer.map(|mac| link_layer_option(kind, mac)).unwrap_or_default();
            ends.icmp(kind, code, [0; 4], &[target, option].concat())
        }
        Message::Quote(quoted) => ends.icmp(kind, code, [0; 4], &quoted.as_ref().map(quote).unwrap_or_default()),
        Message::Other => ends.icmp(kind, code, [0; 4], &[0; 8]),
    }
}

fn link_layer_option(kind: u8, mac: Mac) -> Vec<u8> {
    const ADVERTISEMENT: u8 = 136;
    [&[if kind == ADVERTISEMENT { 2 } else { 1 }, 1], &mac.0[..]].concat()
}

/// IP header and eight bytes more of a packet that somebody complains about.
fn quote(quoted: &Quoted) -> Vec<u8> {
    let ends = Ends {
        source_mac: [0; 6],
        destination_mac: [0; 6],
        source: quoted.source,
        destination: quoted.destination,
        traffic_class: 0,
    };
    let is_v6 = quoted.source.is_ipv6();
    let frame = match (quoted.protocol, quoted.ports) {
        (6, [source, destination]) => ends.segment(source, destination, 16),
        (17, [source, destination]) => ends.udp_between(source, destination, &[]),
        // An identifier on the side that asks.
        (_, [id, 0]) => icmp(&ends, if is_v6 { 128 } else { 8 }, 0, &Message::Echo { id }),
        (_, [_, id]) => icmp(&ends, if is_v6 { 129 } else { 0 }, 0, &Message::Echo { id }),
    };
    frame.0[ETHERNET..frame.transport() + 8].to_vec()
}

fn in_pieces(ip: &Ip, whole: Frame) -> Frame {
    let is_v6 = matches!(ip.source, IpAddr::V6(_));
    debug_assert_eq!(is_v6, ip.is_v6());
    let end = whole.0.len() - whole.transport();
    match ip.fragment {
        Fragment::Whole => whole,
        Fragment::First { id, end } => whole.fragment(id as u16, 0, end as usize),
        Fragment::Later { id, offset } => whole.fragment(id as u16, offset as usize, end),
    }
}
