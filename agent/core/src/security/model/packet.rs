//! A packet as port security and security groups see it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::Mac;

/// An Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source MAC address.
    pub source_mac: Mac,
    /// Whether it has a VLAN tag.
    pub is_tagged: bool,
    /// What it carries.
    pub content: Content,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// ARP for IPv4 over Ethernet.
    Arp {
        /// Sender hardware address.
        sender_mac: Mac,
        /// Sender protocol address; unspecified in a probe.
        sender: Ipv4Addr,
        /// Target protocol address.
        target: Ipv4Addr,
    },
    /// IPv4 or IPv6.
    Ip(Ip),
    /// IP or transport headers that do not hold together.
    MalformedIp,
    /// Spanning tree, LLDP and pause frames, by their destination (01:80:c2:00:00:0x).
    LinkControl,
    /// Any other ethertype.
    Other,
}

/// An IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// Protocol number, behind any IPv6 extension headers.
    pub protocol: u8,
    /// What is known of the transport header.
    pub transport: Transport,
    /// Whether it is a part of a packet only.
    pub fragment: Fragment,
}

/// Whether a packet is whole. The identification is that of the IP or fragment header; lengths and offsets are bytes behind the
/// headers that every fragment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// It is.
    Whole,
    /// Its beginning, with the transport header.
    First {
        /// Identification.
        id: u32,
        /// Where its data ends.
        end: u32,
    },
    /// The rest, or some of it.
    Later {
        /// Identification.
        id: u32,
        /// Where its data begins.
        offset: u32,
    },
}

/// What is known of a transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// What its flags say.
        segment: Segment,
    },
    /// UDP, UDP-Lite, SCTP and DCCP.
    Ports {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ICMP and ICMPv6.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// What follows.
        message: Message,
    },
    /// Any other protocol, and later fragments.
    Unknown,
}

/// What a TCP segment's flags say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// SYN.
    Syn,
    /// SYN and ACK.
    SynAck,
    /// ACK.
    Ack,
    /// FIN and ACK.
    Fin,
    /// RST, with or without ACK.
    Rst,
    /// What no TCP sends: nothing at all, FIN without ACK, SYN with FIN or RST.
    Nonsense,
}

/// What follows type and code of an ICMP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// An echo request or reply; the code is 0.
    Echo {
        /// Identifier.
        id: u16,
    },
    /// Neighbour discovery: the link-layer address in its option, if any, and the target, if the message has one.
    Discovery {
        /// Link-layer address.
        link_layer: Option<Mac>,
        /// Target address.
        target: Option<Ipv6Addr>,
    },
    /// An error: the flow of the packet that it quotes, from that packet's sender to its destination.
    Quote(Option<Quoted>),
    /// Anything else.
    Other,
}

/// The packet that an ICMP error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Its source.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// Its protocol.
    pub protocol: u8,
    /// Its source and destination port; ICMP echo: identifier on the side that asks, 0 on the other.
    pub ports: [u16; 2],
}

impl Ip {
    /// Whether it is IPv6.
    pub fn is_v6(&self) -> bool {
        self.source.is_ipv6()
    }

    /// ICMPv6 type of a message that is one.
    pub(super) fn icmpv6(&self) -> Option<u8> {
        match self.transport {
            Transport::Icmp { kind, .. } if self.is_v6() => Some(kind),
            _ => None,
        }
    }

    /// Whether it is UDP between these ports.
    pub(super) fn is_udp(&self, from: u16, to: u16) -> bool {
        self.protocol == 17 && self.transport == Transport::Ports { source: from, destination: to }
    }

    /// Source and destination port; ICMP echo: as in [`Quoted::ports`].
    pub(super) fn ports(&self) -> [u16; 2] {
        match self.transport {
            Transport::Tcp { source, destination, .. } | Transport::Ports { source, destination } => {
                [source, destination]
            }
            Transport::Icmp { kind, message: Message::Echo { id }, .. } if is_echo_request(self.is_v6(), kind) => {
                [id, 0]
            }
            Transport::Icmp { message: Message::Echo { id }, .. } => [0, id],
            Transport::Icmp { .. } | Transport::Unknown => [0, 0],
        }
    }
}

/// Whether an ICMP type is an echo request.
pub(super) const fn is_echo_request(is_v6: bool, kind: u8) -> bool {
    kind == if is_v6 { 128 } else { 8 }
}
