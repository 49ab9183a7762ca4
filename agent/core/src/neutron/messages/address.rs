//! Addresses of ports, in the forms in which the server writes them.

use std::{borrow::Cow, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use uuid::Uuid;

use crate::model::Mac;

/// A fixed IP: an object in most messages, the bare address in those about security groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedIp {
    /// Its subnet, where the message has it.
    pub subnet_id: Option<Uuid>,
    /// The address.
    pub ip_address: IpAddr,
}

/// What else a port may send as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowedAddressPair {
    /// With this MAC address.
    pub mac_address: Mac,
    /// From these addresses.
    #[serde(with = "range")]
    pub ip_address: IpNet,
}

impl<'de> Deserialize<'de> for FixedIp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Address(IpAddr),
            Object { subnet_id: Option<Uuid>, ip_address: IpAddr },
        }
        match Form::deserialize(deserializer) {
            Ok(Form::Address(ip_address)) => Ok(Self { subnet_id: None, ip_address }),
            Ok(Form::Object { subnet_id, ip_address }) => Ok(Self { subnet_id, ip_address }),
            Err(_) => Err(D::Error::custom("expected an address, or an object with ip_address")),
        }
    }
}

impl Serialize for FixedIp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Object {
            subnet_id: Uuid,
            ip_address: IpAddr,
        }
        let Self { subnet_id, ip_address } = *self;
        match subnet_id {
            Some(subnet_id) => Object { subnet_id, ip_address }.serialize(serializer),
            None => ip_address.serialize(serializer),
        }
    }
}

/// A range of addresses as Neutron writes it: `10.0.0.0/24`, or `10.0.0.1` for one address.
pub(super) mod range {
    use super::{Cow, Deserialize as _, Deserializer, IpNet, Serializer, parse_range, write_range};
    use serde::de::Error as _;

    pub(in crate::neutron::messages) fn serialize<S: Serializer>(
        net: &IpNet,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&write_range(net))
    }

    pub(in crate::neutron::messages) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<IpNet, D::Error> {
        parse_range(&Cow::<str>::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// As [`range`], or nothing.
pub(super) mod optional_range {
    use super::{Cow, Deserialize as _, Deserializer, IpNet, Serialize as _, Serializer, parse_range, write_range};
    use serde::de::Error as _;

    pub(in crate::neutron::messages) fn serialize<S: Serializer>(
        net: &Option<IpNet>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        net.as_ref().map(write_range).serialize(serializer)
    }

    pub(in crate::neutron::messages) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<IpNet>, D::Error> {
        let text = Option::<Cow<'_, str>>::deserialize(deserializer)?;
        text.map(|text| parse_range(&text)).transpose().map_err(D::Error::custom)
    }
}

pub(super) fn write_range(net: &IpNet) -> String {
    let is_address = net.prefix_len() == net.max_prefix_len();
    if is_address { net.addr().to_string() } else { net.to_string() }
}

pub(super) fn parse_range(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| address()).map_err(|_| format!("{text:?} is neither an address nor a range of addresses"))
}
