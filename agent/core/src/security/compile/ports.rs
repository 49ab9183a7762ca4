//! Port ranges as prefixes: a trie holds nothing else.

use crate::security::PortRange;

/// Bits of a port number.
const BITS: u32 = u16::BITS;

/// The fewest prefixes that make up a range: first port and length in bits.
pub(super) fn prefixes(range: PortRange) -> impl Iterator<Item = (u16, u32)> {
    let (mut next, end) = (u32::from(range.min()), u32::from(range.max()) + 1);
    std::iter::from_fn(move || {
        if next >= end {
            return None;
        }
        // As large as where it begins allows (a block of 2^n ports begins at a multiple of 2^n), and no larger than what is left.
        let aligned = next.trailing_zeros().min(BITS);
        let fitting = (end - next).ilog2();
        let bits = aligned.min(fitting);
        let first = next as u16;
        next += 1 << bits;
        Some((first, BITS - bits))
    })
}

/// The bits of a port that count in a prefix of `len` bits.
pub(super) const fn mask(len: u32) -> u16 {
    if len == 0 { 0 } else { u16::MAX << (BITS - len) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_range_becomes_its_fewest_prefixes() {
        let prefixes = |min, max| prefixes(PortRange::new(min, max).expect("not reversed")).collect::<Vec<_>>();
        assert_eq!(prefixes(80, 80), [(80, 16)]);
        assert_eq!(prefixes(0, 65_535), [(0, 0)]);
        assert_eq!(prefixes(80, 83), [(80, 14)]);
        assert_eq!(prefixes(1, 6), [(1, 16), (2, 15), (4, 15), (6, 16)]);
        assert_eq!(prefixes(1, 65_535).len(), 16);
    }

    proptest! {
        #[test]
        fn prefixes_cover_the_range_and_nothing_else(a: u16, b: u16, port: u16) {
            let range = PortRange::new(a.min(b), a.max(b)).expect("ordered");
            let covering = prefixes(range).filter(|(first, len)| port & mask(*len) == *first).count();
            prop_assert_eq!(covering, usize::from(range.contains(port)));
        }
    }
}
