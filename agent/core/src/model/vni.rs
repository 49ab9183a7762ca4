//! VXLAN Network Identifiers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A VXLAN Network Identifier (RFC 7348 §5): 24 bits, checked once, here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Vni(u32);

/// A number that does not fit into 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no VNI: it must be between 0 and 16777215")]
pub struct VniOutOfRange(pub u32);

impl Vni {
    /// The identifier as a number below 2^24.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Vni {
    type Error = VniOutOfRange;

    fn try_from(raw: u32) -> Result<Self, VniOutOfRange> {
        if raw < 1 << 24 { Ok(Self(raw)) } else { Err(VniOutOfRange(raw)) }
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
