//! VLAN identifiers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A VLAN identifier (IEEE 802.1Q §9.6): 1 to 4094, checked once, here. 0 and 4095 are reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Vid(u16);

/// A number that no VLAN can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no VID: it must be between 1 and 4094")]
pub struct VidOutOfRange(pub u32);

impl Vid {
    /// The smallest one.
    pub const MIN: Self = Self(1);
    /// The largest one.
    pub const MAX: Self = Self(4094);

    /// The identifier as a number from 1 to 4094.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u32> for Vid {
    type Error = VidOutOfRange;

    fn try_from(raw: u32) -> Result<Self, VidOutOfRange> {
        let vid = u16::try_from(raw).ok().map(Self);
        vid.filter(|vid| (Self::MIN..=Self::MAX).contains(vid)).ok_or(VidOutOfRange(raw))
    }
}

impl fmt::Display for Vid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_numbers_and_those_of_more_than_twelve_bits_are_no_vids() {
        for number in [0, 4095, 4096, 0x1_0001] {
            assert_eq!(Vid::try_from(number), Err(VidOutOfRange(number)));
        }
        assert_eq!([1, 4094].map(Vid::try_from), [Ok(Vid::MIN), Ok(Vid::MAX)]);
    }
}
