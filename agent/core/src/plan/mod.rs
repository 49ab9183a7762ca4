//! From what is desired and what was observed to what is to be done: a pure function, whose actions are data.
//!
//! One plan need not reach the goal. What depends on an interface that does not exist yet is planned once it does, so
//! the caller observes and plans again until a plan brings nothing new.

mod datapath;
mod devices;
mod fdb;
mod guard;
pub mod header;
mod security;
mod vteps;

use std::{collections::BTreeSet, fmt, net::IpAddr};

use crate::{
    action::{Action, KernelAction},
    config::Config,
    desired::Desired,
    model::{NetworkId, PortId},
    observed::{KernelState, Link, Observed},
    plan::vteps::Vteps,
};

/// What to do, and what stands in the way of the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Steps, in the order in which they must be taken.
    pub actions: Vec<Action>,
    /// Why some of what is desired is not planned.
    pub obstacles: Vec<Obstacle>,
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

/// The steps that lead from `observed` towards `desired`. Kernel devices come first, then maps, then attachments: a
/// program never runs before the maps that it needs are filled.
pub fn plan(desired: &Desired, observed: &Observed, config: &Config) -> Plan {
    let mut plan = Plan::default();
    guard::plan(desired, observed, config, &mut plan);
    let devices = devices::plan(desired, observed, config, &mut plan);
    fdb::plan(desired, &observed.kernel, &devices, &mut plan);
    let vteps = match &config.vxlan {
        Some(vxlan) => vteps::plan(desired, &observed.kernel, vxlan, &mut plan),
        None => Vteps::default(),
    };
    if let Some(datapath) = &observed.datapath {
        let target = datapath::target(desired, observed, datapath, &devices, &vteps, config, &mut plan);
        datapath::plan(desired, &observed.kernel, datapath, &target, &mut plan);
    }
    if desired.complete {
        let retired = observed.retired.intersection(&unused_devices(desired, &observed.kernel)).copied().collect();
        devices::retire(&retired, &observed.kernel, config, &mut plan);
    }
    plan
}

/// The steps that remove every device that Overlane has made, in use or not.
pub fn purge(kernel: &KernelState, config: &Config) -> Vec<Action> {
    let mut plan = Plan::default();
    let made = kernel.links.values().filter(|link| link.made_for.is_some()).map(|link| link.ifindex).collect();
    devices::remove(&made, kernel, config, &mut plan);
    plan.actions
}

/// Devices that Overlane has made for networks that are no longer desired.
pub fn unused_devices(desired: &Desired, kernel: &KernelState) -> BTreeSet<u32> {
    let is_unused = |link: &&Link| link.made_for.is_some_and(|network| !desired.networks.contains_key(&network));
    kernel.links.values().filter(is_unused).map(|link| link.ifindex).collect()
}

impl Plan {
    /// Whether more steps follow that cannot be planned yet, because they need devices that this plan makes.
    pub fn creates_devices(&self) -> bool {
        let creates = |action: &Action| {
            matches!(action, Action::Kernel(KernelAction::CreateBridge { .. } | KernelAction::CreateVxlan { .. }))
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
