//! Addresses that a port may use.

use network_types::{arp::ArpHdr, eth::EthHdr};
use overlane_abi::{Address, DropReason, Port, SourceKey};

use crate::{
    buffer::Buffer,
    maps,
    maps::Lookup,
    security::{Admission, Case},
};

const NO_ADDRESS: [u8; 4] = [0; 4];

/// Whether the port may use a MAC address that is not its own.
#[inline(always)]
pub fn is_allowed_mac(ifindex: u32, mac: [u8; 6]) -> bool {
    is_allowed(SourceKey { ifindex, mac, family: SourceKey::MAC, address: Address::UNSPECIFIED })
}

/// Whether the port may use a pair of addresses.
#[inline(always)]
pub fn is_allowed(key: SourceKey) -> bool {
    is_found(&Lookup::of(key))
}

#[inline(never)]
fn is_found(lookup: &Lookup<SourceKey>) -> bool {
    maps::source(lookup).is_some()
}

/// Whether the port may send from where the packet comes from.
#[inline(always)]
pub fn is_allowed_source(case: &Case<impl Buffer>) -> bool {
    let family = if case.packet.is_v6 { SourceKey::V6 } else { SourceKey::V4 };
    is_allowed(SourceKey { ifindex: case.ifindex, mac: case.mac, family, address: case.packet.source() })
}

/// ARP may only say what is true: that a pair of addresses is where it is. A probe says nothing yet and asks for an address
/// that is to be the port's (RFC 5227 §2.1.1).
#[inline(never)]
pub fn check_arp(buffer: impl Buffer, port: &Port, ifindex: u32) -> Admission {
    let Some(arp) = buffer.load::<ArpHdr>(EthHdr::LEN) else {
        return Err(DropReason::SpoofedArp);
    };
    let is_for_ipv4 = arp.htype() == 1 && arp.ptype == [0x08, 0x00] && arp.hlen == 6 && arp.plen == 4;
    let claimed = if arp.spa == NO_ADDRESS { arp.tpa } else { arp.spa };
    let address = Address::from_v4(claimed);
    if is_for_ipv4
        && (arp.sha == port.mac || is_allowed_mac(ifindex, arp.sha))
        && is_allowed(SourceKey { ifindex, mac: arp.sha, family: SourceKey::V4, address })
    {
        Ok(())
    } else {
        Err(DropReason::SpoofedArp)
    }
}
