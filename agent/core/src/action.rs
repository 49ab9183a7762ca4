//! What the plan wants done, as data: printed by `overlane plan`, compared by tests, executed by the adapters.

use std::{fmt, net::IpAddr};

use overlane_abi as abi;

use crate::{
    model::{NetworkId, Vni},
    observed::{FdbEntry, FdbTable},
};

/// One step. Every step is idempotent: made-already and gone-already are success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A change of devices, FDBs or neighbours.
    Kernel(KernelAction),
    /// A change of maps or attachments.
    Datapath(DatapathAction),
}

/// A change of devices, FDBs or neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelAction {
    /// Make a bridge: STP off, no forward delay, no multicast snooping, no IPv6 of its own, up.
    CreateBridge {
        /// Its name.
        name: String,
        /// The network it is for, which is written to its alias.
        network: NetworkId,
    },
    /// Make a vxlan device: without IPv6 of its own, up.
    CreateVxlan {
        /// Its name.
        name: String,
        /// The network it is for, which is written to its alias.
        network: NetworkId,
        /// Everything else.
        spec: VxlanSpec,
    },
    /// Set a link administratively up.
    SetUp {
        /// Interface index.
        ifindex: u32,
        /// Interface name, for people.
        name: String,
    },
    /// Change the MTU of a link.
    SetMtu {
        /// Interface index.
        ifindex: u32,
        /// Interface name, for people.
        name: String,
        /// In bytes.
        mtu: u32,
    },
    /// Make a link a port of a bridge.
    SetMaster {
        /// Interface index.
        ifindex: u32,
        /// Interface name, for people.
        name: String,
        /// Interface index of the bridge.
        bridge: u32,
        /// Name of the bridge, for people.
        bridge_name: String,
    },
    /// Put a NIC into a bridge together with its addresses and routes, as one transaction: it is rolled back when a step
    /// of it fails.
    MoveIntoBridge {
        /// Interface index of the NIC.
        ifindex: u32,
        /// Its name.
        name: String,
        /// Interface index of the bridge.
        bridge: u32,
        /// Its name.
        bridge_name: String,
    },
    /// The reverse of [`Self::MoveIntoBridge`].
    GiveBack {
        /// Interface index of the NIC.
        ifindex: u32,
        /// Its name.
        name: String,
        /// Interface index of the bridge.
        bridge: u32,
        /// Its name.
        bridge_name: String,
    },
    /// Have a vxlan device send by another link.
    SetVxlanUnderlay {
        /// Interface index of the vxlan device.
        ifindex: u32,
        /// Its name.
        name: String,
        /// Interface index of the link.
        underlay: u32,
        /// Its name.
        underlay_name: String,
    },
    /// Delete a device that Overlane has made.
    DeleteLink {
        /// Interface index.
        ifindex: u32,
        /// Interface name, for people.
        name: String,
    },
    /// Add a static FDB entry. Several entries with a zero MAC make a flood list.
    AddFdb(FdbEntry),
    /// Delete a static FDB entry.
    DeleteFdb(FdbEntry),
    /// Have the kernel find, and keep finding, the link-layer address of a next hop.
    ResolveNeighbor {
        /// The underlay link.
        uplink: u32,
        /// The next hop.
        address: IpAddr,
    },
}

/// Attributes of a vxlan device to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanSpec {
    /// VXLAN Network Identifier.
    pub vni: Vni,
    /// Source address of the tunnel.
    pub local: IpAddr,
    /// The link that carries it.
    pub underlay: u32,
    /// UDP destination port.
    pub port: u16,
    /// First and last UDP source port; `None` leaves the kernel's choice.
    pub source_ports: Option<(u16, u16)>,
    /// Outer TTL; `None` leaves the kernel's default.
    pub ttl: Option<u8>,
    /// Outer TOS byte, 1 meaning "inherit" as the kernel has it; `None` leaves the kernel's default.
    pub tos: Option<u8>,
    /// In bytes.
    pub mtu: u32,
}

