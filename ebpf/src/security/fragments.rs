//! Fragments: the first one has the ports and is judged; the others follow it.

use overlane_abi::{DropReason, Fragment, FragmentKey};

use crate::{
    buffer::Buffer,
    clock, maps,
    security::{Admission, Case},
};

/// How long the rest of a packet may take: receivers give up after 30 or 60 seconds (`ipfrag_time`, RFC 8200 §4.5).
const TIMEOUT: u64 = 30 * clock::SECOND;

#[inline(always)]
fn key(case: &Case<impl Buffer>) -> FragmentKey {
    FragmentKey {
        ifindex: case.ifindex,
        direction: case.direction as u8,
        protocol: case.packet.fragment.protocol,
        pad: [0; 2],
        addresses: [case.packet.source(), case.packet.destination()],
        id: case.packet.fragment.id,
    }
}

/// Notes what became of a first fragment. Only the last one with its identification counts: another one that is refused takes
/// the permission back.
#[inline(never)]
pub fn note(case: &Case<impl Buffer>, is_admitted: bool) {
    if is_admitted {
        let first_end = case.packet.fragment.offset;
        maps::put_fragment(&key(case), &Fragment { expires: case.now + TIMEOUT, first_end, pad: 0 });
    } else {
        maps::forget_fragment(&key(case));
    }
}

/// Admits a later fragment if the first one was, and if it does not reach back into it.
#[inline(never)]
pub fn follow(case: &Case<impl Buffer>) -> Admission {
    match maps::fragment(&key(case)) {
        Some(first) if first.expires > case.now => {
            if case.packet.fragment.offset >= first.first_end {
                Ok(())
            } else {
                Err(DropReason::OverlappingFragment)
            }
        }
        _ => Err(DropReason::UnknownFragment),
    }
}
