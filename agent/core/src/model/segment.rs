//! What carries a network between hosts.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Vid, Vni};

/// A network's segment: Neutron's `network_type`, `physical_network` and `segmentation_id` in one value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Segment {
    /// A tunnel in the underlay.
    Vxlan(Vni),
    /// A physical network, untagged.
    Flat {
        /// Its label; the configuration says which device it is.
        physical_network: String,
    },
    /// A physical network, with a tag.
    Vlan {
        /// Its label; the configuration says which NIC it is.
        physical_network: String,
        /// The tag.
        vid: Vid,
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
            Self::Vlan { .. } => "vlan",
            Self::Local => "local",
        }
    }

    /// Neutron's `segmentation_id`: VNI or VID.
    pub fn segmentation_id(&self) -> Option<u32> {
        match self {
            Self::Vxlan(vni) => Some(vni.get()),
            Self::Vlan { vid, .. } => Some(vid.get().into()),
            Self::Flat { .. } | Self::Local => None,
        }
    }

    /// Neutron's `physical_network`.
    pub fn physical_network(&self) -> Option<&str> {
        match self {
            Self::Flat { physical_network } | Self::Vlan { physical_network, .. } => Some(physical_network),
            Self::Vxlan(_) | Self::Local => None,
        }
    }

    /// The VNI of a VXLAN network.
    pub const fn vni(&self) -> Option<Vni> {
        match self {
            Self::Vxlan(vni) => Some(*vni),
            Self::Flat { .. } | Self::Vlan { .. } | Self::Local => None,
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vxlan(vni) => write!(f, "vxlan {vni}"),
            Self::Flat { physical_network } => write!(f, "flat {physical_network}"),
            Self::Vlan { physical_network, vid } => write!(f, "vlan {physical_network} {vid}"),
            Self::Local => f.write_str("local"),
        }
    }
}
