//! What carries a network between hosts.

use std::fmt;

use super::Vni;

/// A network's segment: Neutron's `network_type`, `physical_network` and `segmentation_id` in one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// A tunnel in the underlay.
    Vxlan(Vni),
    /// A physical network, untagged.
    Flat {
        /// Its label; the configuration says which device it is.
        physical_network: String,
    },
    /// Nothing: the network ends at this host.
    Local,
}

impl Segment {
    /// Neutron's `network_type`.
    pub const fn network_type(&self) -> &'static str {
        match self {
            Self::Vxlan(_) => "vxlan",
            Self::Flat { .. } => "flat",
            Self::Local => "local",
        }
    }

    /// The VNI of a VXLAN network.
    pub const fn vni(&self) -> Option<Vni> {
        match self {
            Self::Vxlan(vni) => Some(*vni),
            Self::Flat { .. } | Self::Local => None,
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vxlan(vni) => write!(f, "vxlan {vni}"),
            Self::Flat { physical_network } => write!(f, "flat {physical_network}"),
            Self::Local => f.write_str("local"),
        }
    }
}
