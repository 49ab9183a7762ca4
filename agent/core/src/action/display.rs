//! Actions in words, for `overlane plan` and for the log.

use std::{fmt, net::IpAddr};

use overlane_abi as abi;

use super::{Action, DatapathAction, KernelAction, MapEntry, MapKey, Tagging, VlanSpec};
use crate::observed::{FdbEntry, FdbTable};

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
            Self::CreateVlan { name, spec: VlanSpec { vid, mtu, tagging, .. }, .. } => {
                let by = match tagging {
                    Tagging::Kernel => "",
                    Tagging::Programs => ", tagged by eBPF because the kernel has no 8021q module",
                };
                write!(f, "create VLAN device {name}: VID {vid} mtu {mtu}{by}")
            }
            Self::SetPromiscuous { name, .. } => write!(f, "have {name} take the frames for all MAC addresses"),
            Self::SetUp { name, .. } => write!(f, "set {name} up"),
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
            Self::AddFdb(entry) => write!(f, "add FDB entry {entry}"),
            Self::DeleteFdb(entry) => write!(f, "delete FDB entry {entry}"),
            Self::ResolveNeighbor { uplink, address } => write!(f, "resolve next hop {address} on interface {uplink}"),
        }
    }
}

impl fmt::Display for FdbEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on interface {}", self.mac, self.ifindex)?;
        match self.table {
            FdbTable::Bridge => write!(f, " (bridge)"),
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

impl fmt::Display for MapEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key().fmt(f)
    }
}

impl fmt::Display for MapKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mac = |mac| crate::model::Mac(mac);
        match self {
            Self::Port(ifindex) => write!(f, "ports[interface {ifindex}]"),
            Self::Network(key) if key.kind == abi::NetworkKey::VNI => write!(f, "networks[VNI {}]", key.id),
            Self::Network(key) => write!(f, "networks[interface {}]", key.id),
            Self::Fdb(key) => write!(f, "fdb[network {}, {}]", key.network, mac(key.mac)),
            Self::Vtep(address) => write!(f, "vteps[{}]", IpAddr::from(*address)),
            Self::Vlan(key) => write!(f, "vlans[VID {} on interface {}]", key.vid, key.nic),
            Self::VlanDevice(ifindex) => write!(f, "vlan_devices[interface {ifindex}]"),
            Self::Neighbor(key) => write!(f, "neighbors[network {}, {}]", key.network, IpAddr::from(key.address)),
        }
    }
}
