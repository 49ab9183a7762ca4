//! What one host looks like, as data: listed from the kernel, never remembered.

mod fdb;
mod security;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use overlane_abi as abi;

use crate::{
    action::{Action, DatapathAction, KernelAction, MapEntry, MapKey},
    model::{Mac, NetworkId, PortId, Vid, Vni},
    offload::{NicFeatures, RoomHelper},
    qos::Qdisc,
    xdp::{XdpDevice, XdpFeatures},
};

pub use fdb::{FdbEntry, FdbTable, Learned};
pub use security::{AllowedSource, SecurityState};

/// Everything that the plan looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Devices, FDB and paths.
    pub kernel: KernelState,
    /// Maps and attachments; `None` when the fast path is off or unavailable.
    pub datapath: Option<DatapathState>,
    /// Devices of Overlane's that no network has needed for longer than the grace period. (The plan has no clock: who
    /// calls it has.)
    pub retired: BTreeSet<u32>,
    /// Taps that were connected when the host came from another filter, a short while ago: their connections are met in
    /// mid-stream, until their ports are held to less than they were then. (As above; `None` when the caller does not know, and
    /// what is there is right.)
    pub taken_over: Option<BTreeSet<u32>>,
    /// Taps that have been left to libvirt for longer than a grace period: it will not connect them any more.
    pub abandoned: BTreeSet<u32>,
}

/// Devices, FDB and paths of one network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelState {
    /// Every link, by interface index.
    pub links: BTreeMap<u32, Link>,
    /// Permanent and static entries of the FDBs of bridges and vxlan devices, and what these have learned where that matters
    /// ([`Learned`]); what else they learn and the kernel's own entries for device addresses are left out.
    pub fdb: BTreeSet<FdbEntry>,
    /// How each tunnel endpoint is reached; no entry where there is no route.
    pub paths: BTreeMap<IpAddr, Path>,
    /// Addresses that other hosts can see (global scope), by interface index.
    pub addresses: BTreeMap<u32, BTreeSet<IpAddr>>,
    /// The taps that the guard of closed taps lets through, by interface index; `None` where there is no guard.
    pub released: Option<BTreeSet<u32>>,
    /// What somebody has put at the root of a device to queue what it sends, by interface index. Only listed where it matters.
    pub qdiscs: BTreeMap<u32, Qdisc>,
    /// What the NICs that lead to tunnel endpoints can do for superpackets, by interface index, or why that is not known.
    pub nics: BTreeMap<u32, Result<NicFeatures, String>>,
    /// Whether the kernel makes VLAN devices (its 8021q module). Only asked while one is missing
    /// ([`crate::plan::lacks_vlan_device`]).
    pub has_8021q: bool,
    /// What devices can do with XDP, by interface index. Only listed where it is to be used.
    pub xdp: BTreeMap<u32, XdpFeatures>,
}

/// A network device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Interface index; a device that is made again under the same name gets another one.
    pub ifindex: u32,
    /// Interface name.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// The bridge (or bond, VRF, …) it belongs to, by interface index.
    pub master: Option<u32>,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether somebody has told it to take the frames for all MAC addresses. (A bridge that it is a port of may have its
    /// way without this.)
    pub promiscuous: bool,
    /// Maximum transmission unit in bytes.
    pub mtu: u32,
    /// Its own MAC address; `None` for devices that have no Ethernet header.
    pub mac: Option<Mac>,
    /// The network that Overlane has made it for, as the mark in its `ifalias` says; `None` for what others have made.
    pub made_for: Option<NetworkId>,
    /// The port of the trunk that Overlane has made it for, as the device of a subport; marked likewise.
    pub made_for_trunk: Option<PortId>,
}

/// What a device is, as far as the plan cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// A bridge.
    Bridge,
    /// A vxlan device.
    Vxlan(Vxlan),
    /// A VLAN device of the kernel's 8021q module.
    Vlan(Vlan),
    /// Anything else: taps, veths, NICs; the kernel's name for the kind, empty for physical devices.
    Other(String),
}

/// Attributes of a vxlan device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// Its VNI.
    pub vni: Vni,
    /// Its source address.
    pub local: Option<IpAddr>,
    /// The link that its packets leave by, if it is bound to one.
    pub underlay: Option<u32>,
    /// UDP destination port.
    pub port: u16,
    /// Where it sends what is for nobody that it knows: the multicast group that it has joined.
    pub group: Option<IpAddr>,
    /// Whether it accepts UDP over IPv6 without a checksum, which is what the fast lane sends.
    pub udp6_zero_checksum_rx: bool,
}

/// Attributes of a VLAN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// The NIC that it is on; `None` when that is in another namespace.
    pub nic: Option<u32>,
    /// Its tag.
    pub vid: Vid,
    /// Whether its tags are those of a provider's network (802.1ad) instead of 802.1Q.
    pub is_8021ad: bool,
}

