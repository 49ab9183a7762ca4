//! The outer header template of a tunnel endpoint: everything that does not change from packet to packet.

use std::net::IpAddr;

use overlane_abi::{HEADER_MAX, HEADER_V4, HEADER_V6, Vtep};

use crate::{
    config::{Dscp, VxlanConfig},
    model::Mac,
};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const PROTOCOL_UDP: u8 = 17;
/// The I flag: the VNI is valid (RFC 7348 §5).
const VXLAN_FLAGS: u8 = 0x08;
/// What Linux uses when nobody says otherwise (`net.ipv4.ip_default_ttl`, IPv6 hop limit).
const DEFAULT_TTL: u8 = 64;

/// Where a tunnel's packets leave this host and to whom they go on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Hop {
    /// Interface index of the underlay link.
    pub uplink: u32,
    /// The link's own MAC address.
    pub source: Mac,
    /// The next hop's MAC address.
    pub destination: Mac,
    /// Largest IP packet in bytes.
    pub mtu: u32,
}

/// A known endpoint that cannot be sent to at the moment: its packets are accepted, and the kernel lane sends to it.
pub fn unresolved() -> Vtep {
    Vtep { ifindex: 0, mtu: 0, header_len: 0, flags: 0, pad: 0, header: [0; HEADER_MAX] }
}

/// The entry for `remote`; `None` when its address family is not the one of `local_ip`.
pub fn vtep(vxlan: &VxlanConfig, remote: IpAddr, hop: &Hop) -> Option<Vtep> {
    let (dscp, flags) = match vxlan.dscp {
        Dscp::Fixed(dscp) => (dscp, 0),
        Dscp::Inherit => (0, Vtep::INHERIT_DSCP),
    };
    let ttl = vxlan.ttl.unwrap_or(DEFAULT_TTL);
    let mut bytes = Vec::with_capacity(HEADER_MAX);
    bytes.extend(hop.destination.0);
    bytes.extend(hop.source.0);
    match (vxlan.local_ip, remote) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes.extend(ETHERTYPE_IPV4.to_be_bytes());
            let mut ip = [0; 20];
            (ip[0], ip[1], ip[8], ip[9]) = (0x45, dscp << 2, ttl, PROTOCOL_UDP);
            ip[12..16].copy_from_slice(&source.octets());
            ip[16..20].copy_from_slice(&destination.octets());
            let checksum = internet_checksum(&ip);
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
            bytes.extend(ip);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            bytes.extend(ETHERTYPE_IPV6.to_be_bytes());
            let traffic_class = dscp << 2;
            bytes.extend([0x60 | traffic_class >> 4, traffic_class << 4, 0, 0, 0, 0, PROTOCOL_UDP, ttl]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
        }
        _ => return None,
    }
    let [port_high, port_low] = vxlan.udp_dstport.to_be_bytes();
    bytes.extend([0, 0, port_high, port_low, 0, 0, 0, 0]);
    bytes.extend([VXLAN_FLAGS, 0, 0, 0, 0, 0, 0, 0]);
    debug_assert!(bytes.len() == HEADER_V4 || bytes.len() == HEADER_V6);
    let mut header = [0; HEADER_MAX];
    header[..bytes.len()].copy_from_slice(&bytes);
    // At most 72, so it fits.
    let header_len = bytes.len() as u16;
    Some(Vtep { ifindex: hop.uplink, mtu: hop.mtu, header_len, flags, pad: 0, header })
}

/// RFC 1071, over a header of even length whose checksum field is zero.
fn internet_checksum(header: &[u8]) -> u16 {
    let sum: u32 = header.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_header_with_its_checksum_is_zero() {
        let vxlan = VxlanConfig {
            local_ip: "10.10.10.11".parse().expect("valid"),
            udp_dstport: 4789,
            source_ports: None,
            ttl: None,
            dscp: Dscp::Fixed(46),
            arp_responder: true,
        };
        let hop = Hop { uplink: 3, source: Mac([2; 6]), destination: Mac([4; 6]), mtu: 1500 };
        let entry = vtep(&vxlan, "10.10.10.12".parse().expect("valid"), &hop).expect("same family");
        assert_eq!(usize::from(entry.header_len), HEADER_V4);
        assert_eq!(internet_checksum(&entry.header[14..34]), 0);
        assert!(vtep(&vxlan, "fd00::1".parse().expect("valid"), &hop).is_none());
    }
}
