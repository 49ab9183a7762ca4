//! Neighbour discovery that a port sends: it may only speak of the port's own addresses, as ARP may.

use overlane_abi::{Address, DropReason, SourceKey};

use crate::{
    buffer::Buffer,
    parse::ICMPV6,
    security::{Admission, Case, packet::Part, spoofing},
};

const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
const OPTION_SOURCE_LINK_LAYER: u8 = 1;
const OPTION_TARGET_LINK_LAYER: u8 = 2;

/// Options that are looked at. Senders use two at most.
const OPTIONS_MAX: usize = 6;
/// Offset of the target address in a solicitation or advertisement.
const TARGET: usize = 8;
const ADDRESS_LEN: usize = 16;

/// Refuses messages that claim what is not the port's.
#[inline(always)]
pub fn check(case: &Case<impl Buffer>) -> Admission {
    let packet = case.packet;
    let kind = (packet.service >> 8) as u8;
    let is_discovery = packet.protocol == ICMPV6
        && packet.is_v6
        && matches!(kind, ROUTER_SOLICITATION | NEIGHBOR_SOLICITATION | NEIGHBOR_ADVERTISEMENT);
    if is_discovery { check_message(case, kind) } else { Ok(()) }
}

#[inline(never)]
fn check_message(case: &Case<impl Buffer>, kind: u8) -> Admission {
    // Receivers ignore fragments of these (RFC 6980), and only whole ones can be checked.
    if case.packet.fragment.part == Part::Whole && is_honest(case, kind) == Some(true) {
        Ok(())
    } else {
        Err(DropReason::SpoofedNd)
    }
}

/// `None` for messages that end too early.
#[inline(always)]
fn is_honest(case: &Case<impl Buffer>, kind: u8) -> Option<bool> {
    let message = usize::from(case.packet.transport);
    let mac = link_layer_address(case, if kind == ROUTER_SOLICITATION { TARGET } else { TARGET + ADDRESS_LEN })?;
    if mac != case.port.mac && !spoofing::is_allowed_mac(case.ifindex, mac) {
        return Some(false);
    }
    let claims_target = match kind {
        NEIGHBOR_ADVERTISEMENT => true,
        // Duplicate address detection: the address is to be the port's.
        NEIGHBOR_SOLICITATION => case.packet.source == [0; 4],
        _ => false,
    };
    if !claims_target {
        return Some(true);
    }
    let address = Address::from_v6(case.buffer.load(message + TARGET)?);
    Some(spoofing::is_allowed(SourceKey { ifindex: case.ifindex, mac, family: SourceKey::V6, address }))
}

/// The MAC address in a message's options, or else the frame's.
#[inline(always)]
fn link_layer_address(case: &Case<impl Buffer>, options: usize) -> Option<[u8; 6]> {
    let end = case.buffer.len();
    let mut mac = case.mac;
    let mut offset = usize::from(case.packet.transport) + options;
    for _ in 0..OPTIONS_MAX {
        if offset == end {
            return Some(mac);
        }
        let [kind, units]: [u8; 2] = case.buffer.load(offset)?;
        if units == 0 {
            return None;
        }
        if kind == OPTION_SOURCE_LINK_LAYER || kind == OPTION_TARGET_LINK_LAYER {
            mac = case.buffer.load(offset + 2)?;
        }
        offset += 8 * usize::from(units);
    }
    None
}
