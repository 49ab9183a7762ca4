//! Physical networks: which NIC or bridge is behind a label.

use std::fmt;

use super::Config;

/// The devices behind a physical network; there is at least one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PhysicalNetwork {
    /// `[linux_bridge] physical_interface_mappings`.
    pub interface: Option<String>,
    /// `[linux_bridge] bridge_mappings`: wins for frames without a tag. Those of a VLAN never pass it.
    pub bridge: Option<String>,
}

/// What carries the frames of a physical network that have no tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PhysicalDevice {
    /// A NIC, which is put into the network's own bridge.
    Interface(String),
    /// A bridge that somebody else has made; taps are put into it.
    Bridge(String),
}

impl Config {
    /// What carries the untagged frames of a physical network.
    pub fn untagged_device(&self, physical_network: &str) -> Option<PhysicalDevice> {
        let PhysicalNetwork { interface, bridge } = self.physical_networks.get(physical_network)?;
        let bridge = bridge.clone().map(PhysicalDevice::Bridge);
        bridge.or_else(|| interface.clone().map(PhysicalDevice::Interface))
    }

    /// The NIC that carries the VLANs of a physical network.
    pub fn vlan_interface(&self, physical_network: &str) -> Option<&str> {
        self.physical_networks.get(physical_network)?.interface.as_deref()
    }
}

impl fmt::Display for PhysicalNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.bridge, &self.interface) {
            (Some(bridge), Some(interface)) => write!(f, "bridge {bridge}, VLANs by interface {interface}"),
            (Some(bridge), None) => write!(f, "bridge {bridge}"),
            (None, interface) => write!(f, "interface {}", interface.as_deref().unwrap_or_default()),
        }
    }
}
