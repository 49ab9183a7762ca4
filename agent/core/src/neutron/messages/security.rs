//! Security groups: rules and members for the ports of this host.

use std::borrow::Cow;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use uuid::Uuid;

use super::{
    AllowedAddressPair, Call, Entries, FixedIp, MessageError, Table,
    address::{optional_range, parse_range, write_range},
    devices::enforced,
    lenient::null_is_empty,
};
use crate::{
    model::{AddressGroupId, Mac, NetworkId, PortId, SecurityGroupId},
    security::{Direction, Ethertype, PortRange, Protocol, Remote, Rule, Traffic},
};

/// Asks for the rules and members that matter to some devices. Changes nothing in the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroupInfoForDevices {
    /// By port id or tap name.
    pub devices: Vec<String>,
    /// Form of the answer: [`SecurityGroupInfoForDevices::CALL_VERSION`].
    pub call_version: String,
}

impl SecurityGroupInfoForDevices {
    /// Members with the MAC addresses of allowed address pairs. Without it they come without.
    pub const CALL_VERSION: &str = "1.3";

    /// Asks for these devices.
    pub fn new(devices: Vec<String>) -> Self {
        Self { devices, call_version: Self::CALL_VERSION.to_owned() }
    }
}

impl Call for SecurityGroupInfoForDevices {
    const METHOD: &str = "security_group_info_for_devices";
    const VERSION: &str = "1.3";
    type Reply = SecurityGroupInfo;
}

/// Everything that the filters of the devices need. A device that is missing is trusted, or unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroupInfo {
    /// The ports behind the devices, by their ids.
    #[serde(default)]
    pub devices: Table<PortId, SecurityDevice>,
    /// Rules by group.
    #[serde(default)]
    pub security_groups: Table<SecurityGroupId, Entries<SecurityRule>>,
    /// Members of the security groups and of the address groups that rules name.
    #[serde(default)]
    pub sg_member_ips: Table<Uuid, Members>,
}

/// A port, as far as its filter goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityDevice {
    /// The name that was asked for.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub device: String,
    /// Its network.
    pub network_id: NetworkId,
    /// The guest's MAC address.
    pub mac_address: Mac,
    /// Such as `compute:nova`.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub device_owner: String,
    /// The port's addresses.
    pub fixed_ips: Vec<FixedIp>,
    /// What else it may send as.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub allowed_address_pairs: Vec<AllowedAddressPair>,
    /// Its groups, in no particular order.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub security_groups: Vec<SecurityGroupId>,
    /// Whether the port is held to any of it.
    #[serde(default = "enforced")]
    pub port_security_enabled: bool,
    /// Security groups that its rules name: it needs to hear when their members change.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub security_group_source_groups: Vec<SecurityGroupId>,
    /// Address groups that its rules name.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub security_group_remote_address_groups: Vec<AddressGroupId>,
}

/// Members by family. A family is missing when no rule of it names the group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// IPv4 members.
    #[serde(rename = "IPv4", default, skip_serializing_if = "Entries::is_empty")]
    pub ipv4: Entries<Member>,
    /// IPv6 members.
    #[serde(rename = "IPv6", default, skip_serializing_if = "Entries::is_empty")]
    pub ipv6: Entries<Member>,
}

/// Addresses of one port, or of an address group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// A fixed IP, or the range of an allowed address pair.
    pub net: IpNet,
    /// The MAC address of an allowed address pair.
    pub mac: Option<Mac>,
}

/// A rule as the server writes it: only what it says is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityRule {
    /// `ingress` or `egress`, as the machine sees it.
    pub direction: String,
    /// `IPv4` or `IPv6`.
    pub ethertype: String,
    /// Whether the group's rules admit flows rather than packets. Old servers do not say: all groups were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stateful: Option<bool>,
    /// A name, or a number as a text.
    #[serde(default, deserialize_with = "name_or_number", skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// First port, or ICMP type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_range_min: Option<u32>,
    /// Last port, or ICMP code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_range_max: Option<u32>,
    /// Of an ingress rule, whom from.
    #[serde(default, with = "optional_range", skip_serializing_if = "Option::is_none")]
    pub source_ip_prefix: Option<IpNet>,
    /// Of an egress rule, whom to.
    #[serde(default, with = "optional_range", skip_serializing_if = "Option::is_none")]
    pub dest_ip_prefix: Option<IpNet>,
    /// Members of this group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_group_id: Option<SecurityGroupId>,
    /// Addresses of this group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_address_group_id: Option<AddressGroupId>,
}

