//! Physical networks: which NIC or bridge is behind a label.

use std::fmt;

use super::Config;

/// What the kernel takes for the name of a device (`dev_valid_name`).
const INTERFACE_NAME: &str = "a device name of at most 15 characters";

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

/// Reads `label:device, …`, and returns what is wrong beside what is right. Labels and devices are unique, as the Linux bridge
/// agent wants them.
pub(super) fn parse_mappings(text: &str) -> (Vec<(String, String)>, Vec<String>) {
    let (mut mappings, mut problems): (Vec<(String, String)>, _) = (Vec::new(), Vec::new());
    for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let parts: Vec<&str> = item.split(':').map(str::trim).collect();
        let [label, device] = parts[..] else {
            problems.push(format!("{item:?}: expected label:device"));
            continue;
        };
        if label.is_empty() || !is_interface_name(device) {
            problems.push(format!("{item:?}: expected label:device, {INTERFACE_NAME}"));
        } else if mappings.iter().any(|(known, _)| known == label) {
            problems.push(format!("physical network {label} is mapped twice"));
        } else if mappings.iter().any(|(_, known)| known == device) {
            problems.push(format!("device {device} is mapped twice"));
        } else {
            mappings.push((label.to_owned(), device.to_owned()));
        }
    }
    (mappings, problems)
}

fn is_interface_name(name: &str) -> bool {
    let has_odd_character = name.contains(|c: char| c == '/' || c.is_whitespace());
    (1..=15).contains(&name.len()) && !has_odd_character && name != "." && name != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_that_are_malformed_or_ambiguous_are_refused() {
        let (mappings, problems) = parse_mappings("a:eth2,b:eth2,a:eth3,c,d:much-too-long-name");
        assert_eq!(mappings, [("a".to_owned(), "eth2".to_owned())]);
        let expected = ["device eth2 is mapped twice", "a is mapped twice", "\"c\"", "\"d:much-too-long-name\""];
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
