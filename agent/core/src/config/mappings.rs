//! `[linux_bridge]`: which device leads to which physical network.

use std::collections::BTreeMap;

use super::{PhysicalDevice, read::Reader};

impl Reader<'_> {
    /// Both mappings; a bridge wins over an interface of the same physical network.
    pub(super) fn physical_networks(&mut self) -> BTreeMap<String, PhysicalDevice> {
        let mut devices = BTreeMap::new();
        for (name, bridge) in self.mappings("physical_interface_mappings") {
            devices.insert(name, PhysicalDevice::Interface(bridge));
        }
        for (name, bridge) in self.mappings("bridge_mappings") {
            devices.insert(name, PhysicalDevice::Bridge(bridge));
        }
        devices
    }

    /// `label:device, …`; labels and devices are unique, as the Linux bridge agent wants them.
    fn mappings(&mut self, name: &str) -> Vec<(String, String)> {
        let text = self.text("linux_bridge", name).unwrap_or_default();
        let mut mappings: Vec<(String, String)> = Vec::new();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let parts: Vec<&str> = item.split(':').map(str::trim).collect();
            let [label, device] = parts[..] else {
                self.problem("linux_bridge", name, format_args!("{item:?}: expected label:device"));
                continue;
            };
            if label.is_empty() || !is_interface_name(device) {
                self.problem("linux_bridge", name, format_args!("{item:?}: expected label:device, {INTERFACE_NAME}"));
            } else if mappings.iter().any(|(known, _)| known == label) {
                self.problem("linux_bridge", name, format_args!("physical network {label} is mapped twice"));
            } else if mappings.iter().any(|(_, known)| known == device) {
                self.problem("linux_bridge", name, format_args!("device {device} is mapped twice"));
            } else {
                mappings.push((label.to_owned(), device.to_owned()));
            }
        }
        mappings
    }
}

/// What the kernel takes for the name of a device (`dev_valid_name`).
const INTERFACE_NAME: &str = "a device name of at most 15 characters";

fn is_interface_name(name: &str) -> bool {
    let has_odd_character = name.contains(|c: char| c == '/' || c.is_whitespace());
    (1..=15).contains(&name.len()) && !has_odd_character && name != "." && name != ".."
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read::tests::{MINIMAL, read};

    #[test]
    fn a_bridge_mapping_wins_over_an_interface_mapping() {
        let text = "[linux_bridge]\nphysical_interface_mappings = a:eth2, b:eth3,\nbridge_mappings = b:br-ex\n";
        let (config, _) = read(&format!("{text}{MINIMAL}")).expect("valid");
        let expected = [
            ("a".to_owned(), PhysicalDevice::Interface("eth2".to_owned())),
            ("b".to_owned(), PhysicalDevice::Bridge("br-ex".to_owned())),
        ];
        assert_eq!(config.physical_networks, expected.into());
    }

    #[test]
    fn mappings_that_are_malformed_or_ambiguous_are_refused() {
        let text = "[linux_bridge]\nphysical_interface_mappings = a:eth2,b:eth2,a:eth3,c,d:much-too-long-name\n";
        let problems = read(&format!("{text}{MINIMAL}")).expect_err("invalid");
        let expected = ["device eth2 is mapped twice", "a is mapped twice", "\"c\"", "\"d:much-too-long-name\""];
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