impl SecurityRule {
    /// The rule that it is.
    ///
    /// # Errors
    /// [`MessageError`] when its fields contradict each other, or are of a newer Neutron than this agent knows.
    pub fn rule(&self) -> Result<Rule, MessageError> {
        let direction: Direction =
            self.direction.parse().map_err(|error| MessageError::new("direction", format_args!("{error}")))?;
        let ethertype: Ethertype =
            self.ethertype.parse().map_err(|error| MessageError::new("ethertype", format_args!("{error}")))?;
        Ok(Rule { direction, ethertype, traffic: self.traffic(ethertype)?, remote: self.remote(direction, ethertype)? })
    }

    fn traffic(&self, ethertype: Ethertype) -> Result<Traffic, MessageError> {
        let text = self.protocol.as_deref().unwrap_or("any");
        let protocol =
            Protocol::parse(text).map_err(|error| MessageError::new("protocol", format_args!("{text:?}: {error}")))?;
        let has_range = self.port_range_min.is_some() || self.port_range_max.is_some();
        // Neutron's API lets nothing but these two mean every protocol, whatever range stands beside them.
        let Some(protocol) = protocol else { return Ok(Traffic::Any) };
        // In an IPv6 rule Neutron's `icmp` means ICMPv6.
        let protocol = if protocol == Protocol::ICMP { ethertype.icmp() } else { protocol };
        if !has_range {
            return Ok(Traffic::Protocol(protocol));
        }
        if protocol == ethertype.icmp() {
            return self.icmp();
        }
        if !protocol.has_ports() {
            return Err(MessageError::new("port_range_min", format_args!("protocol {protocol} has no ports")));
        }
        // One end alone is one port, as the Linux bridge agent has it.
        let min = self.port_range_min.or(self.port_range_max).unwrap_or_default();
        let max = self.port_range_max.unwrap_or(min);
        let port = |port: u32| u16::try_from(port).ok();
        let range = port(min).zip(port(max)).and_then(|(min, max)| PortRange::new(min, max));
        let no_range = || MessageError::new("port_range_min", format_args!("{min} to {max} is no range of ports"));
        Ok(Traffic::Ports(protocol, range.ok_or_else(no_range)?))
    }

    fn icmp(&self) -> Result<Traffic, MessageError> {
        let byte = |field, value: u32| {
            u8::try_from(value)
                .map_err(|_| MessageError::new(field, format_args!("{value} is more than a byte can hold")))
        };
        let kind = self
            .port_range_min
            .ok_or_else(|| MessageError::new("port_range_min", "missing: an ICMP code needs an ICMP type"))?;
        let code = self.port_range_max.map(|code| byte("port_range_max", code)).transpose()?;
        Ok(Traffic::Icmp { kind: byte("port_range_min", kind)?, code })
    }

    fn remote(&self, direction: Direction, ethertype: Ethertype) -> Result<Remote, MessageError> {
        if let Some(id) = self.remote_group_id {
            return Ok(Remote::Group(id));
        }
        if let Some(id) = self.remote_address_group_id {
            return Ok(Remote::AddressGroup(id));
        }
        let (field, prefix) = match direction {
            Direction::Ingress => ("source_ip_prefix", self.source_ip_prefix),
            Direction::Egress => ("dest_ip_prefix", self.dest_ip_prefix),
        };
        let Some(net) = prefix else { return Ok(Remote::Any) };
        if Ethertype::of(&net) != ethertype {
            return Err(MessageError::new(field, format_args!("{net} in a rule for {ethertype}")));
        }
        // Every address of the family is anybody.
        Ok(if net.prefix_len() == 0 { Remote::Any } else { Remote::Prefix(net.trunc()) })
    }
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form<'a> {
            // How servers write it that do not know version 1.3.
            Bare(#[serde(borrow)] Cow<'a, str>),
            WithMac(#[serde(borrow)] Cow<'a, str>, Option<Mac>),
        }
        let expected = |_| D::Error::custom("expected an address or range with a MAC address or null");
        let (text, mac) = match Form::deserialize(deserializer).map_err(expected)? {
            Form::Bare(text) => (text, None),
            Form::WithMac(text, mac) => (text, mac),
        };
        let net = parse_range(&text).map_err(D::Error::custom)?;
        Ok(Self { net, mac })
    }
}

impl Serialize for Member {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (write_range(&self.net), self.mac).serialize(serializer)
    }
}

fn name_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Name(String),
        Number(u64),
    }
    let form =
        Option::<Form>::deserialize(deserializer).map_err(|_| D::Error::custom("expected a name or a number"))?;
    Ok(form.map(|form| match form {
        Form::Name(name) => name,
        Form::Number(number) => number.to_string(),
    }))
}
