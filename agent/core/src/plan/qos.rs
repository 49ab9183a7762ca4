//! Limits of what machines receive: queueing disciplines at their taps. What they send is up to the programs.

use std::collections::{BTreeMap, BTreeSet};

use overlane_abi as abi;

use crate::{
    action::KernelAction,
    config::Config,
    desired::{Desired, LocalPort},
    model::{NetworkId, PortId},
    observed::{Link, LinkKind, Observed},
    plan::{Plan, Subject, devices::NetworkDevices},
    qos::{Qdisc, QdiscKind, Qos, Tbf},
};

/// What the programs need to know of a port's QoS; `None` when they have nothing to do with it.
pub(super) fn entry(qos: &Qos) -> Option<abi::Qos> {
    let mut entry = abi::Qos { flags: 0, rate_kbps: 0, burst_kbit: 0, dscp: 0 };
    if let Some(limit) = &qos.egress {
        entry.flags |= abi::Qos::LIMITED;
        (entry.rate_kbps, entry.burst_kbit) = (limit.kbps.get(), limit.egress_burst_kbit());
    }
    if let Some(dscp) = qos.dscp {
        entry.flags |= abi::Qos::MARKED;
        entry.dscp = dscp.into();
    }
    (entry.flags != 0).then_some(entry)
}

/// Whether a port is held to its policy, whichever lane its packets take.
pub(super) fn is_in_force(qos: &Qos, tap: &Link, observed: &Observed, config: &Config) -> bool {
    let is_told = |entry: abi::Qos| {
        observed.datapath.as_ref().is_some_and(|datapath| {
            let knows = datapath.ports.get(&tap.ifindex).is_some_and(|port| port.flags & abi::Port::QOS != 0);
            let is_attached = datapath.attached.contains(&(abi::Hook::FromPort, tap.ifindex));
            knows && is_attached && datapath.qos.get(&tap.ifindex) == Some(&entry)
        })
    };
    let is_limited = |limit| is_limit(observed.kernel.qdiscs.get(&tap.ifindex), Tbf::new(limit, tap.mtu, &config.qos));
    entry(qos).is_none_or(is_told) && qos.ingress.as_ref().is_none_or(is_limited)
}

/// Whether a queueing discipline is ours, and holds to a limit.
fn is_limit(qdisc: Option<&Qdisc>, tbf: Tbf) -> bool {
    qdisc == Some(&Qdisc { handle: Qdisc::OURS, kind: QdiscKind::Tbf(tbf) })
}

/// Plans the limits of taps.
pub(super) fn plan(
    desired: &Desired,
    observed: &Observed,
    devices: &BTreeMap<NetworkId, NetworkDevices>,
    config: &Config,
    plan: &mut Plan,
) {
    let kernel = &observed.kernel;
    for (network, devices) in devices {
        for (id, tap) in &devices.taps {
            let (port, tap) = (&desired.networks[network].local_ports[id], &kernel.links[tap]);
            if observed.datapath.is_none() && port.qos.needs_programs() {
                let what =
                    "what its machine sends is neither limited nor marked: that needs eBPF, which cannot be used";
                plan.obstacle(Subject::Port(*id), format!("{}: {what}", tap.name));
            }
            limit(*id, port, (tap, kernel.qdiscs.get(&tap.ifindex)), (desired.complete, config), plan);
        }
    }
    if desired.complete {
        let ports = desired.networks.values().flat_map(|network| network.local_ports.keys());
        let taps: BTreeSet<String> = ports.map(|id| id.tap_name()).collect();
        for (ifindex, qdisc) in kernel.qdiscs.iter().filter(|(_, qdisc)| qdisc.is_ours()) {
            let Some(link) = kernel.links.get(ifindex) else { continue };
            if !taps.contains(&link.name) {
                remove(link, qdisc, plan);
            }
        }
    }
}

/// Plans the limit of a tap, in the place of the Linux bridge agent's, and of nobody else's. One that ends is lifted, and its filter
/// stays for as long as the tap: removing it would lose packets, and so would making it once more.
fn limit(
    id: PortId,
    port: &LocalPort,
    (tap, qdisc): (&Link, Option<&Qdisc>),
    (is_complete, config): (bool, &Config),
    plan: &mut Plan,
) {
    if port.qos.ingress.is_some() && tap.made_for_trunk.is_some() && matches!(tap.kind, LinkKind::Other(_)) {
        let message = format!(
            "what its machine receives is not limited: {} is tagged by eBPF, past queueing disciplines, because the kernel \
             has no 8021q module",
            tap.name
        );
        plan.obstacle(Subject::Port(id), message);
        return;
    }
    match (&port.qos.ingress, qdisc) {
        (Some(_), Some(other)) if !other.is_ours() && !other.is_linux_bridge_agents() => {
            let message = format!(
                "{0} has a queueing discipline of somebody else's ({other}), so that what its machine receives cannot be \
                 limited: remove it with: tc qdisc del dev {0} root",
                tap.name
            );
            plan.obstacle(Subject::Port(id), message);
        }
        (Some(limit), qdisc) => {
            let tbf = Tbf::new(limit, tap.mtu, &config.qos);
            if !is_limit(qdisc, tbf) {
                set(tap, tbf, plan);
            }
        }
        (None, Some(former)) if is_complete && former.is_ours() && !is_limit(qdisc, Tbf::LIFTED) => {
            set(tap, Tbf::LIFTED, plan);
        }
        (None, Some(left)) if is_complete && left.is_linux_bridge_agents() => remove(tap, left, plan),
        (None, _) => (),
    }
}

fn set(link: &Link, tbf: Tbf, plan: &mut Plan) {
    plan.action(KernelAction::SetLimit { ifindex: link.ifindex, name: link.name.clone(), tbf });
}

/// Plans the end of a limit.
pub(super) fn remove(link: &Link, qdisc: &Qdisc, plan: &mut Plan) {
    let (ifindex, name) = (link.ifindex, link.name.clone());
    plan.action(KernelAction::RemoveLimit { ifindex, name, handle: qdisc.handle });
}
