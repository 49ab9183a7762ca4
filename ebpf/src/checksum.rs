//! The Internet checksum (RFC 1071).

use aya_ebpf::helpers::bpf_csum_diff;

use crate::parse::ICMPV6;

/// The checksum of `covered`, whose checksum field must be zero, in the order of transmission. The size of `T` must be a
/// multiple of four, without padding.
#[inline(always)]
pub fn of<T>(covered: &mut T) -> [u8; 2] {
    const { assert!(size_of::<T>().is_multiple_of(4)) }
    // SAFETY: the helper reads as many bytes as `covered` has.
    let sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, (&raw mut *covered).cast(), size_of::<T>() as u32, 0) };
    // The helper sums words as they lie in memory, so the result is written the same way.
    (!fold(sum as u32)).to_ne_bytes()
}

/// The checksum of an ICMPv6 message, which covers a pseudo-header as well (RFC 8200 §8.1); otherwise as `of`.
#[inline(always)]
pub fn of_icmpv6<M>(source: [u8; 16], destination: [u8; 16], message: M) -> [u8; 2] {
    #[repr(C, align(4))]
    struct Covered<M> {
        source: [u8; 16],
        destination: [u8; 16],
        length_be: [u8; 4],
        next_header_be: [u8; 4],
        message: M,
    }
    of(&mut Covered {
        source,
        destination,
        length_be: (size_of::<M>() as u32).to_be_bytes(),
        next_header_be: u32::from(ICMPV6).to_be_bytes(),
        message,
    })
}

/// A sum of 16-bit words in one's complement: what has carried over is added again, twice at most.
#[inline(always)]
pub fn fold(sum: u32) -> u16 {
    let folded = (sum & 0xffff) + (sum >> 16);
    ((folded & 0xffff) + (folded >> 16)) as u16
}

/// As `fold`, of a sum of up to 2^32 words of 32 bits.
#[inline(always)]
pub fn fold_wide(sum: u64) -> u16 {
    let folded = (sum & 0xffff_ffff) + (sum >> 32);
    // What is carried over now is one at most.
    let folded = (folded & 0xffff_ffff) + (folded >> 32);
    let halves = (folded & 0xffff) + (folded >> 16);
    fold(halves as u32)
}
