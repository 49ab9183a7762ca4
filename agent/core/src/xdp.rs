//! The XDP lane: what devices can do, and which of them are to.

use std::fmt;

use crate::config::UplinkLane;

/// What a device can do with XDP (`enum netdev_xdp_act` of the kernel's `uapi/linux/netdev.h`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XdpFeatures {
    /// Its driver runs programs, and does what they say but for redirecting (`NETDEV_XDP_ACT_BASIC`).
    pub runs: bool,
    /// Its driver redirects (`NETDEV_XDP_ACT_REDIRECT`).
    pub redirects: bool,
    /// It sends what other devices redirect to it (`NETDEV_XDP_ACT_NDO_XMIT`). A veth does as long as its other end listens by
    /// NAPI: with a program of its own, or with GRO.
    pub sends: bool,
    /// As a NIC, it takes VLAN tags off before programs see a packet, or may do so: what is tagged would look like the underlay's own.
    pub hides_tags: bool,
    /// Its driver, as `ethtool -i` tells.
    pub driver: String,
}

/// An entry of the map of devices that XDP may send by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpDevice {
    /// It sends everything.
    Open,
    /// It sends what our program admits.
    Admitted,
    /// It sends what the program of an earlier agent admits.
    Outdated,
}

/// What takes up the packets that arrive on a NIC, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Whether XDP does, for what is not TCP.
    pub is_xdp: bool,
    /// Why, for people.
    pub reason: String,
}

/// Drivers of which XDP is part of the ordinary receive path, whatever it is asked to do: a program costs TCP nothing there that
/// matters.
const GAINING_DRIVERS: [&str; 5] = ["bnxt_en", "i40e", "ice", "ixgbe", "mlx5_core"];

impl XdpFeatures {
    /// Why a device cannot take up packets by XDP.
    pub fn obstacle(features: Option<&Self>) -> Option<String> {
        match features {
            None => Some("the kernel does not tell what XDP can do there (Linux 6.3 and newer do)".to_owned()),
            Some(features) if !features.runs || !features.redirects => {
                Some(format!("its driver ({}) has no native XDP that redirects", features.driver))
            }
            Some(features) if features.hides_tags => Some(
                "it takes VLAN tags off before XDP sees them; ethtool --offload with rxvlan off leaves them".to_owned(),
            ),
            Some(_) => None,
        }
    }
}

/// The lane of a NIC.
///
/// # Errors
/// Why it cannot be the one that was asked for.
pub fn choose(lane: UplinkLane, features: Option<&XdpFeatures>) -> Result<Choice, String> {
    let tc = |reason: String| Ok(Choice { is_xdp: false, reason });
    let obstacle = XdpFeatures::obstacle(features);
    let driver = features.map_or("", |features| features.driver.as_str());
    match (lane, obstacle) {
        (UplinkLane::Tc, _) => tc("uplink_lane = tc".to_owned()),
        (UplinkLane::Xdp, Some(obstacle)) => Err(obstacle),
        (UplinkLane::Auto, Some(obstacle)) => tc(obstacle),
        (UplinkLane::Xdp, None) => Ok(Choice { is_xdp: true, reason: "uplink_lane = xdp".to_owned() }),
        (UplinkLane::Auto, None) if GAINING_DRIVERS.contains(&driver) => {
            Ok(Choice { is_xdp: true, reason: format!("driver {driver}") })
        }
        (UplinkLane::Auto, None) => tc(format!("driver {driver} is not known to gain by XDP")),
    }
}

/// The lane of a NIC as it is, with the reason why it is not the one that was asked for.
pub fn settle(lane: UplinkLane, features: Option<&XdpFeatures>) -> Choice {
    choose(lane, features).unwrap_or_else(|reason| Choice { is_xdp: false, reason })
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", if self.is_xdp { "xdp" } else { "tc" }, self.reason)
    }
}

impl fmt::Display for XdpDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "everything",
            Self::Admitted => "what to_port_xdp admits",
            Self::Outdated => "what an earlier agent's program admits",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic(driver: &str) -> XdpFeatures {
        XdpFeatures { runs: true, redirects: true, sends: true, hides_tags: false, driver: driver.to_owned() }
    }

    #[test]
    fn xdp_is_used_where_it_is_asked_for_and_refused_with_the_reason() {
        assert!(choose(UplinkLane::Xdp, Some(&nic("veth"))).expect("native").is_xdp);
        let without = XdpFeatures { redirects: false, ..nic("e1000e") };
        let reason = choose(UplinkLane::Xdp, Some(&without)).expect_err("not native");
        assert!(reason.contains("e1000e"), "{reason}");
        assert!(choose(UplinkLane::Xdp, None).expect_err("unknown").contains("6.3"));
    }

    #[test]
    fn a_nic_that_hides_what_is_tagged_takes_up_nothing_by_xdp() {
        let hiding = XdpFeatures { hides_tags: true, ..nic("mlx5_core") };
        assert!(choose(UplinkLane::Xdp, Some(&hiding)).expect_err("hidden").contains("rxvlan off"));
        assert!(!choose(UplinkLane::Auto, Some(&hiding)).expect("a lane").is_xdp);
    }

    #[test]
    fn auto_goes_by_the_driver_and_never_fails() {
        let choice = |features: Option<&XdpFeatures>| choose(UplinkLane::Auto, features).expect("a lane");
        assert!(choice(Some(&nic("mlx5_core"))).is_xdp);
        assert!(!choice(Some(&nic("veth"))).is_xdp && !choice(None).is_xdp);
        let tc = choice(Some(&XdpFeatures { runs: false, ..nic("mlx5_core") }));
        assert!(!tc.is_xdp && tc.reason.contains("mlx5_core"), "{tc:?}");
    }

    #[test]
    fn without_asking_it_is_tc() {
        assert!(!choose(UplinkLane::Tc, Some(&nic("mlx5_core"))).expect("a lane").is_xdp);
    }
}
