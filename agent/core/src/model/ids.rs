//! Neutron's ids and the device names that follow from them. The names are Neutron's and not negotiable.

use std::fmt;

use uuid::Uuid;

use super::Vni;

/// How much of an id goes into a device name (contract of the Linux bridge agent, §1.5.4).
const ID_CHARACTERS: usize = 11;

macro_rules! uuid_newtype {
    ($(#[$attr:meta])* $name:ident) => {
        $(#[$attr])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0.hyphenated().to_string())
            }
        }
    };
}

uuid_newtype!(
    /// The id of a network.
    NetworkId
);
uuid_newtype!(
    /// The id of a port.
    PortId
);
uuid_newtype!(
    /// The id of a security group.
    SecurityGroupId
);
uuid_newtype!(
    /// The id of an address group.
    AddressGroupId
);

impl NetworkId {
    /// Name of the network's bridge: `brq` and the first 11 characters of the id.
    pub fn bridge_name(&self) -> String {
        format!("brq{}", &self.0.hyphenated().to_string()[..ID_CHARACTERS])
    }
}

impl PortId {
    /// Name of the port's host device: `tap` and the first 11 characters of the id.
    pub fn tap_name(&self) -> String {
        format!("tap{}", &self.0.hyphenated().to_string()[..ID_CHARACTERS])
    }
}

/// Name of a network's kernel vxlan device.
pub fn vxlan_name(vni: Vni) -> String {
    format!("vxlan-{vni}")
}
