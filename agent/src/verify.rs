//! `overlane verify`: every difference between what is desired and what is there, in a sentence.

use std::io::Write;

use overlane_core::{
    action::{Action, DatapathAction, KernelAction},
    model::NetworkId,
    observed::{FdbEntry, FdbTable},
    qos::Tbf,
};
use serde::Serialize;

use crate::{cli::Format, show::View};

#[derive(Serialize)]
struct Document {
    differences: Vec<String>,
    notes: Vec<String>,
}

/// Prints the differences and returns how many there are.
///
/// # Errors
/// When `out` cannot be written to.
pub fn verify(view: &View, format: Format, out: &mut impl Write) -> anyhow::Result<usize> {
    let plan = view.plan();
    let obstacles = plan.obstacles.iter().chain(&plan.waiting).map(ToString::to_string);
    let differences = view.untold().into_iter().chain(obstacles);
    let differences = differences.chain(plan.actions.iter().map(|action| explain(view, action)));
    let differences: Vec<String> = differences.chain(view.service_differences()).collect();
    let taps = view.taps_without_port().map(|tap| explain_tap(view, tap));
    let untold = view.ports_in_trouble().map(|(tap, reason)| format!("{tap} is connected, but {reason}"));
    let notes = plan.detours.iter().map(ToString::to_string).chain(taps).chain(untold);
    // A network in which no port works is told of to nobody.
    let notes: Vec<String> = notes.chain(view.without_members()).collect();
    let count = differences.len();
    if format == Format::Json {
        serde_json::to_writer_pretty(&mut *out, &Document { differences, notes })?;
        writeln!(out)?;
        return Ok(count);
    }
    if differences.is_empty() {
        writeln!(out, "Desired state, kernel and maps agree.")?;
    }
    for difference in differences {
        writeln!(out, "{difference}")?;
    }
    for note in notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(count)
}

/// What is wrong, rather than what would be done about it, and why the agent has not mended it if it has tried.
fn explain(view: &View, action: &Action) -> String {
    let difference = match action {
        Action::Kernel(action) => explain_kernel(view, action),
        Action::Datapath(action) => explain_datapath(view, action),
    };
    match view.failure(action) {
        Some(error) => format!("{difference}; the agent cannot mend it: {error}"),
        None => difference,
    }
}

/// No difference: it may be somebody else's. But if a network or its bridge is missed, this is the fact that is missing.
fn explain_tap(view: &View, name: &str) -> String {
    match view.why_not_here(name) {
        Some(reason) => format!("{name} is here, but not connected: {reason}"),
        None => format!(
            "{name} is here, but the control plane has no port of that name on this host, so nothing is made for it"
        ),
    }
}

fn explain_kernel(view: &View, action: &KernelAction) -> String {
    match action {
        KernelAction::CreateBridge { name, network } => {
            format!("bridge {name} does not exist; {}", why_needed(view, *network))
        }
        KernelAction::CreateVxlan { name, network, .. } => {
            format!("vxlan device {name} does not exist; {}", why_needed(view, *network))
        }
        KernelAction::CreateVlan { name, network, .. } => {
            format!("VLAN device {name} does not exist; {}", why_needed(view, *network))
        }
        KernelAction::CreateSubPort { name, parent, .. } => {
            format!("VLAN device {name} does not exist; a subport of the trunk of {} needs it", parent.tap_name())
        }
        KernelAction::SetPromiscuous { name, .. } => {
            format!("{name} takes the frames for its own MAC address only, not those for ports of its VLANs")
        }
        KernelAction::SetUp { name, .. } => format!("{name} is down"),
        KernelAction::SetDown { name, .. } => format!("{name} is up, and its port is switched off"),
        KernelAction::SetMtu { ifindex, name, mtu } => {
            format!("{name} has MTU {}, its network {mtu}", view.mtu(*ifindex).unwrap_or_default())
        }
        KernelAction::SetMaster { name, bridge_name, .. } => format!("{name} is not in bridge {bridge_name}"),
        KernelAction::MoveIntoBridge { name, bridge_name, .. } => {
            format!("{name}, or an address of its, is not in bridge {bridge_name}")
        }
        KernelAction::GiveBack { name, bridge_name, .. } => format!("{name} is still in bridge {bridge_name}"),
        KernelAction::SetVxlanUnderlay { name, underlay_name, .. } => {
            format!("{name} sends by another link than {underlay_name}, which has the tunnel endpoint's address")
        }
        KernelAction::DeleteLink { name, .. } => {
            format!("{name} belongs to a network, or is a subport's, that has left this host")
        }
        KernelAction::CreateGuard { .. } => {
            "nothing keeps taps closed until they are filtered: the guard (nf_tables table bridge overlane) is missing"
                .to_owned()
        }
        KernelAction::RemoveGuard => "there is a guard of closed taps, but no security group".to_owned(),
        KernelAction::Release { name, .. } => format!("the guard keeps {name} closed, though it may be open"),
        KernelAction::Close { name, .. } => format!("the guard lets {name} through, though it is no port's tap"),
        KernelAction::SetLimit { name, tbf: Tbf::LIFTED, .. } | KernelAction::RemoveLimit { name, .. } => {
            format!("the machine behind {name} is limited in what it receives, and no QoS policy says so")
        }
        KernelAction::SetLimit { name, tbf, .. } => {
            format!("the machine behind {name} is not limited to receiving {} kbit/s", tbf.rate * 8 / 1000)
        }
        KernelAction::AddFdb(entry) => format!("{} is missing", describe(view, entry)),
        KernelAction::DeleteFdb(entry) => format!("{} should not be there", describe(view, entry)),
        KernelAction::ResolveNeighbor { uplink, address } => {
            format!("the kernel does not keep next hop {address} on {} resolved", view.interface(*uplink))
        }
    }
}

/// The taps that a network's devices are for.
fn why_needed(view: &View, id: NetworkId) -> String {
    let Some(network) = view.desired_network(id) else { return "its network is unknown".to_owned() };
    let taps = network.local_ports.keys().map(|port| {
        let tap = port.tap_name();
        let state = if view.has_link(&tap) { "there" } else { "not there yet" };
        format!("{tap} ({state})")
    });
    let taps: Vec<String> = taps.collect();
    format!("network {} needs it for {}", network.name, taps.join(", "))
}

fn describe(view: &View, entry: &FdbEntry) -> String {
    let (mac, device) = (entry.mac, view.interface(entry.ifindex));
    match entry.table {
        FdbTable::Bridge => format!("the bridge's static entry for {mac} at {device}"),
        FdbTable::BridgeLearned => format!("what the bridge has learned of {mac} at {device}"),
        FdbTable::Vxlan { remote } | FdbTable::Learned { remote } => {
            format!("the entry of {device} for {mac} at {remote}")
        }
    }
}

fn explain_datapath(view: &View, action: &DatapathAction) -> String {
    match action {
        DatapathAction::Put(entry) => format!("{} is missing or out of date", view.name_interfaces(&entry.to_string())),
        DatapathAction::Delete(key) => format!("{} should not be there", view.name_interfaces(&key.to_string())),
        DatapathAction::Attach { hook, ifindex } => {
            format!("program {} is not attached to {}", hook.name(), view.interface(*ifindex))
        }
        DatapathAction::ForgetCounters { hook, ifindex } => {
            format!("there are counters of {} for {}, where it is not attached", hook.name(), view.interface(*ifindex))
        }
        DatapathAction::Detach { hook, ifindex } => {
            format!("program {} should not be attached to {}", hook.name(), view.interface(*ifindex))
        }
    }
}
