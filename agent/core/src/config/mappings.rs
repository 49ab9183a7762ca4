//! `[linux_bridge]`: which device leads to which physical network.

use std::collections::BTreeMap;

use super::{PhysicalNetwork, read::Reader};

const INTERFACES: &str = "physical_interface_mappings";
const BRIDGES: &str = "bridge_mappings";

impl Reader<'_> {
    /// Both mappings.
    pub(super) fn physical_networks(&mut self) -> BTreeMap<String, PhysicalNetwork> {
        let interfaces = self.mappings(INTERFACES);
        let bridges = self.mappings(BRIDGES);
        for (_, device) in bridges.iter().filter(|(_, bridge)| interfaces.iter().any(|(_, nic)| nic == bridge)) {
            let message = format!("device {device} is in {INTERFACES} as well: it is a bridge or a NIC, not both");
            self.problem("linux_bridge", BRIDGES, message);
        }
        for (label, bridge) in &bridges {
            if let Some((_, nic)) = interfaces.iter().find(|(known, _)| known == label) {
                let message = format!(
                    "physical network {label} has interface {nic}, too: for its VLANs; bridge {bridge} has the rest"
                );
                self.note("linux_bridge", BRIDGES, message);
            }
        }
        let mut networks: BTreeMap<String, PhysicalNetwork> = BTreeMap::new();
        for (label, interface) in interfaces {
            networks.entry(label).or_default().interface = Some(interface);
        }
        for (label, bridge) in bridges {
            networks.entry(label).or_default().bridge = Some(bridge);
        }
        networks
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

pub(super) fn is_interface_name(name: &str) -> bool {
    let has_odd_character = name.contains(|c: char| c == '/' || c.is_whitespace());
    (1..=15).contains(&name.len()) && !has_odd_character && name != "." && name != ".."
}

#[cfg(test)]
mod tests {
    use crate::{
        config::{
            PhysicalDevice,
            read::tests::{MINIMAL, read},
        },
        model::{Segment, Vid},
    };

    #[test]
    fn a_bridge_mapping_wins_over_an_interface_mapping_where_frames_have_no_tag() {
        let text =
            "[linux_bridge]\nphysical_interface_mappings = a:eth2, b:eth3,\nbridge_mappings = b:br-ex, c:br-in\n";
        let (config, _) = read(&format!("{text}{MINIMAL}")).expect("valid");
        let bridge = |name: &str| Some(PhysicalDevice::Bridge(name.to_owned()));
        assert_eq!(config.untagged_device("a"), Some(PhysicalDevice::Interface("eth2".to_owned())));
        assert_eq!(
            ["b", "c", "d"].map(|label| config.untagged_device(label)),
            [bridge("br-ex"), bridge("br-in"), None]
        );
        assert_eq!(["a", "b", "c"].map(|label| config.vlan_interface(label)), [Some("eth2"), Some("eth3"), None]);
        let vlan = |label: &str| Segment::Vlan { physical_network: label.to_owned(), vid: Vid::MIN };
        assert_eq!(config.why_unusable(&vlan("b")), None);
        for (label, expected) in [("c", "in [linux_bridge] bridge_mappings only"), ("d", "is neither in")] {
            let reason = config.why_unusable(&vlan(label)).expect("unusable");
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn mappings_that_are_malformed_or_ambiguous_are_refused_one_by_one() {
        for (mappings, expected) in [
            ("physical_interface_mappings = a:eth2,b:eth2", ":2: … device eth2 is mapped twice"),
            ("physical_interface_mappings = a:eth2,a:eth3", ":2: … physical network a is mapped twice"),
            ("bridge_mappings = a:br0,a:br1", ":2: … physical network a is mapped twice"),
            ("bridge_mappings = a:br0,b:br0", ":2: … device br0 is mapped twice"),
            ("physical_interface_mappings = a", ":2: … \"a\": expected label:device"),
            ("physical_interface_mappings = a:b:c", ":2: … \"a:b:c\": expected label:device"),
            ("physical_interface_mappings = :eth2", ":2: … \":eth2\": expected label:device, a device name"),
            ("physical_interface_mappings = a:much-too-long-name", "a device name of at most 15 characters"),
            (
                "physical_interface_mappings = a:eth2\nbridge_mappings = b:eth2",
                ":3: … device eth2 is in physical_interface_mappings as well",
            ),
        ] {
            let problems = read(&format!("[linux_bridge]\n{mappings}\n{MINIMAL}")).expect_err(mappings);
            let found = |part| problems.iter().any(|problem| problem.contains(part));
            assert!(expected.split(" … ").all(found) && problems.len() == 1, "{mappings}: {problems:#?}");
        }
    }

    #[test]
    fn a_physical_network_in_both_options_is_noted() {
        let text = "[linux_bridge]\nphysical_interface_mappings = a:eth2\nbridge_mappings = a:br-ex\n";
        let (_, notes) = read(&format!("{text}{MINIMAL}")).expect("valid");
        let notes: Vec<String> = notes.iter().map(ToString::to_string).collect();
        assert_eq!(
            notes,
            ["/etc/o/a.ini:3: physical network a has interface eth2, too: for its VLANs; bridge br-ex has the rest"]
        );
    }
}
