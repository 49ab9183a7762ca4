//! Where packets from other hosts are decapsulated: `[overlane] uplink_lane`.

use std::{collections::BTreeMap, fmt};

use super::{mappings::is_interface_name, read::Reader};

const OPTION: &str = "uplink_lane";

/// What takes up the packets that arrive on a NIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UplinkLane {
    /// The programs at the TC hooks.
    #[default]
    Tc,
    /// XDP for everything but TCP, as far as the NIC can; the programs at the TC hooks for the rest.
    Xdp,
    /// XDP where the NIC's driver is known to gain by it.
    Auto,
}

/// The lane of each NIC that leads to other hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UplinkLanes {
    /// Of NICs that are not named.
    pub default: UplinkLane,
    /// By the name of the NIC.
    pub by_nic: BTreeMap<String, UplinkLane>,
}

impl UplinkLane {
    const ALL: [Self; 3] = [Self::Tc, Self::Xdp, Self::Auto];
}

impl UplinkLanes {
    /// The lane of a NIC.
    pub fn of(&self, nic: &str) -> UplinkLane {
        self.by_nic.get(nic).copied().unwrap_or(self.default)
    }

    /// Whether any NIC may use XDP.
    pub fn may_use_xdp(&self) -> bool {
        self.by_nic.values().chain([&self.default]).any(|lane| *lane != UplinkLane::Tc)
    }
}

impl Reader<'_> {
    /// A lane for all, and `NIC:lane` for some.
    pub(super) fn uplink_lanes(&mut self) -> UplinkLanes {
        let text = self.text("overlane", OPTION).unwrap_or_default();
        let mut lanes = UplinkLanes::default();
        let mut has_default = false;
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (nic, word) = item.rsplit_once(':').map_or((None, item), |(nic, word)| (Some(nic.trim()), word.trim()));
            let Some(lane) = UplinkLane::ALL.into_iter().find(|lane| lane.to_string() == word) else {
                self.problem(
                    "overlane",
                    OPTION,
                    format_args!("{item:?}: expected tc, xdp or auto, or NIC:xdp and the like"),
                );
                continue;
            };
            match nic {
                Some(nic) if !is_interface_name(nic) => {
                    self.problem("overlane", OPTION, format_args!("{item:?}: {nic:?} is not the name of a device"));
                }
                Some(nic) if lanes.by_nic.insert(nic.to_owned(), lane).is_some() => {
                    self.problem("overlane", OPTION, format_args!("NIC {nic} has two lanes"));
                }
                Some(_) => (),
                None if has_default => {
                    self.problem("overlane", OPTION, "there are two lanes for the NICs that are not named");
                }
                None => (lanes.default, has_default) = (lane, true),
            }
        }
        lanes
    }
}

impl fmt::Display for UplinkLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tc => "tc",
            Self::Xdp => "xdp",
            Self::Auto => "auto",
        })
    }
}

impl fmt::Display for UplinkLanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.default)?;
        self.by_nic.iter().try_for_each(|(nic, lane)| write!(f, ", {nic}:{lane}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read::tests::{MINIMAL, read};

    #[test]
    fn a_lane_is_for_all_nics_or_for_some() {
        let lanes = |value: &str| {
            let text = format!("{MINIMAL}\n[overlane]\nuplink_lane = {value}\n");
            read(&text).expect("valid").0.uplink_lanes
        };
        assert_eq!(read(MINIMAL).expect("valid").0.uplink_lanes.of("eth0"), UplinkLane::Tc);
        assert_eq!(lanes("xdp").of("eth0"), UplinkLane::Xdp);
        let some = lanes("eth1:xdp, auto ,eth2:tc");
        assert_eq!(
            ["eth0", "eth1", "eth2"].map(|nic| some.of(nic)),
            [UplinkLane::Auto, UplinkLane::Xdp, UplinkLane::Tc]
        );
        assert_eq!(some.to_string(), "auto, eth1:xdp, eth2:tc");
        assert!(some.may_use_xdp() && !lanes("eth1:tc").may_use_xdp());
    }

    #[test]
    fn lanes_that_mean_nothing_or_too_much_are_refused() {
        for (value, expected) in [
            ("fast", "\"fast\": expected tc, xdp or auto"),
            ("eth1:fast", "\"eth1:fast\": expected tc, xdp or auto"),
            ("xdp,tc", "two lanes for the NICs that are not named"),
            ("eth1:xdp,eth1:tc", "NIC eth1 has two lanes"),
            (":xdp", "is not the name of a device"),
        ] {
            let problems = read(&format!("{MINIMAL}\n[overlane]\nuplink_lane = {value}\n")).expect_err(value);
            assert!(problems.len() == 1 && problems[0].contains(expected), "{value}: {problems:?}");
        }
    }
}
