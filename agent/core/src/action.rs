//! What the plan wants done, as data: printed by `overlane plan`, compared by tests, executed by the adapters.

mod display;

use std::{collections::BTreeSet, net::IpAddr};

use overlane_abi as abi;

pub use crate::map_entry::{MapEntry, MapKey, SecurityEntry, SecurityKey};

use crate::{
    model::{Mac, NetworkId, PortId, Vid, Vni},
    observed::FdbEntry,
    qos::Tbf,
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
    /// Make a `<nic>.<vid>` device: without IPv6 of its own, up.
    CreateVlan {
        /// Its name.
        name: String,
        /// The network it is for, which is written to its alias.
        network: NetworkId,
        /// Everything else.
        spec: VlanSpec,
    },
    /// Make the device of a subport on the tap of its trunk: without IPv6 of its own, down.
    CreateSubPort {
        /// Its name.
        name: String,
        /// The trunk's port, which is written to its alias.
        parent: PortId,
        /// Everything else; the NIC is the trunk's tap.
        spec: VlanSpec,
    },
    /// Set a link administratively up.
    SetUp {
        /// Interface index.
        ifindex: u32,
        /// Interface name, for people.
        name: String,
    },
    /// Set a link administratively down.
    SetDown {
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
    /// Have a NIC take the frames for all MAC addresses.
    SetPromiscuous {
        /// Interface index.
        ifindex: u32,
        /// Interface name, for people.
        name: String,
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
    /// Make the guard that keeps taps closed until their filters are in force. Taps that were open so far stay so.
    CreateGuard {
        /// By interface index.
        released: BTreeSet<u32>,
    },
    /// Remove the guard.
    RemoveGuard,
    /// Have the guard let a tap through: its filters are in force, or it needs none.
    Release {
        /// Interface index.
        ifindex: u32,
        /// Interface name, for people.
        name: String,
    },
    /// Have the guard close a tap, or forget one that is gone.
    Close {
        /// Interface index.
        ifindex: u32,
        /// Interface name, for people.
        name: String,
    },
    /// Limit what the machine behind a tap receives, or lift the limit ([`Tbf::LIFTED`]).
    SetLimit {
        /// Interface index.
        ifindex: u32,
        /// Interface name, for people.
        name: String,
        /// To what.
        tbf: Tbf,
    },
    /// Remove the limit of what the machine behind a tap receives.
    RemoveLimit {
        /// Interface index.
        ifindex: u32,
        /// Interface name, for people.
        name: String,
        /// The queueing discipline that goes, by the major number of its handle.
        handle: u16,
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
    /// The multicast group to join, and to send to what is for nobody that is known.
    pub group: Option<IpAddr>,
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

/// Attributes of a `<nic>.<vid>` device, or the device of a subport, to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanSpec {
    /// Interface index of the NIC.
    pub nic: u32,
    /// The NIC's MAC address, which the device has as well.
    pub mac: Option<Mac>,
    /// The tag.
    pub vid: Vid,
    /// In bytes.
    pub mtu: u32,
    /// Who adds and removes the tag.
    pub tagging: Tagging,
}

/// Who adds and removes the tags of a VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tagging {
    /// The kernel's 8021q module: the device is one of its own.
    Kernel,
    /// The eBPF programs: the device (an ifb) is where they take frames from and bring them to.
    Programs,
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

impl Action {
    /// The interface that the step is about, by index; `None` when there is none yet, or it is about something else.
    pub fn interface(&self) -> Option<u32> {
        match self {
            Self::Kernel(action) => action.interface(),
            Self::Datapath(action) => action.interface(),
        }
    }

    /// Whether the step changes an entry of the big tables, which [`crate::observed::Observed::record`] takes note of.
    pub fn is_entry(&self) -> bool {
        match self {
            Self::Kernel(action) => matches!(action, KernelAction::AddFdb(_) | KernelAction::DeleteFdb(_)),
            Self::Datapath(action) => matches!(
                action,
                DatapathAction::Put(
                    MapEntry::Fdb(..) | MapEntry::Neighbor(..) | MapEntry::Port(..) | MapEntry::Security(_)
                ) | DatapathAction::Delete(MapKey::Fdb(_) | MapKey::Neighbor(_) | MapKey::Security(_))
            ),
        }
    }

    /// The network that the step makes a device for.
    pub fn network(&self) -> Option<NetworkId> {
        match self {
            Self::Kernel(
                KernelAction::CreateBridge { network, .. }
                | KernelAction::CreateVxlan { network, .. }
                | KernelAction::CreateVlan { network, .. },
            ) => Some(*network),
            _ => None,
        }
    }
}

impl KernelAction {
    fn interface(&self) -> Option<u32> {
        match self {
            Self::CreateBridge { .. }
            | Self::CreateVxlan { .. }
            | Self::CreateVlan { .. }
            | Self::CreateSubPort { .. }
            | Self::CreateGuard { .. }
            | Self::RemoveGuard => None,
            Self::SetUp { ifindex, .. }
            | Self::SetDown { ifindex, .. }
            | Self::SetMtu { ifindex, .. }
            | Self::SetPromiscuous { ifindex, .. }
            | Self::SetMaster { ifindex, .. }
            | Self::MoveIntoBridge { ifindex, .. }
            | Self::GiveBack { ifindex, .. }
            | Self::SetVxlanUnderlay { ifindex, .. }
            | Self::DeleteLink { ifindex, .. }
            | Self::Release { ifindex, .. }
            | Self::Close { ifindex, .. }
            | Self::SetLimit { ifindex, .. }
            | Self::RemoveLimit { ifindex, .. }
            | Self::ResolveNeighbor { uplink: ifindex, .. } => Some(*ifindex),
            Self::AddFdb(entry) | Self::DeleteFdb(entry) => Some(entry.ifindex),
        }
    }
}

impl DatapathAction {
    /// Whether the kernel can be told of another step together with this one: both put entries into one map, or both delete some.
    pub fn joins(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Put(one), Self::Put(other)) => one.key().shares_map(&other.key()),
            (Self::Delete(one), Self::Delete(other)) => one.shares_map(other),
            _ => false,
        }
    }

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
