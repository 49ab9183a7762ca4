//! Neutron's ids and the device names that follow from them. The names are Neutron's and not negotiable.

use std::fmt;

use uuid::Uuid;

use super::{Vid, Vni};

/// How much of an id goes into a device name (contract of the Linux bridge agent, §1.5.4).
const ID_CHARACTERS: usize = 11;

/// How long a device name may be (the kernel's `IFNAMSIZ` without the final zero).
const DEVICE_NAME_MAX: usize = 15;
/// What stands for a NIC whose name is too long to have a VID behind it: so much of the name, and so much of its SHA-1 in
/// hexadecimal (contract of the Linux bridge agent, §1.5.4).
const NIC_CHARACTERS: usize = 4;
const NIC_HASH_CHARACTERS: usize = 6;

macro_rules! uuid_newtype {
    ($(#[$attr:meta])* $name:ident) => {
        $(#[$attr])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
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
uuid_newtype!(
    /// The id of a QoS policy.
    QosPolicyId
);
uuid_newtype!(
    /// The id of a subnet.
    SubnetId
);
uuid_newtype!(
    /// The id of a router.
    RouterId
);
uuid_newtype!(
    /// The id of a floating IP.
    FloatingIpId
);
uuid_newtype!(
    /// The id of an instance: what Nova calls a machine.
    InstanceId
);

impl NetworkId {
    /// Name of the network's bridge: `brq` and the first 11 characters of the id.
    pub fn bridge_name(&self) -> String {
        format!("brq{}", &self.0.hyphenated().to_string()[..ID_CHARACTERS])
    }

    /// Name of the namespace that its DHCP server is in.
    pub fn dhcp_namespace(&self) -> String {
        format!("qdhcp-{self}")
    }
}

impl RouterId {
    /// Name of the namespace that it is.
    pub fn namespace(&self) -> String {
        format!("qrouter-{self}")
    }
}

impl PortId {
    /// Name of the port's host device: `tap` and the first 11 characters of the id.
    pub fn tap_name(&self) -> String {
        self.device_name("tap")
    }

    /// Name of the other end of the port's tap, where that is in a namespace of the network's own: `ns-` (DHCP), `qr-` (a router's
    /// interface) or `qg-` (its gateway), and the first 11 characters of the id.
    pub fn device_name(&self, prefix: &str) -> String {
        format!("{prefix}{}", &self.0.hyphenated().to_string()[..ID_CHARACTERS])
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

/// Name of the device of a VLAN on a NIC: `<nic>.<vid>`, with a shortened and hashed NIC name where that is too long. One NIC
/// can have both forms, depending on the VID.
pub fn vlan_name(nic: &str, vid: Vid) -> String {
    let name = format!("{nic}.{vid}");
    if name.len() <= DEVICE_NAME_MAX {
        return name;
    }
    let hash = sha1_smol::Sha1::from(nic).digest().to_string();
    let beginning: String = nic.chars().take(NIC_CHARACTERS).collect();
    format!("{beginning}{}.{vid}", &hash[..NIC_HASH_CHARACTERS])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(nic: &str, vid: u32) -> String {
        vlan_name(nic, Vid::try_from(vid).expect("valid"))
    }

    #[test]
    fn a_vlan_device_is_named_after_nic_and_vid() {
        assert_eq!(name("eth0", 1), "eth0.1");
        assert_eq!(name("enp3s0f1np1", 101), "enp3s0f1np1.101");
    }

    #[test]
    fn the_name_of_a_nic_that_leaves_no_room_for_the_vid_is_hashed_as_the_linux_bridge_agent_does() {
        // Of the same NIC, shorter VIDs leave room.
        assert_eq!(name("enp3s0f1np1", 1001), "enp3bf18af.1001");
        assert_eq!(name("enp3s0f1np1abcd", 7), "enp3756ac9.7");
    }
}
