//! Neutron's versioned objects: what is pulled from the server, and pushed by it.
//!
//! A field that is not set is absent. Objects may be nested; each says its kind and version.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

use super::{
    AllowedAddressPair, MessageError, address::range, devices::enforced, lenient::null_is_empty, parse,
    profile::Profile, segment::SegmentFields,
};
use crate::model::{AddressGroupId, Mac, NetworkId, PortId, SecurityGroupId, Segment};

/// Every object says that it is one of Neutron's.
const NAMESPACE: &str = "versionedobjects";

/// An object in its wrapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object<T> {
    /// Its kind, such as `QosPolicy`.
    #[serde(rename = "versioned_object.name")]
    pub name: String,
    /// Always the same.
    #[serde(rename = "versioned_object.namespace", default = "namespace")]
    pub namespace: String,
    /// Version of the kind, such as `1.10`.
    #[serde(rename = "versioned_object.version")]
    pub version: String,
    /// Its fields.
    #[serde(rename = "versioned_object.data")]
    pub data: T,
}

fn namespace() -> String {
    NAMESPACE.to_owned()
}

impl<T> Object<T> {
    /// An object.
    pub fn new(name: &str, version: &str, data: T) -> Self {
        Self { name: name.to_owned(), namespace: namespace(), version: version.to_owned(), data }
    }
}

/// A QoS policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QosPolicy {
    /// The policy.
    pub id: Uuid,
    /// What people call it.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub name: String,
    /// What it asks for.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub rules: Vec<QosRule>,
    /// Grows with every change.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub revision_number: u64,
}

/// One rule of a QoS policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QosRule {
    /// No more than so many bits.
    BandwidthLimit(BandwidthLimit),
    /// The DSCP of what the machine sends.
    DscpMarking {
        /// 0 to 63.
        dscp_mark: u8,
    },
    /// A kind that this agent does not carry out.
    Other {
        /// Neutron's name for it, such as `QosMinimumBandwidthRule`.
        kind: String,
    },
}

/// `QosBandwidthLimitRule`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BandwidthLimit {
    /// Kilobits per second.
    pub max_kbps: u64,
    /// Kilobits; 0 leaves it to the agent.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub max_burst_kbps: u64,
    /// `ingress` or `egress`, as the machine sees it. Old servers know only what it sends.
    #[serde(default = "egress")]
    pub direction: String,
}

fn egress() -> String {
    "egress".to_owned()
}

impl<'de> Deserialize<'de> for QosRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Marking {
            dscp_mark: u8,
        }
        let object = Object::<Value>::deserialize(deserializer)?;
        let rule = match object.name.as_str() {
            "QosBandwidthLimitRule" => parse(object.data).map(Self::BandwidthLimit),
            "QosDscpMarkingRule" => parse(object.data).and_then(|Marking { dscp_mark }| match dscp_mark {
                0..=63 => Ok(Self::DscpMarking { dscp_mark }),
                _ => Err(MessageError::new("dscp_mark", format_args!("{dscp_mark} is no DSCP: expected 0 to 63"))),
            }),
            _ => Ok(Self::Other { kind: object.name }),
        };
        rule.map_err(serde::de::Error::custom)
    }
}

impl Serialize for QosRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (name, data) = match self {
            Self::BandwidthLimit(limit) => ("QosBandwidthLimitRule", serde_json::json!(limit)),
            Self::DscpMarking { dscp_mark } => ("QosDscpMarkingRule", serde_json::json!({ "dscp_mark": dscp_mark })),
            Self::Other { kind } => (kind.as_str(), Value::Object(serde_json::Map::new())),
        };
        Object::new(name, "1.5", data).serialize(serializer)
    }
}

/// An address group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressGroup {
    /// The group.
    pub id: AddressGroupId,
    /// What people call it.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub name: String,
    /// Its addresses and ranges.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub addresses: Vec<Object<AddressAssociation>>,
}

/// One address or range of an address group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressAssociation {
    /// The range.
    #[serde(with = "range")]
    pub address: IpNet,
}

/// A trunk: one port of a machine that carries others, by VLAN tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trunk {
    /// The trunk.
    pub id: Uuid,
    /// The port that carries the others.
    pub port_id: PortId,
    /// Whether the trunk is to work.
    #[serde(default = "enforced")]
    pub admin_state_up: bool,
    /// `ACTIVE`, `BUILD`, `DOWN`, `DEGRADED`, `ERROR`.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub status: String,
    /// What it carries.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub sub_ports: Vec<Object<SubPort>>,
}

