//! Packets: made, taken apart, and written down for people.

use std::{fmt, fs::File, net::IpAddr, path::Path};

use anyhow::{Context as _, Result};
use etherparse::{
    IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6FlowLabel, Ipv6Header, PacketBuilder,
    PacketBuilderStep, PacketHeaders,
};
use pcap_file::pcap::{PcapPacket, PcapWriter};

/// Length of an Ethernet header.
pub const ETHERNET: usize = 14;
/// Bytes that VXLAN puts in front of a frame, over IPv4 and IPv6.
pub const OVERHEAD: [usize; 2] = [50, 70];
/// The broadcast MAC address.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// An Ethernet frame.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame(pub Vec<u8>);

/// The ends of a conversation, as its packets' headers have them.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Source MAC address.
    pub source_mac: [u8; 6],
    /// Destination MAC address.
    pub destination_mac: [u8; 6],
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// DSCP and ECN.
    pub traffic_class: u8,
}

/// The parts of a VXLAN packet in front of the inner frame.
#[derive(Clone, Copy, Debug)]
pub struct Vxlan {
    /// The tunnel's ends.
    pub outer: Ends,
    /// UDP source port.
    pub source_port: u16,
    /// UDP destination port.
    pub port: u16,
    /// VXLAN Network Identifier.
    pub vni: u32,
    /// Whether the UDP checksum is filled in, rather than zero.
    pub has_checksum: bool,
}

impl Ends {
    /// The ends of a packet the other way.
    pub fn reversed(self) -> Self {
        Self {
            source_mac: self.destination_mac,
            destination_mac: self.source_mac,
            source: self.destination,
            destination: self.source,
            ..self
        }
    }

    /// A UDP packet with `length` bytes of payload.
    pub fn udp(&self, length: usize) -> Frame {
        self.udp_between(40_000, 50_000, &payload(length))
    }

    /// A TCP segment with `length` bytes of payload.
    pub fn tcp(&self, length: usize) -> Frame {
        let payload = payload(length);
        let builder = self.begin(IpNumber::TCP).tcp(40_000, 50_000, 1, 0xffff).ack(1);
        finish(builder.size(length), |bytes| builder.write(bytes, &payload))
    }

    /// A TCP segment without payload. `flags` are those of its header: 1 FIN, 2 SYN, 4 RST, 8 PSH, 16 ACK, 32 URG.
    pub fn segment(&self, source_port: u16, port: u16, flags: u8) -> Frame {
        self.numbered_segment([source_port, port], flags, [1, 0], &[])
    }

    /// As `segment`, with its place in the sequence, what it acknowledges, and a payload.
    pub fn numbered_segment(
        &self,
        [source_port, port]: [u16; 2],
        flags: u8,
        [number, acknowledged]: [u32; 2],
        payload: &[u8],
    ) -> Frame {
        let mut step = self.begin(IpNumber::TCP).tcp(source_port, port, number, 0xffff);
        for bit in (0..8).filter(|bit| flags >> bit & 1 != 0) {
            step = match bit {
                0 => step.fin(),
                1 => step.syn(),
                2 => step.rst(),
                3 => step.psh(),
                4 => step.ack(acknowledged),
                5 => step.urg(0),
                6 => step.ece(),
                _ => step.cwr(),
            };
        }
        finish(step.size(payload.len()), |bytes| step.write(bytes, payload))
    }

    /// An ICMP or, between IPv6 addresses, ICMPv6 message: type, code, the four bytes after the checksum, and what follows.
    pub fn icmp(&self, kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Frame {
        if self.source.is_ipv4() {
            let builder = self.begin(IpNumber::ICMP).icmpv4_raw(kind, code, rest);
            finish(builder.size(body.len()), |bytes| builder.write(bytes, body))
        } else {
            let builder = self.begin(IpNumber::IPV6_ICMP).icmpv6_raw(kind, code, rest);
            finish(builder.size(body.len()), |bytes| builder.write(bytes, body))
        }
    }

    /// A packet of any protocol.
    pub fn ip(&self, protocol: u8, payload: &[u8]) -> Frame {
        let builder = self.begin(IpNumber(protocol));
        finish(builder.size(payload.len()), |bytes| builder.write(bytes, IpNumber(protocol), payload))
    }

    /// A UDP packet between two ports.
    pub fn udp_between(&self, source_port: u16, port: u16, payload: &[u8]) -> Frame {
        let builder = self.begin(IpNumber::UDP).udp(source_port, port);
        finish(builder.size(payload.len()), |bytes| builder.write(bytes, payload))
    }

    fn begin(&self, protocol: IpNumber) -> PacketBuilderStep<IpHeaders> {
        let ip = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = Ipv4Header::new(0, 64, protocol, source.octets(), destination.octets());
                let header = header.as_mut().expect("an empty payload fits");
                header.dont_fragment = false;
                header.dscp = (self.traffic_class >> 2).try_into().expect("six bits");
                header.ecn = (self.traffic_class & 0b11).try_into().expect("two bits");
                IpHeaders::Ipv4(header.clone(), Ipv4Extensions::default())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = Ipv6Header {
                    traffic_class: self.traffic_class,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: 0,
                    next_header: protocol,
                    hop_limit: 64,
                    source: source.octets(),
                    destination: destination.octets(),
                };
                IpHeaders::Ipv6(header, Ipv6Extensions::default())
            }
            _ => panic!("the test mixes address families"),
        };
        PacketBuilder::ethernet2(self.source_mac, self.destination_mac).ip(ip)
    }
}

