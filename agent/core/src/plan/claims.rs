//! Devices that two networks or two ports want at once: names hold only the beginning of an id, and mappings may cross. One of
//! them gets the device, the others are told which.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    config::Config,
    desired::Desired,
    model::{NetworkId, PortId},
    observed::KernelState,
};

/// Who goes without, and why.
#[derive(Debug, Default)]
pub(super) struct Refused {
    pub(super) networks: BTreeMap<NetworkId, String>,
    pub(super) ports: BTreeMap<PortId, String>,
}

/// Gives every device to one network or port: to the network that has it already, else to the one with the smallest id.
pub(super) fn settle(desired: &Desired, kernel: &KernelState, config: &Config) -> Refused {
    let mut refused = Refused::default();
    let mut claims: BTreeMap<String, Vec<NetworkId>> = BTreeMap::new();
    for (id, network) in &desired.networks {
        for device in config.devices_of(*id, &network.segment) {
            claims.entry(device).or_default().push(*id);
        }
    }
    for (device, claimants) in claims.into_iter().filter(|(_, claimants)| claimants.len() > 1) {
        let owner = owner(&device, kernel).filter(|owner| claimants.contains(owner));
        let winner = owner.unwrap_or(claimants[0]);
        for id in claimants.into_iter().filter(|id| *id != winner) {
            let winner = format!("network {} ({winner})", desired.networks[&winner].name);
            refused.networks.entry(id).or_insert(format!("{device} is for {winner}: two networks cannot share it"));
        }
    }
    let mut taps: BTreeMap<String, PortId> = BTreeMap::new();
    let ports: BTreeSet<PortId> =
        desired.networks.values().flat_map(|network| network.local_ports.keys()).copied().collect();
    for port in ports {
        let winner = *taps.entry(port.tap_name()).or_insert(port);
        if winner != port {
            let reason = format!("{} is for port {winner}: two ports cannot share it", port.tap_name());
            refused.ports.insert(port, reason);
        }
    }
    refused
}

/// The network that a device has been made for, or whose bridge it is part of.
fn owner(device: &str, kernel: &KernelState) -> Option<NetworkId> {
    let link = kernel.link_named(device)?;
    link.made_for.or_else(|| kernel.links.get(&link.master?)?.made_for)
}
