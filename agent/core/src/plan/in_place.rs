//! Which ports work, as far as this host can see.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    config::{Config, PhysicalDevice},
    desired::{Desired, Network},
    model::{NetworkId, PortId, Segment, vlan_name, vxlan_name},
    observed::{Link, LinkKind, Observed},
    plan::qos,
};

/// Ports whose taps are in their network's bridge, together with what leads to the other hosts, and held to what they should be
/// held to: their groups' rules and their QoS policy. One that is switched off may be down.
pub fn ports_in_place(desired: &Desired, observed: &Observed, config: &Config) -> BTreeSet<PortId> {
    let links: BTreeMap<&str, &Link> = observed.kernel.links.values().map(|link| (link.name.as_str(), link)).collect();
    let mut in_place = BTreeSet::new();
    for (id, network) in &desired.networks {
        let Some(bridge) = connected_bridge(*id, network, &links, config) else { continue };
        for (port, local) in &network.local_ports {
            let Some(tap) = links.get(port.tap_name().as_str()) else { continue };
            let is_held = || {
                let datapath = observed.datapath.as_ref();
                !local.security.has_rules() || datapath.is_some_and(|datapath| datapath.is_filtered(tap.ifindex))
            };
            let is_connected = tap.master == Some(bridge) && tap.up == local.admin_state_up;
            if is_connected && is_held() && qos::is_in_force(&local.qos, tap, observed, config) {
                in_place.insert(*port);
            }
        }
    }
    in_place
}

/// The bridge of a network, by interface index, if what leads to the other hosts is in it.
fn connected_bridge(id: NetworkId, network: &Network, links: &BTreeMap<&str, &Link>, config: &Config) -> Option<u32> {
    let (bridge, segment) = match &network.segment {
        Segment::Vxlan(vni) => (id.bridge_name(), Some(vxlan_name(*vni))),
        Segment::Vlan { physical_network, vid } => {
            (id.bridge_name(), Some(vlan_name(config.vlan_interface(physical_network)?, *vid)))
        }
        Segment::Flat { physical_network } => match config.untagged_device(physical_network)? {
            PhysicalDevice::Bridge(bridge) => (bridge, None),
            PhysicalDevice::Interface(nic) => (id.bridge_name(), Some(nic)),
        },
        Segment::Local => (id.bridge_name(), None),
    };
    let bridge = links.get(bridge.as_str()).filter(|link| link.kind == LinkKind::Bridge && link.up)?.ifindex;
    let is_connected = match segment {
        None => true,
        Some(segment) => links.get(segment.as_str()).is_some_and(|link| link.master == Some(bridge)),
    };
    is_connected.then_some(bridge)
}