/// A change of maps or attachments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatapathAction {
    /// Insert or replace a map entry.
    Put(MapEntry),
    /// Delete a map entry.
    Delete(MapKey),
    /// Attach a program to an interface.
    Attach {
        /// Which program, and on which side of the interface.
        hook: abi::Hook,
        /// Interface index.
        ifindex: u32,
    },
    /// Detach a program from an interface, or clean up after one that is gone.
    Detach {
        /// Which program.
        hook: abi::Hook,
        /// Interface index.
        ifindex: u32,
    },
    /// Delete what a program has counted on an interface that it is no longer attached to.
    ForgetCounters {
        /// Which program.
        hook: abi::Hook,
        /// Interface index.
        ifindex: u32,
    },
}

/// An entry of one of the maps that the agent fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MapEntry {
    Port(u32, abi::Port),
    Network(abi::NetworkKey, abi::Network),
    Fdb(abi::FdbKey, abi::FdbEntry),
    Vtep(abi::Address, abi::Vtep),
    Neighbor(abi::NeighborKey, abi::Neighbor),
}

/// A key of one of the maps that the agent fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MapKey {
    Port(u32),
    Network(abi::NetworkKey),
    Fdb(abi::FdbKey),
    Vtep(abi::Address),
    Neighbor(abi::NeighborKey),
}

impl Action {
    /// The interface that the step is about, by index; `None` when there is none yet, or it is about something else.
    pub fn interface(&self) -> Option<u32> {
        match self {
            Self::Kernel(action) => action.interface(),
            Self::Datapath(action) => action.interface(),
        }
    }

    /// The network that the step makes a device for.
    pub fn network(&self) -> Option<NetworkId> {
        match self {
            Self::Kernel(KernelAction::CreateBridge { network, .. } | KernelAction::CreateVxlan { network, .. }) => {
                Some(*network)
            }
            _ => None,
        }
    }
}

impl KernelAction {
    fn interface(&self) -> Option<u32> {
        match self {
            Self::CreateBridge { .. } | Self::CreateVxlan { .. } => None,
            Self::SetUp { ifindex, .. }
            | Self::SetMtu { ifindex, .. }
            | Self::SetMaster { ifindex, .. }
            | Self::MoveIntoBridge { ifindex, .. }
            | Self::GiveBack { ifindex, .. }
            | Self::SetVxlanUnderlay { ifindex, .. }
            | Self::DeleteLink { ifindex, .. }
            | Self::ResolveNeighbor { uplink: ifindex, .. } => Some(*ifindex),
            Self::AddFdb(entry) | Self::DeleteFdb(entry) => Some(entry.ifindex),
        }
    }
}

impl DatapathAction {
    fn interface(&self) -> Option<u32> {
        match self {
            Self::Put(MapEntry::Fdb(_, entry)) => Some(entry.ifindex).filter(|ifindex| *ifindex != 0),
            Self::Put(entry) => entry.key().interface(),
            Self::Delete(key) => key.interface(),
            Self::Attach { ifindex, .. } | Self::Detach { ifindex, .. } | Self::ForgetCounters { ifindex, .. } => {
                Some(*ifindex)
            }
        }
    }
}

impl From<KernelAction> for Action {
    fn from(action: KernelAction) -> Self {
        Self::Kernel(action)
    }
}

impl From<DatapathAction> for Action {
    fn from(action: DatapathAction) -> Self {
        Self::Datapath(action)
    }
}

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
                write!(f, "create vxlan device {name}: local {} port {} mtu {}", spec.local, spec.port, spec.mtu)
            }
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

impl MapEntry {
    /// The entry's key.
    pub fn key(&self) -> MapKey {
        match *self {
            Self::Port(key, _) => MapKey::Port(key),
            Self::Network(key, _) => MapKey::Network(key),
            Self::Fdb(key, _) => MapKey::Fdb(key),
            Self::Vtep(key, _) => MapKey::Vtep(key),
            Self::Neighbor(key, _) => MapKey::Neighbor(key),
        }
    }
}

impl fmt::Display for MapEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key().fmt(f)
    }
}

impl MapKey {
    fn interface(&self) -> Option<u32> {
        match self {
            Self::Port(ifindex) => Some(*ifindex),
            Self::Network(key) if key.kind == abi::NetworkKey::INTERFACE => Some(key.id),
            Self::Network(_) | Self::Fdb(_) | Self::Vtep(_) | Self::Neighbor(_) => None,
        }
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
            Self::Neighbor(key) => write!(f, "neighbors[network {}, {}]", key.network, IpAddr::from(key.address)),
        }
    }
}
