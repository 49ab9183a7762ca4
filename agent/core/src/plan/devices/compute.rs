//! Taps of Nova's machines: libvirt makes a tap, puts it into its bridge, and sets it up. Its machine does not start when
//! somebody else has put the tap into a bridge first.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    config::{ComputeTaps, Config},
    desired::{Desired, LocalPort},
    observed::{KernelState, Link},
};

/// Begins the owners of ports that Nova plugs.
const COMPUTE_OWNERS: &str = "compute:";

fn is_compute(port: &LocalPort) -> bool {
    port.device_owner.starts_with(COMPUTE_OWNERS)
}

/// Whether libvirt may be about to connect a tap. Once it is up, and in no bridge, libvirt has done with it.
fn is_untouched(tap: &Link) -> bool {
    tap.master.is_none() && !tap.up
}

/// Taps that are left to libvirt for a grace period: it would have connected them long before that is over.
pub fn taps_in_the_making(desired: &Desired, kernel: &KernelState, config: &Config) -> BTreeSet<u32> {
    if config.compute_taps != ComputeTaps::Auto {
        return BTreeSet::new();
    }
    let untouched = kernel.links.values().filter(|link| is_untouched(link));
    let untouched: BTreeMap<&str, u32> = untouched.map(|link| (link.name.as_str(), link.ifindex)).collect();
    let ports = desired.networks.values().flat_map(|network| &network.local_ports);
    let of_compute = ports.filter(|(_, port)| is_compute(port));
    of_compute.filter_map(|(id, _)| untouched.get(id.tap_name().as_str()).copied()).collect()
}

/// Why a tap is left to somebody else for now, if it is. `abandoned` are those whose grace period is over.
pub(super) fn why_left_alone(
    tap: &Link,
    port: &LocalPort,
    abandoned: &BTreeSet<u32>,
    config: &Config,
) -> Option<String> {
    let name = &tap.name;
    match config.compute_taps {
        _ if !is_compute(port) => None,
        ComputeTaps::Auto if is_untouched(tap) && !abandoned.contains(&tap.ifindex) => {
            Some(format!("{name} is down and in no bridge yet: libvirt may be about to connect it"))
        }
        ComputeTaps::Leave if tap.master.is_none() => {
            Some(format!("{name} is in no bridge, and [overlane] compute_taps = leave leaves that to Nova"))
        }
        ComputeTaps::Auto | ComputeTaps::Connect | ComputeTaps::Leave => None,
    }
}