/// How a tunnel endpoint is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The underlay link that the route leads to.
    pub uplink: u32,
    /// The next hop: a gateway, or the endpoint itself.
    pub next_hop: IpAddr,
    /// Its link-layer address, while the kernel believes in one.
    pub next_hop_mac: Option<Mac>,
    /// Whether the kernel finds it and keeps it by itself: a managed neighbour, or one that somebody has set for good.
    pub is_kept: bool,
    /// Largest IP packet in bytes: the route's MTU, or the link's.
    pub mtu: u32,
}

/// Contents of the pinned maps, and where programs are attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatapathState {
    /// The `ports` map.
    pub ports: BTreeMap<u32, abi::Port>,
    /// The `networks` map.
    pub networks: BTreeMap<abi::NetworkKey, abi::Network>,
    /// The `fdb` map.
    pub fdb: BTreeMap<abi::FdbKey, abi::FdbEntry>,
    /// The `vteps` map.
    pub vteps: BTreeMap<abi::Address, abi::Vtep>,
    /// The `neighbors` map.
    pub neighbors: BTreeMap<abi::NeighborKey, abi::Neighbor>,
    /// The `vlans` map.
    pub vlans: BTreeMap<abi::VlanId, abi::Vlan>,
    /// The `vlan_devices` map.
    pub vlan_devices: BTreeMap<u32, abi::VlanId>,
    /// The `qos` map.
    pub qos: BTreeMap<u32, abi::Qos>,
    /// The `xdp_devices` map.
    pub xdp_devices: BTreeMap<u32, XdpDevice>,
    /// Programs in force, by hook and interface index. A link whose device is gone is listed under the index that it
    /// was pinned for.
    pub attached: BTreeSet<(abi::Hook, u32)>,
    /// Where programs have counted something, by hook and interface index.
    pub counted: BTreeSet<(abi::Hook, u32)>,
    /// The maps of port security and security groups.
    pub security: SecurityState,
    /// What the kernel's helper for outer headers was found to do, as `meta` has it.
    pub room_helper: RoomHelper,
}

impl DatapathState {
    /// Whether both of a port's programs are attached to its tap. Until it has an entry in `ports`, they let everything through,
    /// or nothing where taps are closed by default.
    pub fn has_both_programs(&self, tap: u32) -> bool {
        [abi::Hook::FromPort, abi::Hook::ToPort].into_iter().all(|hook| self.attached.contains(&(hook, tap)))
    }

    /// Whether a port is held to its entry in both directions.
    pub fn is_filtered(&self, tap: u32) -> bool {
        self.ports.contains_key(&tap) && self.has_both_programs(tap)
    }
}

impl Observed {
    /// Takes note of a step that has changed an entry of the big tables; whatever else a step changes is looked at again.
    pub fn record(&mut self, action: &Action) {
        let maps = self.datapath.as_mut();
        match action {
            Action::Kernel(KernelAction::AddFdb(entry)) => {
                self.kernel.add_fdb(*entry);
            }
            Action::Kernel(KernelAction::DeleteFdb(entry)) => {
                self.kernel.fdb.remove(entry);
            }
            Action::Datapath(DatapathAction::Put(MapEntry::Fdb(key, entry))) => {
                maps.and_then(|maps| maps.fdb.insert(*key, *entry));
            }
            Action::Datapath(DatapathAction::Put(MapEntry::Neighbor(key, neighbor))) => {
                maps.and_then(|maps| maps.neighbors.insert(*key, *neighbor));
            }
            Action::Datapath(DatapathAction::Put(MapEntry::Port(ifindex, port))) => {
                let before = maps.and_then(|maps| maps.ports.insert(*ifindex, *port));
                if before.is_some_and(|before| before.revision != port.revision) {
                    self.taken_over.as_mut().map(|taps| taps.remove(ifindex));
                }
            }
            Action::Datapath(DatapathAction::Put(MapEntry::Security(entry))) => {
                if let Some(maps) = maps {
                    maps.security.put(entry);
                }
            }
            Action::Datapath(DatapathAction::Delete(MapKey::Security(key))) => {
                maps.map(|maps| maps.security.delete(key));
            }
            Action::Datapath(DatapathAction::Delete(MapKey::Fdb(key))) => {
                maps.and_then(|maps| maps.fdb.remove(key));
            }
            Action::Datapath(DatapathAction::Delete(MapKey::Neighbor(key))) => {
                maps.and_then(|maps| maps.neighbors.remove(key));
            }
            _ => (),
        }
    }
}

impl Default for LinkKind {
    fn default() -> Self {
        Self::Other(String::new())
    }
}

impl LinkKind {
    /// What the kernel calls the devices that are made in the place of VLAN devices where it has no 8021q module.
    pub const IFB: &str = "ifb";

    /// Whether frames go in and out of it as of a NIC or a tap; on one of these, a VLAN device is another one.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Other(_) | Self::Vlan(_))
    }
}

impl KernelState {
    /// The link called `name`.
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// The link that has `address`.
    pub fn link_with_address(&self, address: IpAddr) -> Option<&Link> {
        let (ifindex, _) = self.addresses.iter().find(|(_, addresses)| addresses.contains(&address))?;
        self.links.get(ifindex)
    }
}
