//! Ports and networks as Neutron's API shows them, in replies and notifications. Asking this way changes nothing in the server.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    AllowedAddressPair, Call, Entries, FixedIp, MessageError, devices::enforced, lenient::null_is_empty,
    segment::SegmentFields,
};
use crate::model::{Mac, NetworkId, PortId, SecurityGroupId, Segment};

/// A port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiPort {
    /// The port.
    pub id: PortId,
    /// Its network.
    pub network_id: NetworkId,
    /// The guest's MAC address.
    pub mac_address: Mac,
    /// Whether the port is to work.
    pub admin_state_up: bool,
    /// `ACTIVE`, `BUILD`, `DOWN`.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub status: String,
    /// Such as `compute:nova` or `network:dhcp`.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub device_owner: String,
    /// The port's addresses.
    pub fixed_ips: Vec<FixedIp>,
    /// What else it may send as.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub allowed_address_pairs: Vec<AllowedAddressPair>,
    /// Its security groups, in no particular order.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub security_groups: Vec<SecurityGroupId>,
    /// The host that it is bound to.
    #[serde(rename = "binding:host_id", default, deserialize_with = "null_is_empty")]
    pub host: String,
    /// How it is bound; `bridge` is ours, `binding_failed` nobody's.
    #[serde(rename = "binding:vif_type", default, deserialize_with = "null_is_empty")]
    pub vif_type: String,
    /// Whether the port is held to its addresses and security groups.
    #[serde(default = "enforced")]
    pub port_security_enabled: bool,
    /// The port's own QoS policy.
    pub qos_policy_id: Option<Uuid>,
    /// Its network's, which counts where the port has none.
    pub qos_network_policy_id: Option<Uuid>,
    /// Grows with every change.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub revision_number: u64,
}

/// A network. Only the id is always there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiNetwork {
    /// The network.
    pub id: NetworkId,
    /// What people call it.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub name: String,
    /// Largest IP packet in bytes.
    pub mtu: Option<u32>,
    /// Neutron's name for the kind of segment.
    #[serde(rename = "provider:network_type")]
    pub network_type: Option<String>,
    /// Label of the physical network.
    #[serde(rename = "provider:physical_network")]
    pub physical_network: Option<String>,
    /// VNI or VID.
    #[serde(rename = "provider:segmentation_id")]
    pub segmentation_id: Option<u32>,
    /// The QoS policy of ports that have none.
    pub qos_policy_id: Option<Uuid>,
}

impl ApiNetwork {
    /// The network's segment.
    ///
    /// # Errors
    /// [`MessageError`] when the agent has no such segments, or the fields do not make one.
    pub fn segment(&self) -> Result<Segment, MessageError> {
        let network_type = self.network_type.as_deref().ok_or_else(|| {
            MessageError::new("provider:network_type", "missing: the network may have several segments")
        })?;
        let physical_network = self.physical_network.as_deref();
        SegmentFields { network_type, physical_network, segmentation_id: self.segmentation_id }.segment()
    }
}

/// Every port that is bound to a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetPortsByVnicTypeAndHost {
    /// `normal` for ports of bridges.
    pub vnic_type: String,
    /// The host.
    pub host: String,
}

impl Call for GetPortsByVnicTypeAndHost {
    const METHOD: &str = "get_ports_by_vnic_type_and_host";
    const VERSION: &str = "1.7";
    type Reply = Entries<ApiPort>;
}

/// One network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetNetworkDetails {
    /// The network.
    pub network: NetworkId,
    /// Goes into the server's log.
    pub agent_id: String,
    /// This host.
    pub host: String,
}

impl Call for GetNetworkDetails {
    const METHOD: &str = "get_network_details";
    const VERSION: &str = "1.6";
    type Reply = Option<ApiNetwork>;
}
