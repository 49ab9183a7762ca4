//! Actions in words, for `overlane plan` and for the log.

use std::fmt;

use super::{Action, DatapathAction, KernelAction, Tagging, VlanSpec};
use crate::{
    observed::{FdbEntry, FdbTable},
    qos::Tbf,
};

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(action) => action.fmt(f),
            Self::Datapath(action) => action.fmt(f),
        }
    }
}

impl fmt::Display for KernelAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateBridge { name, network } => write!(f, "create bridge {name} for network {network}"),
            Self::CreateVxlan { name, spec, .. } => {
                write!(f, "create vxlan device {name}: local {} port {} mtu {}", spec.local, spec.port, spec.mtu)?;
                spec.group.map_or(Ok(()), |group| write!(f, " group {group}"))
            }
            Self::CreateVlan { name, spec, .. } => write!(f, "create VLAN device {name}: {spec}"),
            Self::CreateSubPort { name, parent, spec } => {
                write!(f, "create VLAN device {name} on {}, for a subport: {spec}", parent.tap_name())
            }
            Self::SetPromiscuous { name, .. } => write!(f, "have {name} take the frames for all MAC addresses"),
            Self::SetUp { name, .. } => write!(f, "set {name} up"),
            Self::SetDown { name, .. } => write!(f, "set {name} down"),
            Self::SetMtu { name, mtu, .. } => write!(f, "set the MTU of {name} to {mtu}"),
            Self::SetMaster { name, bridge_name, .. } => write!(f, "add {name} to bridge {bridge_name}"),
            Self::MoveIntoBridge { name, bridge_name, .. } => {
                write!(f, "move {name} with its addresses and routes into bridge {bridge_name}")
            }
            Self::GiveBack { name, bridge_name, .. } => {
                write!(f, "take {name} out of bridge {bridge_name}, and give it its addresses and routes back")
            }
            Self::SetVxlanUnderlay { name, underlay_name, .. } => write!(f, "send {name} by {underlay_name}"),
            Self::DeleteLink { name, .. } => write!(f, "delete {name}"),
            Self::CreateGuard { .. } => write!(f, "make the guard that keeps taps closed until they are filtered"),
            Self::RemoveGuard => write!(f, "remove the guard of closed taps"),
            Self::Release { name, .. } => write!(f, "let the guard release {name}"),
            Self::Close { name, .. } => write!(f, "let the guard close {name}"),
            Self::SetLimit { name, tbf: Tbf::LIFTED, .. } => {
                write!(f, "lift the limit of what is received behind {name}")
            }
            Self::SetLimit { name, tbf, .. } => {
                write!(f, "limit what is received behind {name} to {} kbit/s", tbf.rate * 8 / 1000)
            }
            Self::RemoveLimit { name, .. } => write!(f, "remove the limit of what is received behind {name}"),
            Self::AddFdb(entry) => write!(f, "add FDB entry {entry}"),
            Self::DeleteFdb(entry) => write!(f, "delete FDB entry {entry}"),
            Self::ResolveNeighbor { uplink, address } => write!(f, "resolve next hop {address} on interface {uplink}"),
        }
    }
}

impl fmt::Display for VlanSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match self.tagging {
            Tagging::Kernel => "",
            Tagging::Programs => ", tagged by eBPF because the kernel has no 8021q module",
        };
        write!(f, "VID {} mtu {}{by}", self.vid, self.mtu)
    }
}

impl fmt::Display for FdbEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on interface {}", self.mac, self.ifindex)?;
        match self.table {
            FdbTable::Bridge => write!(f, " (bridge)"),
            FdbTable::BridgeLearned => write!(f, " (bridge, learned)"),
            FdbTable::Vxlan { remote } => write!(f, " to {remote}"),
            FdbTable::Learned { remote } => write!(f, " to {remote} (learned)"),
        }
    }
}

impl fmt::Display for DatapathAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(entry) => write!(f, "set {entry}"),
            Self::Delete(key) => write!(f, "delete {key}"),
            Self::Attach { hook, ifindex } => write!(f, "attach {} to interface {ifindex}", hook.name()),
            Self::ForgetCounters { hook, ifindex } => {
                write!(f, "forget the counters of {} on interface {ifindex}", hook.name())
            }
            Self::Detach { hook, ifindex } => write!(f, "detach {} from interface {ifindex}", hook.name()),
        }
    }
}
