//! The Internet checksum (RFC 1071).

use aya_ebpf::helpers::bpf_csum_diff;

/// The checksum of `covered`, whose checksum field must be zero, in the order of transmission. The size of `T` must be a
/// multiple of four, without padding.
#[inline(always)]
pub fn of<T>(covered: &mut T) -> [u8; 2] {
    const { assert!(size_of::<T>().is_multiple_of(4)) }
    // SAFETY: the helper reads as many bytes as `covered` has.
    let sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, (&raw mut *covered).cast(), size_of::<T>() as u32, 0) };
    let sum = sum as u32;
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    // The helper sums words as they lie in memory, so the result is written the same way.
    (!(folded as u16)).to_ne_bytes()
}
