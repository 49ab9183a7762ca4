//! What a control plane is told of the host.

use overlane_abi::Hook;
use overlane_core::{
    config::Config,
    desired::Desired,
    model::PortId,
    neutron::controller::{HostView, Tap},
    observed::{Link, Observed},
    plan,
};

/// Taps, and the ports that work.
pub(crate) fn of(desired: &Desired, observed: &Observed, config: &Config) -> HostView {
    let attached = observed.datapath.as_ref().map(|datapath| &datapath.attached);
    let tap = |link: &Link| Tap {
        ifindex: link.ifindex,
        is_connected: link.master.is_some(),
        has_programs: attached.is_some_and(|attached| attached.contains(&(Hook::FromPort, link.ifindex))),
    };
    let links = observed.kernel.links.values();
    let taps = links.filter(|link| link.kind.is_plain() && PortId::is_tap_name(&link.name));
    HostView {
        taps: taps.map(|link| (link.name.clone(), tap(link))).collect(),
        in_place: plan::ports_in_place(desired, observed, config),
        sub_ports: plan::sub_ports_in_place(desired, &observed.kernel),
    }
}
