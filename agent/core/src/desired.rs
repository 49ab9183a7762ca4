//! What the control plane asks of this host.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    model::{Mac, NetworkId, PortId, Segment, Vid},
    observed::Learned,
    qos::Qos,
    security::{Groups, PortSecurity, Rulebook},
};

/// Everything that this host should have. Made by a control plane, read by [`crate::plan::plan`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Told", into = "Told")]
pub struct Desired {
    /// Whether the control plane has told everything, but for [`Network::has_unknown_members`]. Until then what is not here is
    /// unknown rather than stale, and nothing is deleted.
    pub complete: bool,
    /// The networks that have at least one port on this host.
    pub networks: BTreeMap<NetworkId, Network>,
    /// The subports of trunks whose own port is on this host. Each is in a network as well, once that is known.
    pub sub_ports: BTreeMap<PortId, SubPort>,
    /// Networks that have been deleted lately: their devices go at once, whoever has made them.
    pub deleted: BTreeSet<NetworkId>,
    /// Tunnel endpoints of all other hosts: VXLAN from anywhere else is dropped.
    pub vteps: BTreeSet<IpAddr>,
    /// What security groups and address groups come to for the ports of this host.
    pub rulebook: Arc<Rulebook>,
    /// Whether the control plane knows security groups, so that a tap which it has not said anything about stays closed.
    pub closed_by_default: bool,
}

/// An entry of the big tables, by what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKey {
    /// Who owns a MAC address; the zero address stands for the flood list.
    Mac(NetworkId, Mac),
    /// Who owns an address.
    Address(NetworkId, IpAddr),
}

impl EntryKey {
    /// The network that the entry belongs to.
    pub const fn network(&self) -> NetworkId {
        match self {
            Self::Mac(network, _) | Self::Address(network, _) => *network,
        }
    }
}

/// One network as seen from this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// What people call it.
    pub name: String,
    /// What carries it between hosts.
    pub segment: Segment,
    /// Largest IP packet of the network in bytes; `None` takes what the underlay leaves room for.
    pub mtu: Option<u16>,
    /// Its ports on this host.
    pub local_ports: BTreeMap<PortId, LocalPort>,
    /// MAC addresses behind other hosts.
    pub remote_macs: BTreeMap<Mac, IpAddr>,
    /// MAC addresses that are on several hosts, this one perhaps among them, and in use on one of them: nobody says on which. They are
    /// learned from what arrives, and followed when they move.
    #[serde(default)]
    pub moving_macs: BTreeSet<Mac>,
    /// Whether there may be more of what follows, and of MAC addresses behind other hosts, than the control plane has told so far.
    /// Until it has told all, what is not here is unknown rather than stale, as if [`Desired::complete`] were false.
    #[serde(default)]
    pub has_unknown_members: bool,
    /// Tunnel endpoints of the other hosts that have ports here: broadcast, unknown unicast and multicast go to each.
    pub flood: BTreeSet<IpAddr>,
    /// What the ARP/ND responder may answer. Addresses that more than one port may use (allowed address pairs) are not
    /// here: only flooding finds their current owner.
    pub neighbors: BTreeMap<IpAddr, Neighbor>,
}

/// A port of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalPort {
    /// The guest's MAC address.
    pub mac: Mac,
    /// Its fixed addresses.
    pub addresses: Vec<IpAddr>,
    /// Neutron's `admin_state_up`: the tap of a port that is switched off stays where it is, and is down.
    pub admin_state_up: bool,
    /// Neutron's `device_owner`, such as `compute:nova` or `network:dhcp`; empty when nobody owns it.
    pub device_owner: String,
    /// What it may send and receive.
    pub security: PortSecurity,
    /// How fast, and how that is marked.
    pub qos: Qos,
    /// Whether its machine completes its own checksums, so that what it sends may be taken at XDP.
    pub from_port_xdp: bool,
}

/// What makes a port a subport: its frames go through the tap of another port, with a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubPort {
    /// The trunk's own port.
    pub parent: PortId,
    /// The tag.
    pub vid: Vid,
}

/// The owner of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbor {
    /// Its MAC address.
    pub mac: Mac,
    /// Whether it routes, which a neighbour advertisement must say.
    pub is_router: bool,
}

impl Desired {
    /// What is to be known of that which bridges and vxlan devices learn, `from_tunnels` or not.
    pub fn learned(&self, from_tunnels: bool) -> Learned {
        let macs = self.networks.values().flat_map(|network| network.moving_macs.iter().copied());
        Learned { from_tunnels, macs: macs.collect() }
    }

    /// Whether the control plane has told everything that is to be known of tunnel endpoints.
    pub fn knows_all_vteps(&self) -> bool {
        self.complete && !self.networks.values().any(|network| network.has_unknown_members)
    }

    /// Whether there is something that only eBPF can do: security groups, and limits and marks of what machines send.
    pub fn needs_programs(&self) -> bool {
        let mut ports = self.networks.values().flat_map(|network| network.local_ports.values());
        self.closed_by_default || ports.any(|port| port.qos.needs_programs())
    }
}

/// [`Desired`] as one process tells it to another: rules rather than what they have been compiled to.
#[derive(Serialize, Deserialize)]
struct Told {
    complete: bool,
    networks: BTreeMap<NetworkId, Network>,
    sub_ports: BTreeMap<PortId, SubPort>,
    deleted: BTreeSet<NetworkId>,
    vteps: BTreeSet<IpAddr>,
    groups: Groups,
    closed_by_default: bool,
}

impl From<Desired> for Told {
    fn from(desired: Desired) -> Self {
        let Desired { complete, networks, sub_ports, deleted, vteps, rulebook, closed_by_default } = desired;
        let groups = rulebook.groups.clone();
        Self { complete, networks, sub_ports, deleted, vteps, groups, closed_by_default }
    }
}

impl From<Told> for Desired {
    fn from(told: Told) -> Self {
        let Told { complete, networks, sub_ports, deleted, vteps, groups, closed_by_default } = told;
        let ports = networks.values().flat_map(|network| network.local_ports.values());
        let of_ports: BTreeSet<_> = ports.filter_map(|port| port.security.filter()?.groups.clone()).collect();
        let rulebook = Arc::new(Rulebook::new(groups, of_ports));
        Self { complete, networks, sub_ports, deleted, vteps, rulebook, closed_by_default }
    }
}