/// A port that a trunk carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubPort {
    /// The port.
    pub port_id: PortId,
    /// Its trunk.
    pub trunk_id: Uuid,
    /// `vlan`; other kinds are not ours.
    pub segmentation_type: String,
    /// The tag, as the machine has it.
    pub segmentation_id: u32,
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The port.
    pub id: PortId,
    /// Its network.
    pub network_id: NetworkId,
    /// The guest's MAC address.
    pub mac_address: Mac,
    /// Whether the port is to work.
    pub admin_state_up: bool,
    /// Such as `compute:nova`.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub device_owner: String,
    /// `ACTIVE`, `BUILD`, `DOWN`.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub status: String,
    /// What else it may send as.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub allowed_address_pairs: Vec<Object<AllowedAddressPair>>,
    /// The hosts that it is bound to; more than one while it migrates.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub bindings: Vec<Object<PortBinding>>,
    /// Its addresses.
    pub fixed_ips: Vec<Object<IpAllocation>>,
    /// Whether the port is held to its addresses and security groups; absent where the server has no port security.
    pub security: Option<Object<PortSecurity>>,
    /// Its security groups, in no particular order.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub security_group_ids: Vec<SecurityGroupId>,
    /// The port's own QoS policy.
    pub qos_policy_id: Option<Uuid>,
    /// Its network's, which counts where the port has none.
    pub qos_network_policy_id: Option<Uuid>,
    /// The segments that it is bound to.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub binding_levels: Vec<Object<BindingLevel>>,
    /// Grows with every change.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub revision_number: u64,
}

/// One host that a port is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// The host; empty when there is none.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub host: String,
    /// `bridge` is ours.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub vif_type: String,
    /// `ACTIVE`, or `INACTIVE` where a machine has yet to migrate to.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub status: String,
    /// What an administrator tells of it.
    #[serde(default, skip_serializing)]
    pub profile: Profile,
}

/// An address of a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpAllocation {
    /// Its subnet.
    pub subnet_id: Option<Uuid>,
    /// The address.
    pub ip_address: IpAddr,
}

/// Whether a port is held to anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSecurity {
    /// To its addresses and security groups.
    #[serde(default = "enforced")]
    pub port_security_enabled: bool,
}

/// One level of a hierarchical binding; the last one is the host's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingLevel {
    /// The host.
    pub host: String,
    /// From 0.
    pub level: u32,
    /// The mechanism driver that has bound it.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub driver: String,
    /// The segment.
    pub segment: Option<Object<NetworkSegment>>,
}

/// A segment of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSegment {
    /// Its network.
    pub network_id: NetworkId,
    /// Neutron's name for the kind of segment.
    pub network_type: String,
    /// Label of the physical network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub physical_network: Option<String>,
    /// VNI or VID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segmentation_id: Option<u32>,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The network.
    pub id: NetworkId,
    /// What people call it.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub name: String,
    /// Largest IP packet in bytes.
    pub mtu: Option<u32>,
    /// The QoS policy of ports that have none.
    pub qos_policy_id: Option<Uuid>,
    /// Its segments; most networks have one.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub segments: Vec<Object<NetworkSegment>>,
}

impl Port {
    /// Whether the port is held to its addresses and security groups.
    pub fn is_secured(&self) -> bool {
        self.security.as_ref().is_none_or(|security| security.data.port_security_enabled)
    }

    /// The segment that it is bound to on some host.
    pub fn any_segment(&self) -> Option<&NetworkSegment> {
        let last = self.binding_levels.iter().max_by_key(|level| level.data.level)?;
        last.data.segment.as_ref().map(|segment| &segment.data)
    }

    /// The segment that it is bound to on a host.
    pub fn segment_on(&self, host: &str) -> Option<&NetworkSegment> {
        let levels = self.binding_levels.iter().map(|level| &level.data).filter(|level| level.host == host);
        let last = levels.max_by_key(|level| level.level)?;
        last.segment.as_ref().map(|segment| &segment.data)
    }
}

impl NetworkSegment {
    /// The segment as a value.
    ///
    /// # Errors
    /// [`MessageError`] when the agent has no such segments, or the fields do not make one.
    pub fn segment(&self) -> Result<Segment, MessageError> {
        let Self { network_type, physical_network, segmentation_id, .. } = self;
        SegmentFields { network_type, physical_network: physical_network.as_deref(), segmentation_id: *segmentation_id }
            .segment()
    }
}
