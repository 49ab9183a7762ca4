//! Taps: what the server knows of the ports behind them, and telling it that they are up or down.
//!
//! A device is named by its port's id, or by `tap` and the beginning of it; the server echoes the name that it was asked by.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{
    AllowedAddressPair, Call, Entries, FixedIp, MessageError, lenient::null_is_empty, parse, profile::Profile,
    segment::SegmentFields,
};
use crate::model::{Mac, NetworkId, PortId, Segment};

/// What the server knows of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceDetails {
    /// A port of this host, or one that belongs to no machine.
    Known(Box<BoundDevice>),
    /// No port, or one that is not bound to any segment.
    Unknown {
        /// The name that was asked for.
        device: String,
    },
    /// A machine's port, which is active on another host: it is migrating here or has migrated away.
    NoActiveBinding {
        /// The name that was asked for.
        device: String,
    },
}

/// A port and its network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundDevice {
    /// The name that was asked for.
    pub device: String,
    /// The port.
    pub port_id: PortId,
    /// Its network.
    pub network_id: NetworkId,
    /// The guest's MAC address.
    pub mac_address: Mac,
    /// Whether the port is to work.
    pub admin_state_up: bool,
    /// Neutron's name for the kind of segment.
    pub network_type: String,
    /// VNI or VID.
    pub segmentation_id: Option<u32>,
    /// Label of the physical network.
    pub physical_network: Option<String>,
    /// The network's MTU in bytes.
    pub mtu: Option<u32>,
    /// The port's addresses. Without any the guest may use every address, so a message must say so.
    pub fixed_ips: Vec<FixedIp>,
    /// Such as `compute:nova` or `network:dhcp`.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub device_owner: String,
    /// What else it may send as.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub allowed_address_pairs: Vec<AllowedAddressPair>,
    /// Whether the port is held to its addresses and security groups.
    #[serde(default = "enforced")]
    pub port_security_enabled: bool,
    /// The port's own QoS policy.
    pub qos_policy_id: Option<Uuid>,
    /// Its network's, which counts where the port has none.
    pub qos_network_policy_id: Option<Uuid>,
    /// What an administrator tells of it.
    #[serde(default, skip_serializing)]
    pub profile: Profile,
}

/// What is not said to be open is closed.
pub(super) const fn enforced() -> bool {
    true
}

impl DeviceDetails {
    /// The name that was asked for.
    pub fn device(&self) -> &str {
        match self {
            Self::Known(bound) => &bound.device,
            Self::Unknown { device } | Self::NoActiveBinding { device } => device,
        }
    }

    /// Has it go by another name.
    pub fn rename(&mut self, name: impl FnOnce(&str) -> String) {
        let device = match self {
            Self::Known(bound) => &mut bound.device,
            Self::Unknown { device } | Self::NoActiveBinding { device } => device,
        };
        *device = name(device);
    }
}

impl BoundDevice {
    /// The network's segment.
    ///
    /// # Errors
    /// [`MessageError`] when the agent has no such segments, or the fields do not make one.
    pub fn segment(&self) -> Result<Segment, MessageError> {
        let Self { network_type, physical_network, segmentation_id, .. } = self;
        SegmentFields { network_type, physical_network: physical_network.as_deref(), segmentation_id: *segmentation_id }
            .segment()
    }
}

impl<'de> Deserialize<'de> for DeviceDetails {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// A port that the server does not tell about has these fields at most.
        #[derive(Deserialize)]
        struct Stub {
            device: String,
            #[serde(default)]
            no_active_binding: bool,
        }
        let value = Value::deserialize(deserializer)?;
        if value.get("port_id").is_some() {
            return parse(value).map(|bound| Self::Known(Box::new(bound))).map_err(serde::de::Error::custom);
        }
        let Stub { device, no_active_binding } = parse(value).map_err(serde::de::Error::custom)?;
        Ok(if no_active_binding { Self::NoActiveBinding { device } } else { Self::Unknown { device } })
    }
}

impl Serialize for DeviceDetails {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Known(bound) => bound.serialize(serializer),
            Self::Unknown { device } => serde_json::json!({ "device": device }).serialize(serializer),
            Self::NoActiveBinding { device } => {
                serde_json::json!({ "device": device, "no_active_binding": true }).serialize(serializer)
            }
        }
    }
}

/// Asks for devices. The server takes the ports of this host for being built meanwhile: an active one stops being active
/// until [`UpdateDeviceUp`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetDevicesDetailsList {
    /// By port id or tap name.
    pub devices: Vec<String>,
    /// Goes into the server's log.
    pub agent_id: String,
    /// This host.
    pub host: String,
}

impl Call for GetDevicesDetailsList {
    const METHOD: &str = "get_devices_details_list";
    const VERSION: &str = "1.9";
    type Reply = Entries<DeviceDetails>;
}

/// As [`GetDevicesDetailsList`]; the server reads all ports at once, and a port on which it fails does not lose the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GetDevicesDetailsListAndFailedDevices(pub GetDevicesDetailsList);

impl Call for GetDevicesDetailsListAndFailedDevices {
    const METHOD: &str = "get_devices_details_list_and_failed_devices";
    const VERSION: &str = "1.5";
    type Reply = DetailsAndFailures;
}

/// What came of [`GetDevicesDetailsListAndFailedDevices`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetailsAndFailures {
    /// Those that the server could tell about.
    pub devices: Entries<DeviceDetails>,
    /// Names of those on which it failed.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub failed_devices: Vec<String>,
}

/// Says that a device forwards. It never tells whether that was of use: null for unknown ports, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateDeviceUp {
    /// By port id or tap name.
    pub device: String,
    /// Goes into the server's log.
    pub agent_id: String,
    /// This host.
    pub host: String,
    /// Asks l2population for all other members of the port's network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_tunnels: Option<bool>,
}

impl Call for UpdateDeviceUp {
    const METHOD: &str = "update_device_up";
    const VERSION: &str = "1.9";
    type Reply = ();
}

/// Says that a device does not forward any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateDeviceDown {
    /// By port id or tap name.
    pub device: String,
    /// Goes into the server's log.
    pub agent_id: String,
    /// This host.
    pub host: String,
}

impl Call for UpdateDeviceDown {
    const METHOD: &str = "update_device_down";
    const VERSION: &str = "1.9";
    type Reply = DeviceDown;
}

/// An acknowledgement, no more: `exists` is true for unknown ports as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceDown {
    /// The name that was given.
    pub device: String,
    /// Means nothing.
    pub exists: bool,
}

/// [`UpdateDeviceUp`] and [`UpdateDeviceDown`] for many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateDeviceList {
    /// Those that forward.
    pub devices_up: Vec<String>,
    /// Those that do not any more.
    pub devices_down: Vec<String>,
    /// Goes into the server's log.
    pub agent_id: String,
    /// This host.
    pub host: String,
    /// As in [`UpdateDeviceUp`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_tunnels: Option<bool>,
}

impl Call for UpdateDeviceList {
    const METHOD: &str = "update_device_list";
    const VERSION: &str = "1.9";
    type Reply = DeviceListUpdated;
}

/// What came of [`UpdateDeviceList`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceListUpdated {
    /// Names of those that are up.
    #[serde(default)]
    pub devices_up: Vec<String>,
    /// Names of those on which the server failed.
    #[serde(default)]
    pub failed_devices_up: Vec<String>,
    /// Those that are down.
    #[serde(default)]
    pub devices_down: Entries<DeviceDown>,
    /// Names of those on which the server failed.
    #[serde(default)]
    pub failed_devices_down: Vec<String>,
}
