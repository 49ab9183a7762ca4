//! Which devices XDP takes packets from and sends them by.

use std::collections::{BTreeMap, BTreeSet};

use overlane_abi as abi;

use crate::{
    config::Config,
    desired::Desired,
    model::NetworkId,
    observed::{DatapathState, KernelState},
    plan::{Obstacle, Plan, Subject, devices::NetworkDevices},
    xdp::{self, XdpDevice, XdpFeatures},
};

/// Adds the programs at uplinks and taps, and the devices that they may send by.
pub(super) fn add(
    target: &mut DatapathState,
    desired: &Desired,
    kernel: &KernelState,
    (devices, uplinks): (&BTreeMap<NetworkId, NetworkDevices>, &BTreeSet<u32>),
    config: &Config,
    plan: &mut Plan,
) {
    for (ifindex, link) in uplinks.iter().filter_map(|uplink| Some((*uplink, kernel.links.get(uplink)?))) {
        match xdp::choose(config.uplink_lanes.of(&link.name), kernel.xdp.get(&ifindex)) {
            Ok(choice) if choice.is_xdp => {
                target.attached.insert((abi::Hook::FromUplinkXdp, ifindex));
            }
            Ok(_) => (),
            Err(reason) => detour(plan, Subject::Host, format!("uplink_lane of {} cannot be xdp: {reason}", link.name)),
        }
    }
    let sends = |ifindex: &u32| kernel.xdp.get(ifindex).is_some_and(|features| features.sends);
    let mut reachable = BTreeSet::new();
    for (id, network) in &desired.networks {
        let taps = devices.get(id).into_iter().flat_map(|devices| &devices.taps);
        for (id, tap, port) in taps.map(|(id, tap)| (id, *tap, &network.local_ports[id])) {
            if port.from_port_xdp {
                match XdpFeatures::obstacle(kernel.xdp.get(&tap)) {
                    None => {
                        target.attached.insert((abi::Hook::FromPortXdp, tap));
                    }
                    Some(reason) => {
                        detour(plan, Subject::Port(*id), format!("from_port_xdp is not possible: {reason}"));
                    }
                }
            }
            // What limits it is a queueing discipline, which XDP passes by.
            if port.qos.ingress.is_none() && sends(&tap) && target.ports.contains_key(&tap) {
                reachable.insert(tap);
            }
        }
    }
    if target.attached.iter().any(|(hook, _)| hook.is_xdp()) {
        target.xdp_devices.extend(reachable.into_iter().map(|tap| (tap, XdpDevice::Admitted)));
        target
            .xdp_devices
            .extend(uplinks.iter().filter(|uplink| sends(uplink)).map(|uplink| (*uplink, XdpDevice::Open)));
    }
}

fn detour(plan: &mut Plan, subject: Subject, message: String) {
    plan.detours.push(Obstacle { subject, message });
}

/// Whether it matters what devices can do with XDP.
pub fn may_use_xdp(desired: &Desired, config: &Config) -> bool {
    let mut ports = desired.networks.values().flat_map(|network| network.local_ports.values());
    config.uplink_lanes.may_use_xdp() || ports.any(|port| port.from_port_xdp)
}
