//! What an interface says when it gets an address, so that its neighbours stop sending to whoever had it before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::Mac;

const BROADCAST: Mac = Mac([0xff; 6]);
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// All nodes of a link (RFC 4291), and the MAC address of that group.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

/// Operations of ARP (RFC 826).
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

const ICMPV6: u8 = 58;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// Flags of an advertisement (RFC 4861, section 4.4): from a router, and whoever knows better should forget it.
const ROUTER_AND_OVERRIDE: u32 = 1 << 31 | 1 << 29;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
/// Type, code, checksum, flags, the address, and one option.
const ADVERTISEMENT_LEN: u16 = 4 + 4 + 16 + 8;

/// The Ethernet frames that announce an address. Of ARP it takes two: some systems heed only requests, others only replies (RFC
/// 5227, section 3).
pub fn announcement(mac: Mac, address: IpAddr) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(address) => [REQUEST, REPLY].map(|operation| arp(mac, address, operation)).to_vec(),
        IpAddr::V6(address) => vec![advertisement(mac, address)],
    }
}

fn ethernet(destination: Mac, source: Mac, ethertype: u16) -> Vec<u8> {
    [&destination.0[..], &source.0, &ethertype.to_be_bytes()].concat()
}

fn arp(mac: Mac, address: Ipv4Addr, operation: u16) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, ETHERTYPE_ARP);
    // Ethernet and IPv4, with addresses of 6 and of 4 bytes.
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    frame.extend(mac.0);
    frame.extend(address.octets());
    frame.extend(BROADCAST.0);
    frame.extend(address.octets());
    frame
}

fn advertisement(mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    let mut frame = ethernet(ALL_NODES_MAC, mac, ETHERTYPE_IPV6);
    frame.extend([6 << 4, 0, 0, 0]);
    frame.extend(ADVERTISEMENT_LEN.to_be_bytes());
    // A hop limit of 255 proves that it has not been routed.
    frame.extend([ICMPV6, 255]);
    frame.extend(address.octets());
    frame.extend(ALL_NODES.octets());
    let mut message = vec![NEIGHBOR_ADVERTISEMENT, 0, 0, 0];
    message.extend(ROUTER_AND_OVERRIDE.to_be_bytes());
    message.extend(address.octets());
    message.extend([TARGET_LINK_LAYER_ADDRESS, 1]);
    message.extend(mac.0);
    let pseudo_header =
        [&address.octets()[..], &ALL_NODES.octets(), &[0, 0], &ADVERTISEMENT_LEN.to_be_bytes(), &[0, 0, 0, ICMPV6]];
    let checksum = checksum(&[&pseudo_header.concat()[..], &message].concat());
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    frame.extend(message);
    frame
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum: u32 = words.sum();
    while sum > u32::from(u16::MAX) {
        sum = (sum >> 16) + (sum & u32::from(u16::MAX));
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0xfa, 0x16, 0x3e, 0, 0, 1]);

    #[test]
    fn an_address_of_ipv4_is_announced_by_a_request_and_a_reply_about_itself() {
        let frames = announcement(MAC, IpAddr::from([10, 0, 0, 1]));
        let operations: Vec<u8> = frames.iter().map(|frame| frame[21]).collect();
        assert_eq!(operations, [1, 2]);
        for frame in frames {
            assert_eq!((frame.len(), &frame[..6], &frame[6..12]), (42, &[0xff; 6][..], &MAC.0[..]));
            assert_eq!(
                (&frame[22..28], &frame[28..32], &frame[38..42]),
                (&MAC.0[..], &[10, 0, 0, 1][..], &[10, 0, 0, 1][..])
            );
        }
    }

    #[test]
    fn an_address_of_ipv6_is_announced_by_an_advertisement_with_a_valid_checksum() {
        let address: Ipv6Addr = "2001:db8::1".parse().expect("valid");
        let frames = announcement(MAC, IpAddr::V6(address));
        let [frame] = frames.as_slice() else { panic!("{frames:?}") };
        assert_eq!(frame.len(), 14 + 40 + usize::from(ADVERTISEMENT_LEN));
        let message = &frame[54..];
        assert_eq!((message[0], &message[4..8], &message[8..24]), (136, &[0xa0, 0, 0, 0][..], &address.octets()[..]));
        let pseudo = [&frame[22..54], &[0, 0, 0, ADVERTISEMENT_LEN as u8, 0, 0, 0, ICMPV6], message].concat();
        assert_eq!(checksum(&pseudo), 0);
    }
}