impl Vxlan {
    /// The packet that carries `inner`.
    pub fn wrap(&self, inner: &Frame) -> Frame {
        let [_, high, middle, low] = self.vni.to_be_bytes();
        let mut payload = vec![0x08, 0, 0, 0, high, middle, low, 0];
        payload.extend(&inner.0);
        let mut frame = self.outer.udp_between(self.source_port, self.port, &payload);
        if !self.has_checksum {
            let checksum = self.header_len() - 10;
            frame.0[checksum..checksum + 2].fill(0);
        }
        frame
    }

    /// Bytes in front of the inner frame.
    pub fn header_len(&self) -> usize {
        OVERHEAD[usize::from(self.outer.source.is_ipv6())]
    }
}

/// An ARP request or, with `operation` 2, a reply.
pub fn arp(ends: &Ends, operation: u16, target_mac: [u8; 6]) -> Frame {
    let (IpAddr::V4(sender), IpAddr::V4(target)) = (ends.source, ends.destination) else {
        panic!("ARP is for IPv4");
    };
    let mut bytes = [ends.destination_mac, ends.source_mac].concat();
    bytes.extend([0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4]);
    bytes.extend(operation.to_be_bytes());
    bytes.extend(ends.source_mac);
    bytes.extend(sender.octets());
    bytes.extend(target_mac);
    bytes.extend(target.octets());
    Frame(bytes)
}

/// A neighbour discovery message (135: solicitation, 136: advertisement) about `target` with one link-layer address.
pub fn neighbor_discovery(ends: &Ends, kind: u8, flags: u8, target: IpAddr, mac: [u8; 6]) -> Frame {
    let IpAddr::V6(target) = target else { panic!("neighbour discovery is for IPv6") };
    let mut body = [0; 28];
    body[4..20].copy_from_slice(&target.octets());
    body[20..22].copy_from_slice(&[if kind == 135 { 1 } else { 2 }, 1]);
    body[22..].copy_from_slice(&mac);
    let builder = ends.begin(IpNumber::IPV6_ICMP).icmpv6_raw(kind, 0, [flags, 0, 0, 0]);
    let mut frame = finish(builder.size(body.len() - 4), |bytes| builder.write(bytes, &body[4..]));
    // Neighbour discovery is only valid with this hop limit, which no checksum covers.
    frame.0[ETHERNET + 7] = 255;
    frame
}

/// The error that says that `original`, of which the IP header and 20 bytes are quoted, is too big for `mtu`.
pub fn too_big(ends: &Ends, mtu: u16, original: &Frame) -> Frame {
    let [high, low] = mtu.to_be_bytes();
    if ends.source.is_ipv4() {
        let quote = &original.0[ETHERNET..ETHERNET + 20 + 20];
        let builder = ends.begin(IpNumber::ICMP).icmpv4_raw(3, 4, [0, 0, high, low]);
        finish(builder.size(quote.len()), |bytes| builder.write(bytes, quote))
    } else {
        let quote = &original.0[ETHERNET..ETHERNET + 40 + 20];
        let builder = ends.begin(IpNumber::IPV6_ICMP).icmpv6_raw(2, 0, [0, 0, high, low]);
        finish(builder.size(quote.len()), |bytes| builder.write(bytes, quote))
    }
}

fn payload(length: usize) -> Vec<u8> {
    // A prime, so that no two neighbouring words are alike.
    (0..length).map(|index| (index % 251) as u8).collect()
}

