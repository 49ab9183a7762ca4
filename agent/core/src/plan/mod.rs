//! From what is desired and what was observed to what is to be done: a pure function, whose actions are data.
//!
//! One plan need not reach the goal. What depends on an interface that does not exist yet is planned once it does, so
//! the caller observes and plans again until a plan brings nothing new.

mod claims;
mod datapath;
mod devices;
mod entries;
mod guard;
pub mod header;
mod in_place;
mod opening;
mod qos;
mod security;
mod vteps;
mod xdp;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use crate::{
    action::{Action, KernelAction},
    config::{Config, FastPath},
    desired::{Desired, EntryKey},
    model::{NetworkId, PortId, Segment, vlan_name},
    observed::{KernelState, Link, Observed},
    plan::vteps::Vteps,
};

pub use devices::{sub_ports_in_place, taps_in_the_making};
pub use entries::{Placement, Scope};
pub use in_place::ports_in_place;
pub use vteps::superpackets;
pub use xdp::may_use_xdp;

/// What to do, and what stands in the way of the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Steps, in the order in which they must be taken.
    pub actions: Vec<Action>,
    /// Why some of what is desired is not planned.
    pub obstacles: Vec<Obstacle>,
    /// Where the entries of each network go. Once every step is taken, all of them are there.
    pub placements: BTreeMap<NetworkId, Placement>,
    /// What is not planned because somebody else is expected to do it.
    pub waiting: Vec<Obstacle>,
    /// Lanes that were asked for and are not to be had: another one carries the packets.
    pub detours: Vec<Obstacle>,
}

/// Something that keeps a part of what is desired from being planned. Everything else goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What cannot be done.
    pub subject: Subject,
    /// Why, and what would help, in one sentence.
    pub message: String,
}

/// What an obstacle is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Everything on this host.
    Host,
    /// One network, and with it all its ports.
    Network(NetworkId),
    /// One port.
    Port(PortId),
    /// One tunnel endpoint.
    Vtep(IpAddr),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.subject {
            Subject::Host => write!(f, "host: {}", self.message),
            Subject::Network(id) => write!(f, "network {id}: {}", self.message),
            Subject::Port(id) => write!(f, "port {id}: {}", self.message),
            Subject::Vtep(address) => write!(f, "VTEP {address}: {}", self.message),
        }
    }
}

/// The steps that lead from `observed` towards `desired`. Devices come first, then entries, then attachments: a program never
/// runs before the maps that it needs are filled.
pub fn plan(desired: &Desired, observed: &Observed, config: &Config) -> Plan {
    plan_within(desired, observed, config, Scope::Everything)
}

/// As [`plan`], comparing only some of the entries of the big tables.
pub fn plan_within(desired: &Desired, observed: &Observed, config: &Config, scope: Scope) -> Plan {
    let mut plan = Plan::default();
    guard::plan(desired, observed, config, &mut plan);
    // The kernel drops what is sent to a tap while it puts a limit there: better before the tap is connected.
    let guarded = plan.actions.len();
    let devices = devices::plan(desired, observed, config, &mut plan);
    let connecting = plan.actions.split_off(guarded);
    qos::plan(desired, observed, &devices, config, &mut plan);
    plan.actions.extend(connecting);
    let vteps = match &config.vxlan {
        Some(vxlan) => vteps::plan(desired, observed, vxlan, &mut plan),
        None => Vteps::default(),
    };
    let indices = observed.datapath.as_ref().map(|maps| datapath::network_indices(desired, maps, &devices));
    plan.placements = devices
        .iter()
        .map(|(id, devices)| {
            let index = indices.as_ref().and_then(|indices| indices.get(id)).copied();
            // What is only filtered needs no entries in maps.
            let index = index.filter(|_| config.fast_path == FastPath::Auto);
            let multicast = config.multicast.as_ref();
            (*id, Placement::new((desired, *id), devices, index, observed, multicast))
        })
        .collect();
    let entries = entries::plan(desired, observed, &plan.placements, scope);
    match (&observed.datapath, indices) {
        (Some(maps), Some(indices)) => {
            let target = datapath::target(desired, observed, maps, (&devices, &indices), &vteps, config, &mut plan);
            let closed = opening::closed(desired, observed, &devices);
            datapath::plan(desired, &observed.kernel, (maps, &target), (entries, &closed), &mut plan);
        }
        _ => plan.actions.extend(entries.into_actions()),
    }
    if desired.complete {
        let unused = unused_devices(desired, &observed.kernel);
        let deleted = devices::of_deleted_networks(desired, &observed.kernel, config);
        let retired = observed.retired.intersection(&unused).copied().chain(deleted).collect();
        devices::retire(&retired, &observed.kernel, config, &mut plan);
    }
    plan
}

