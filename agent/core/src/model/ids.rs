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

    /// Whether a device has the name of some port's tap.
    pub fn is_tap_name(name: &str) -> bool {
        let is_of_id = |(index, byte): (usize, u8)| match index {
            8 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        };
        let id = name.strip_prefix("tap").filter(|id| id.len() == ID_CHARACTERS);
        id.is_some_and(|id| id.bytes().enumerate().all(is_of_id))
    }
}

/// Name of a network's kernel vxlan device.
pub fn vxlan_name(vni: Vni) -> String {
    format!("vxlan-{vni}")
}
