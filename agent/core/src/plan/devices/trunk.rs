//! Devices of subports: VLAN devices on the taps of their trunks, called like taps themselves. They are the kernel's 8021q module's or,
//! where there is none, ifbs that the programs tag for, as for VLAN networks.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    NetworkPlan, delete, kind_name,
    vlan::{vlan_on, why_no_programs},
};
use crate::{
    action::{KernelAction, Tagging, VlanSpec},
    config::Config,
    desired::{Desired, SubPort},
    model::{PortId, Vid},
    observed::{KernelState, Link, LinkKind, Observed},
    plan::{Plan, Subject},
};

/// Where a subport is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) struct Place {
    /// Interface index of its device.
    pub(in crate::plan) device: u32,
    /// Interface index of the trunk's tap.
    pub(in crate::plan) parent: u32,
    /// Its tag.
    pub(in crate::plan) vid: Vid,
}

/// The subports whose devices are there, and are what they should be.
pub(in crate::plan) fn places(desired: &Desired, kernel: &KernelState) -> BTreeMap<PortId, Place> {
    let place = |(id, sub_port): (&PortId, &SubPort)| {
        let parent = kernel.link_named(&sub_port.parent.tap_name())?;
        let device = kernel.link_named(&id.tap_name()).filter(|device| fits(device, sub_port, parent))?;
        Some((*id, Place { device: device.ifindex, parent: parent.ifindex, vid: sub_port.vid }))
    };
    desired.sub_ports.iter().filter_map(place).collect()
}

/// Subports whose devices are there.
pub fn sub_ports_in_place(desired: &Desired, kernel: &KernelState) -> BTreeSet<PortId> {
    places(desired, kernel).into_keys().collect()
}

/// Plans the devices of all subports, and the end of those that are no subport's any more.
pub(super) fn plan(desired: &Desired, observed: &Observed, config: &Config, plan: &mut Plan) {
    let kernel = &observed.kernel;
    let stale: BTreeSet<u32> =
        kernel.links.values().filter(|link| is_stale(link, desired, kernel)).map(|link| link.ifindex).collect();
    stale.iter().for_each(|ifindex| delete(plan, &kernel.links[ifindex]));
    for (id, sub_port) in &desired.sub_ports {
        let Some(parent) = kernel.link_named(&sub_port.parent.tap_name()).filter(|tap| tap.kind.is_plain()) else {
            continue;
        };
        let trouble = match kernel.link_named(&id.tap_name()) {
            Some(device) if stale.contains(&device.ifindex) => None,
            Some(device) if !fits(device, sub_port, parent) => Some(format!(
                "{} is a {}, but the name is needed for the VLAN device of a subport on {}: rename or delete it",
                device.name,
                kind_name(device),
                parent.name
            )),
            Some(device) if is_ifb(device) => {
                let lack = why_no_programs(observed.datapath.as_ref(), config);
                lack.map(|lack| format!("{} sends and receives by eBPF, but {lack}", device.name))
            }
            Some(_) => None,
            None => create(*id, sub_port, parent, &stale, observed, config, plan).err(),
        };
        if let Some(trouble) = trouble {
            plan.obstacle(Subject::Port(*id), trouble);
        }
    }
}

fn create(
    id: PortId,
    sub_port: &SubPort,
    parent: &Link,
    stale: &BTreeSet<u32>,
    observed: &Observed,
    config: &Config,
    plan: &mut Plan,
) -> Result<(), String> {
    let on_parent = LinkKind::Vlan(vlan_on(parent, sub_port.vid));
    let mut same = observed.kernel.links.values().filter(|link| link.kind == on_parent);
    if let Some(other) = same.find(|link| !stale.contains(&link.ifindex)) {
        return Err(format!("VID {} is used on {} by {}: delete it", sub_port.vid, parent.name, other.name));
    }
    let tagging = if observed.kernel.has_8021q { Tagging::Kernel } else { Tagging::Programs };
    if tagging == Tagging::Programs
        && let Some(lack) = why_no_programs(observed.datapath.as_ref(), config)
    {
        return Err(format!("the kernel has no 8021q module, so that subports need eBPF, but {lack}"));
    }
    let spec = VlanSpec { nic: parent.ifindex, mac: parent.mac, vid: sub_port.vid, mtu: parent.mtu, tagging };
    plan.action(KernelAction::CreateSubPort { name: id.tap_name(), parent: sub_port.parent, spec });
    Ok(())
}

/// Whether a device is what a subport needs. Which tag an ifb stands for, the maps say.
fn fits(device: &Link, sub_port: &SubPort, parent: &Link) -> bool {
    match &device.kind {
        LinkKind::Vlan(found) => *found == vlan_on(parent, sub_port.vid),
        _ => is_ifb(device) && device.made_for_trunk == Some(sub_port.parent),
    }
}

fn is_ifb(device: &Link) -> bool {
    matches!(&device.kind, LinkKind::Other(kind) if kind == LinkKind::IFB)
}

/// Whether a link is the device of some subport: it has been made as one, or is what the Linux bridge agent makes.
fn is_sub_port(link: &Link, kernel: &KernelState) -> bool {
    let is_on_a_tap = || match &link.kind {
        LinkKind::Vlan(vlan) => {
            let parent = vlan.nic.and_then(|nic| kernel.links.get(&nic));
            PortId::is_tap_name(&link.name) && parent.is_some_and(|parent| PortId::is_tap_name(&parent.name))
        }
        _ => false,
    };
    link.made_for_trunk.is_some() || is_on_a_tap()
}

/// Whether a device of a subport has no use any more: it is on another tap, has another tag, or is no subport's.
fn is_stale(link: &Link, desired: &Desired, kernel: &KernelState) -> bool {
    if !is_sub_port(link, kernel) {
        return false;
    }
    // Devices of the kernel's go with the tap that they are on.
    let parent_of = |port: PortId| kernel.link_named(&port.tap_name());
    if link.made_for_trunk.is_some_and(|parent| is_ifb(link) && parent_of(parent).is_none()) {
        return true;
    }
    match desired.sub_ports.iter().find(|(id, _)| id.tap_name() == link.name) {
        Some((_, sub_port)) => parent_of(sub_port.parent).is_none_or(|parent| !fits(link, sub_port, parent)),
        None => desired.complete,
    }
}

impl NetworkPlan<'_, '_> {
    /// A subport has no room for more than its trunk's tap.
    pub(super) fn sub_port_mtu(&mut self, port: PortId, place: Place, mtu: Option<u32>) -> Option<u32> {
        let parent = &self.kernel.links[&place.parent];
        let wanted = mtu?;
        if wanted > parent.mtu {
            let message = format!(
                "{0}, the tap of its trunk, has MTU {1}, less than the network's {wanted}: packets of more than {1} bytes are \
                 lost until the trunk's network has as much",
                parent.name, parent.mtu
            );
            self.plan.obstacle(Subject::Port(port), message);
        }
        Some(wanted.min(parent.mtu))
    }

    /// Whether a device is about to go, as its port is no subport any more.
    pub(super) fn is_former_sub_port(&self, tap: &Link) -> bool {
        is_stale(tap, self.desired, self.kernel)
    }

    /// The kernel's VLAN devices cannot be up while what they are on is down.
    pub(super) fn parent_is_up(&self, port: PortId) -> bool {
        let parent = self.sub_ports.get(&port).map(|place| &self.kernel.links[&place.parent]);
        parent.is_none_or(|parent| parent.up)
    }
}