fn finish<E: fmt::Debug>(size: usize, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Frame {
    let mut bytes = Vec::with_capacity(size);
    write(&mut bytes).expect("writing to memory");
    Frame(bytes)
}

impl Frame {
    /// The frame with a VLAN tag (802.1Q) in front of those that it has, whose priority is zero.
    #[must_use]
    pub fn tagged(self, vid: u16) -> Self {
        self.with_tag([0x81, 0x00], vid)
    }

    /// The frame with a tag of the given type and contents: priority, drop eligibility and VID.
    #[must_use]
    pub fn with_tag(mut self, kind: [u8; 2], contents: u16) -> Self {
        let [high, low] = contents.to_be_bytes();
        self.0.splice(12..12, [kind[0], kind[1], high, low]);
        self
    }

    /// The contents of its VLAN tags (802.1Q), the outermost first: priority, drop eligibility and VID.
    pub fn tags(&self) -> Vec<u16> {
        let tags = self.0[12..].chunks_exact(4).take_while(|tag| tag[..2] == [0x81, 0x00]);
        tags.map(|tag| u16::from_be_bytes([tag[2], tag[3]])).collect()
    }

    /// The first `length` bytes.
    #[must_use]
    pub fn truncated(mut self, length: usize) -> Self {
        self.0.truncate(length);
        self
    }

    /// The frame with one byte replaced.
    #[must_use]
    pub fn with_byte(mut self, offset: usize, value: u8) -> Self {
        self.0[offset] = value;
        self
    }

    /// Offset of the transport header of an IP packet without options or extension headers.
    pub fn transport(&self) -> usize {
        if self.0[ETHERNET] >> 4 == 4 { ETHERNET + 20 } else { ETHERNET + 40 }
    }

    /// The IP packet with an IPv6 extension header in front of what follows the IP header. Its first byte is filled in; the
    /// others are given.
    #[must_use]
    pub fn with_extension(mut self, kind: u8, rest: &[u8]) -> Self {
        const LENGTH: usize = ETHERNET + 4;
        const NEXT_HEADER: usize = ETHERNET + 6;
        let next = std::mem::replace(&mut self.0[NEXT_HEADER], kind);
        let header: Vec<u8> = std::iter::once(next).chain(rest.iter().copied()).collect();
        let length = self.0.len() - ETHERNET - 40 + header.len();
        self.0[LENGTH..LENGTH + 2].copy_from_slice(&u16::try_from(length).expect("a short packet").to_be_bytes());
        self.0.splice(ETHERNET + 40..ETHERNET + 40, header);
        self
    }

    /// The part of an IP packet's payload from `from` up to `to` bytes, as a fragment with the identification `id`. All of it
    /// from `to` on is still to come, if there is anything.
    #[must_use]
    pub fn fragment(&self, id: u16, from: usize, to: usize) -> Self {
        let transport = self.transport();
        let payload = &self.0[transport..];
        let has_more = to < payload.len();
        let offset = u16::try_from(from / 8).expect("a short packet");
        let mut frame = Self(self.0[..transport].to_vec());
        frame.0.extend(&payload[from..to.min(payload.len())]);
        if self.0[ETHERNET] >> 4 == 4 {
            let length = u16::try_from(frame.0.len() - ETHERNET).expect("a short packet");
            let field = offset | u16::from(has_more) << 13;
            for (at, value) in [(2, length), (4, id), (6, field)] {
                frame.0[ETHERNET + at..ETHERNET + at + 2].copy_from_slice(&value.to_be_bytes());
            }
            frame.with_ipv4_checksum()
        } else {
            const FRAGMENT: u8 = 44;
            let [high, low] = (offset << 3 | u16::from(has_more)).to_be_bytes();
            let [id_high, id_low] = id.to_be_bytes();
            frame.with_extension(FRAGMENT, &[0, high, low, 0, 0, id_high, id_low])
        }
    }

    /// The frame with a right IPv4 header checksum.
    #[must_use]
    pub fn with_ipv4_checksum(mut self) -> Self {
        let (header, _) = Ipv4Header::from_slice(&self.0[ETHERNET..]).expect("an IPv4 header");
        self.0[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
        self
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes ", self.0.len())?;
        match PacketHeaders::from_ethernet_slice(&self.0) {
            Ok(headers) => write!(f, "{headers:#?}"),
            Err(error) => write!(f, "({error}) {:02x?}", self.0),
        }
    }
}

/// Writes frames to a capture file, for tcpdump and Wireshark.
///
/// # Errors
/// When the file cannot be written.
pub fn write_pcap(path: &Path, frames: &[&Frame]) -> Result<()> {
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    let mut writer = PcapWriter::new(file).context("writing a capture")?;
    for frame in frames {
        let length = u32::try_from(frame.0.len()).context("a frame that is too long")?;
        let packet = PcapPacket::new(std::time::Duration::ZERO, length, &frame.0);
        writer.write_packet(&packet).context("writing a capture")?;
    }
    Ok(())
}
