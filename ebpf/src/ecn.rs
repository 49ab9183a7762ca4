//! Explicit congestion notification across the tunnel (RFC 6040).

/// The two ECN bits of a traffic class.
pub const MASK: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// What the inner ECN field becomes on decapsulation (RFC 6040 §4.2, figure 4); `None`: the packet must be dropped,
/// because its sender would not understand the congestion signal.
#[inline(always)]
pub fn combine(outer: u8, inner: u8) -> Option<u8> {
    match (outer & MASK, inner & MASK) {
        (CE, NOT_ECT) => None,
        (CE, _) => Some(CE),
        (ECT_1, ECT_0) => Some(ECT_1),
        (_, inner) => Some(inner),
    }
}