/// The steps for some entries, when everything else is as it should be.
pub fn plan_entries(
    desired: &Desired,
    observed: &Observed,
    placements: &BTreeMap<NetworkId, Placement>,
    entries: &BTreeSet<EntryKey>,
) -> Vec<Action> {
    entries::plan_some(desired, observed, placements, entries).into_actions().collect()
}

/// The steps for other rules and other members of groups, when everything else is as it should be.
pub fn plan_rules(desired: &Desired, observed: &Observed, placements: &BTreeMap<NetworkId, Placement>) -> Vec<Action> {
    let mut plan = Plan::default();
    if let Some(datapath) = &observed.datapath {
        security::plan_rules(desired, observed, datapath, placements, &mut plan);
    }
    plan.actions
}

/// The steps that remove every device and every limit that Overlane has made, in use or not.
pub fn purge(kernel: &KernelState, config: &Config) -> Vec<Action> {
    let mut plan = Plan { actions: lift_limits(kernel), ..Plan::default() };
    let is_made = |link: &&Link| link.made_for.is_some() || link.made_for_trunk.is_some();
    let made = kernel.links.values().filter(is_made).map(|link| link.ifindex).collect();
    devices::remove(&made, kernel, config, &mut plan);
    plan.actions
}

/// The steps that remove every limit that Overlane has made.
pub fn lift_limits(kernel: &KernelState) -> Vec<Action> {
    let mut plan = Plan::default();
    for (ifindex, qdisc) in kernel.qdiscs.iter().filter(|(_, qdisc)| qdisc.is_ours()) {
        if let Some(link) = kernel.links.get(ifindex) {
            qos::remove(link, qdisc, &mut plan);
        }
    }
    plan.actions
}

/// Devices that Overlane has made for networks that are no longer desired.
pub fn unused_devices(desired: &Desired, kernel: &KernelState) -> BTreeSet<u32> {
    let is_unused = |link: &&Link| link.made_for.is_some_and(|network| !desired.networks.contains_key(&network));
    kernel.links.values().filter(is_unused).map(|link| link.ifindex).collect()
}

/// Whether a VLAN network or a subport has no device yet, so that it matters whether the kernel can make one.
pub fn lacks_vlan_device(desired: &Desired, kernel: &KernelState, config: &Config) -> bool {
    let lacks_sub_port = desired.sub_ports.keys().any(|port| kernel.link_named(&port.tap_name()).is_none());
    lacks_sub_port
        || desired.networks.values().any(|network| match &network.segment {
            Segment::Vlan { physical_network, vid } => {
                let nic = config.vlan_interface(physical_network);
                nic.is_some_and(|nic| kernel.link_named(&vlan_name(nic, *vid)).is_none())
            }
            Segment::Vxlan(_) | Segment::Flat { .. } | Segment::Local => false,
        })
}

impl Plan {
    /// Whether more steps follow that cannot be planned yet, because they need devices that this plan makes.
    pub fn creates_devices(&self) -> bool {
        let creates = |action: &Action| {
            use KernelAction::{CreateBridge, CreateSubPort, CreateVlan, CreateVxlan};
            matches!(
                action,
                Action::Kernel(CreateBridge { .. } | CreateVxlan { .. } | CreateVlan { .. } | CreateSubPort { .. })
            )
        };
        self.actions.iter().any(creates)
    }

    fn obstacle(&mut self, subject: Subject, message: impl Into<String>) {
        self.obstacles.push(Obstacle { subject, message: message.into() });
    }

    fn action(&mut self, action: impl Into<Action>) {
        self.actions.push(action.into());
    }
}
