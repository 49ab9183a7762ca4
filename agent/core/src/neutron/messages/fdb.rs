//! l2population: which MAC and IP addresses are behind which tunnel endpoint.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Entries, Table, lenient::null_is_empty};
use crate::model::{Mac, NetworkId};

/// Entries that come or go, by network.
pub type FdbEntries = Table<NetworkId, FdbNetwork>;

/// Entries of one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbNetwork {
    /// VNI.
    pub segment_id: Option<u32>,
    /// `vxlan`; other kinds of tunnels are not ours.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub network_type: String,
    /// What is behind each tunnel endpoint.
    #[serde(default)]
    pub ports: Table<IpAddr, Entries<FdbEntry>>,
}

/// One address of one port. A port has as many entries as addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FdbEntry {
    /// The port's MAC address.
    pub mac: Mac,
    /// One of its addresses.
    pub address: IpAddr,
}

/// Addresses that have changed, by network and tunnel endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdbUpdate {
    /// What else could change is not known to any release.
    #[serde(default)]
    pub chg_ip: Table<NetworkId, Table<IpAddr, AddressChange>>,
}

/// Addresses of ports behind one tunnel endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressChange {
    /// What they had.
    #[serde(default)]
    pub before: Entries<FdbEntry>,
    /// What they have.
    #[serde(default)]
    pub after: Entries<FdbEntry>,
}

impl FdbEntry {
    /// The entry that says that the endpoint wants the network's broadcast, unknown unicast and multicast.
    pub const FLOOD: Self = Self { mac: Mac::ZERO, address: IpAddr::V4(Ipv4Addr::UNSPECIFIED) };

    /// Whether it is that entry.
    pub fn is_flood(&self) -> bool {
        self.mac == Mac::ZERO
    }
}

impl<'de> Deserialize<'de> for FdbEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (mac, address) = Deserialize::deserialize(deserializer)?;
        Ok(Self { mac, address })
    }
}

impl Serialize for FdbEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.mac, self.address).serialize(serializer)
    }
}
