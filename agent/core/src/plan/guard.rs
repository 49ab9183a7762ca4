//! The guard that keeps taps closed until their filters are in force: it closes a tap before anything is taken from it, and
//! lets one through in the pass that finds its programs attached.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    action::KernelAction,
    config::{Config, PhysicalNetwork},
    desired::{Desired, LocalPort},
    model::PortId,
    observed::{Link, Observed},
    plan::{Plan, Subject, opening},
};

/// Plans the guard, and which taps it lets through.
pub(super) fn plan(desired: &Desired, observed: &Observed, config: &Config, plan: &mut Plan) {
    if !desired.closed_by_default {
        if desired.complete && observed.kernel.released.is_some() {
            plan.action(KernelAction::RemoveGuard);
        }
        return;
    }
    let (ready, unfiltered) = taps(desired, observed, config);
    if observed.datapath.is_none() {
        for (tap, port) in unfiltered.values() {
            let message = format!("{} stays closed: its security groups need eBPF, which cannot be used", tap.name);
            plan.obstacle(Subject::Port(*port), message);
        }
    }
    let links = &observed.kernel.links;
    let Some(released) = &observed.kernel.released else {
        plan.action(KernelAction::CreateGuard { released: open_from_the_start(observed, &ready) });
        return;
    };
    for ifindex in released.iter().filter(|ifindex| !ready.contains_key(ifindex)) {
        let link = links.get(ifindex);
        // What was open before there was a guard is closed by its filters, without a gap, and not by the guard.
        if link.is_none() || (desired.complete && !unfiltered.contains_key(ifindex)) {
            let name = link.map_or_else(|| format!("#{ifindex}"), |link| link.name.clone());
            plan.action(KernelAction::Close { ifindex: *ifindex, name });
        }
    }
    // Here rather than at the end: what is attached already must not wait for what is yet to be attached.
    for (ifindex, tap) in ready.iter().filter(|(ifindex, _)| !released.contains(ifindex)) {
        plan.action(KernelAction::Release { ifindex: *ifindex, name: tap.name.clone() });
    }
}

/// Taps by interface index: those that may be let through, and those of this host's ports that are not filtered yet.
#[expect(clippy::type_complexity, reason = "two halves of one thing")]
fn taps<'a>(
    desired: &Desired,
    observed: &'a Observed,
    config: &Config,
) -> (BTreeMap<u32, &'a Link>, BTreeMap<u32, (&'a Link, PortId)>) {
    let ports = desired.networks.values().flat_map(|network| &network.local_ports);
    let ports: BTreeMap<String, (PortId, &LocalPort)> = ports.map(|(id, port)| (id.tap_name(), (*id, port))).collect();
    let (mut ready, mut unfiltered) = (BTreeMap::new(), BTreeMap::new());
    for tap in observed.kernel.links.values().filter(|link| is_tap(link)) {
        let Some((id, port)) = ports.get(&tap.name) else {
            // The guard knows taps by their names only. One that is in somebody else's bridge is somebody else's.
            if tap.master.is_some_and(|master| is_foreign(master, observed, config)) {
                ready.insert(tap.ifindex, tap);
            }
            continue;
        };
        if opening::may_begin(desired, observed.datapath.as_ref(), port, tap.ifindex) {
            ready.insert(tap.ifindex, tap);
        } else {
            unfiltered.insert(tap.ifindex, (tap, *id));
        }
    }
    (ready, unfiltered)
}

/// The taps that a new guard must not cut off: on a host that was without one so far, all that are connected. Where ports
/// have been filtered before, somebody has removed the guard, and only what is filtered may pass.
fn open_from_the_start(observed: &Observed, ready: &BTreeMap<u32, &Link>) -> BTreeSet<u32> {
    let has_filtered = observed.datapath.as_ref().is_some_and(|datapath| !datapath.security.policies.is_empty());
    if has_filtered {
        return ready.keys().copied().collect();
    }
    let connected = observed.kernel.links.values().filter(|link| is_tap(link) && link.master.is_some());
    connected.map(|link| link.ifindex).collect()
}

/// Whether a bridge carries no network of Neutron's.
fn is_foreign(bridge: u32, observed: &Observed, config: &Config) -> bool {
    let Some(bridge) = observed.kernel.links.get(&bridge) else { return false };
    let is_mapped = |network: &PhysicalNetwork| network.bridge.as_ref() == Some(&bridge.name);
    !bridge.name.starts_with("brq") && !config.physical_networks.values().any(is_mapped)
}

fn is_tap(link: &Link) -> bool {
    link.name.starts_with("tap") && link.kind.is_plain()
}
