//! The ARP and ND responder: questions about addresses that the control plane knows are answered at the port, so that
//! they are not flooded to every host.
//!
//! Whatever it stays silent on is flooded by the kernel lane: unknown addresses and those that several ports may use,
//! announcements, duplicate address detection for one's own address, and anything unusual.

use network_types::{
    arp::ArpHdr,
    eth::{EthHdr, EtherType},
    ip::Ipv6Hdr,
};
use overlane_abi::{Address, Neighbor, Outcome, Port};

use crate::{
    buffer::Buffer as _,
    checksum, maps,
    parse::{Ethernet, ICMPV6},
    skb::Skb,
    verdict::Verdict,
};

const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;

const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
const OPTION_SOURCE_LINK_LAYER: u8 = 1;
const OPTION_TARGET_LINK_LAYER: u8 = 2;
/// Neighbour discovery is only valid with this hop limit (RFC 4861 §7.1).
const ND_HOP_LIMIT: u8 = 255;
/// Flags of a neighbour advertisement (RFC 4861 §4.4).
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// The answer to a question that `port` has sent to a group address.
///
/// A function of its own, for the stack that other packets do not need.
#[inline(never)]
pub fn answer(skb: Skb, frame: &Ethernet, port: &Port) -> Option<Verdict> {
    if port.flags & Port::RESPONDER == 0 {
        None
    } else if frame.carries(EtherType::Arp) {
        answer_arp(skb, frame, port)
    } else if frame.carries(EtherType::Ipv6) {
        answer_solicitation(skb, frame, port)
    } else {
        None
    }
}

/// The owner of `address`, unless that is the one who asks.
#[inline(always)]
fn owner(port: &Port, frame: &Ethernet, address: Address) -> Option<&'static Neighbor> {
    maps::neighbor(port.network, address).filter(|owner| owner.mac != frame.source)
}

/// An ARP packet with its Ethernet header.
#[repr(C)]
struct ArpFrame {
    ethernet: EthHdr,
    arp: ArpHdr,
}

/// RFC 826.
#[inline(always)]
fn answer_arp(skb: Skb, frame: &Ethernet, port: &Port) -> Option<Verdict> {
    let mut arp: ArpHdr = skb.read(EthHdr::LEN)?;
    // Ethernet and IPv4, with their address lengths.
    let for_ipv4 = arp.htype() == 1 && arp.ptype == [0x08, 0x00] && arp.hlen == 6 && arp.plen == 4;
    if !for_ipv4 || arp.oper() != ARP_REQUEST || arp.spa == arp.tpa {
        return None;
    }
    let owner = owner(port, frame, Address::from_v4(arp.tpa))?;
    let (asker_mac, asker_address) = (arp.sha, arp.spa);
    arp.set_oper(ARP_REPLY);
    (arp.sha, arp.spa) = (owner.mac, arp.tpa);
    (arp.tha, arp.tpa) = (asker_mac, asker_address);
    let ethernet = EthHdr::new(frame.source, owner.mac, EtherType::Arp);
    send_back(skb, &ArpFrame { ethernet, arp })
}

/// A neighbour solicitation or advertisement with one link-layer address option (RFC 4861 §4.3, §4.4, §4.6.1).
#[repr(C)]
#[derive(Clone, Copy)]
struct NeighborMessage {
    kind: u8,
    code: u8,
    checksum: [u8; 2],
    flags: u8,
    reserved: [u8; 3],
    target: [u8; 16],
    option: u8,
    /// In units of eight bytes.
    option_len: u8,
    mac: [u8; 6],
}

const MESSAGE_LEN: usize = size_of::<NeighborMessage>();

/// A neighbour advertisement with everything around it.
#[repr(C)]
struct AdvertisementFrame {
    ethernet: EthHdr,
    ip: Ipv6Hdr,
    message: NeighborMessage,
}

#[inline(always)]
fn answer_solicitation(skb: Skb, frame: &Ethernet, port: &Port) -> Option<Verdict> {
    let mut ip: Ipv6Hdr = skb.read(EthHdr::LEN)?;
    let plain = ip.next_hdr == ICMPV6 && ip.hop_limit == ND_HOP_LIMIT && usize::from(ip.payload_len()) == MESSAGE_LEN;
    // Duplicate address detection asks from the unspecified address: the owner itself must answer it to all.
    if !plain || ip.src_addr == [0; 16] {
        return None;
    }
    let question = read_message(skb)?;
    if question.kind != NEIGHBOR_SOLICITATION
        || question.code != 0
        || question.option != OPTION_SOURCE_LINK_LAYER
        || question.option_len != 1
    {
        return None;
    }
    let owner = owner(port, frame, Address::from_v6(question.target))?;
    let router = if owner.flags & Neighbor::ROUTER != 0 { ROUTER } else { 0 };
    ip.dst_addr = ip.src_addr;
    ip.src_addr = question.target;
    let mut message = NeighborMessage {
        kind: NEIGHBOR_ADVERTISEMENT,
        code: 0,
        checksum: [0; 2],
        flags: router | SOLICITED | OVERRIDE,
        reserved: [0; 3],
        target: question.target,
        option: OPTION_TARGET_LINK_LAYER,
        option_len: 1,
        mac: owner.mac,
    };
    message.checksum = checksum::of_icmpv6(ip.src_addr, ip.dst_addr, message);
    let ethernet = EthHdr::new(frame.source, owner.mac, EtherType::Ipv6);
    send_back(skb, &AdvertisementFrame { ethernet, ip, message })
}

#[inline(always)]
fn read_message(skb: Skb) -> Option<NeighborMessage> {
    let bytes: [u8; MESSAGE_LEN] = skb.read(EthHdr::LEN + Ipv6Hdr::LEN)?;
    // SAFETY: both types have the same size, and any bytes are a valid message.
    Some(unsafe { core::mem::transmute::<[u8; MESSAGE_LEN], NeighborMessage>(bytes) })
}

/// Overwrites the question with its answer and sends it out of the interface that it came in on.
#[inline(always)]
fn send_back<T>(skb: Skb, answer: &T) -> Option<Verdict> {
    match skb.write(0, answer) {
        Ok(()) => Some(Verdict::Redirect(Outcome::Answered, skb.ifindex())),
        Err(_) => Some(Verdict::Pass(Outcome::HelperRefused)),
    }
}
