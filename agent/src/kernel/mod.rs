//! The kernel's devices, forwarding databases, routes and neighbours, by netlink. The only user of rtnetlink and of
//! `/proc/sys`; everything happens in the network namespace that the process is in.

mod address;
mod conntrack;
mod error;
mod ethtool;
mod fdb;
mod guard;
mod inner;
mod layer3;
mod link;
mod listing;
mod monitor;
mod namespace;
mod netfilter;
mod nftables;
pub mod offload;
mod path;
mod qdisc;
mod sysctl;
mod table;
mod vlan;
mod xdp;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::AtomicU32,
};

use futures_util::StreamExt as _;
use overlane_core::{
    action::KernelAction,
    config::Config,
    desired::Desired,
    observed::{FdbEntry, KernelState, Link},
    offload::NicFeatures,
    plan,
};
use rtnetlink::{
    Handle,
    packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

pub use conntrack::cut;
pub use error::KernelError;
pub use fdb::FdbChange;
pub use inner::Inner;
pub use monitor::{Changes, Monitor};
pub use namespace::{NAMESPACES, Namespace};
pub use sysctl::{local_port_range, parameter, set_parameter};
pub use table::{TableSeen, look_at_table, seal_table, version_chain};

use error::io_error;

/// Listings and changes have the same socket, and numbers of their own there: a batch of changes has fewer than this.
const FIRST_LISTING: u32 = 1 << 16;

/// A netlink connection.
pub struct Kernel {
    handle: Handle,
    connection: tokio::task::JoinHandle<()>,
    /// For listings, and for changes that are sent by the hundred.
    bulk: Socket,
    /// The number of the next listing.
    listings: AtomicU32,
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Kernel {
    /// Connects to the kernel, and subscribes to its changes first: nothing that happens after this is missed.
    ///
    /// # Errors
    /// [`KernelError::Connect`] when the kernel refuses a socket.
    pub fn connect() -> Result<(Self, Monitor), KernelError> {
        let monitor = Monitor::subscribe().map_err(KernelError::Connect)?;
        let (connection, handle, _) = rtnetlink::new_connection().map_err(KernelError::Connect)?;
        let mut bulk = Socket::new(NETLINK_ROUTE).map_err(KernelError::Connect)?;
        bulk.bind_auto().and_then(|_| bulk.connect(&SocketAddr::new(0, 0))).map_err(KernelError::Connect)?;
        Ok((
            Self { handle, connection: tokio::spawn(connection), bulk, listings: AtomicU32::new(FIRST_LISTING) },
            monitor,
        ))
    }

    /// Lists devices and static FDB entries, and finds out what else matters for what is desired: how each of its VTEPs is
    /// reached, and whether the kernel can make a VLAN device that is missing.
    ///
    /// # Errors
    /// [`KernelError::List`] when a listing fails.
    pub async fn observe(&self, desired: &Desired, config: &Config) -> Result<KernelState, KernelError> {
        let fdb = self.list_fdb(&desired.learned(config.multicast.is_some()))?;
        self.observe_devices(desired, config, fdb).await
    }

    /// As `observe`, for FDB entries that are known.
    ///
    /// # Errors
    /// As for `observe`.
    pub async fn observe_devices(
        &self,
        desired: &Desired,
        config: &Config,
        mut fdb: BTreeSet<FdbEntry>,
    ) -> Result<KernelState, KernelError> {
        let (links, has_limits) = self.list_links_and_whether_any_is_limited()?;
        fdb.retain(|entry| links.contains_key(&entry.ifindex));
        let addresses = self.list_addresses()?;
        // Before it is there, the kernel would refuse to look for routes from it.
        let source = config.local_ip().filter(|address| addresses.values().any(|list| list.contains(address)));
        let released = self.list_released()?;
        let mut state = KernelState { links, fdb, addresses, released, ..KernelState::default() };
        if has_limits || limits_what_machines_receive(desired) {
            state.qdiscs = self.list_qdiscs()?;
        }
        let vteps = desired.vteps.union(&state.learned_vteps()).copied().collect();
        state.paths = self.find_paths(&vteps, source, &state.links).await?;
        let tunnels_from = source.and_then(|address| state.link_with_address(address)).map(|link| link.ifindex);
        let uplinks = state.paths.values().map(|path| path.uplink).chain(tunnels_from).collect();
        state.nics = nics(&uplinks, &state.links);
        if plan::may_use_xdp(desired, config) {
            state.xdp = xdp::features(&state.links, &state.nics);
        }
        if plan::lacks_vlan_device(desired, &state, config) {
            state.has_8021q = self.has_8021q().await;
        }
        Ok(state)
    }

    /// Carries out one step of a plan; made-already and gone-already are success.
    ///
    /// # Errors
    /// [`KernelError::Request`] when the kernel refuses.
    pub async fn apply(&mut self, action: &KernelAction) -> Result<(), KernelError> {
        match action {
            KernelAction::CreateBridge { name, network } => self.create_bridge(name, *network).await,
            KernelAction::CreateVxlan { name, network, spec } => self.create_vxlan(name, *network, spec).await,
            KernelAction::CreateVlan { name, network, spec } => self.create_vlan(name, *network, spec).await,
            KernelAction::CreateSubPort { name, parent, spec } => self.create_sub_port(name, *parent, spec).await,
            KernelAction::SetPromiscuous { ifindex, name } => self.set_promiscuous(*ifindex, name).await,
            KernelAction::SetUp { ifindex, name } => self.set_up(*ifindex, name).await,
            KernelAction::SetDown { ifindex, name } => self.set_down(*ifindex, name).await,
            KernelAction::SetMtu { ifindex, name, mtu } => self.set_mtu(*ifindex, name, *mtu).await,
            KernelAction::SetMaster { ifindex, name, bridge, .. } => self.set_master(*ifindex, name, *bridge).await,
            KernelAction::MoveIntoBridge { ifindex, name, bridge, bridge_name } => {
                self.move_into_bridge((*ifindex, name), (*bridge, bridge_name)).await
            }
            KernelAction::GiveBack { ifindex, name, bridge, bridge_name } => {
                self.give_back((*ifindex, name), (*bridge, bridge_name)).await
            }
            KernelAction::SetVxlanUnderlay { ifindex, name, underlay, .. } => {
                self.set_vxlan_underlay(*ifindex, name, *underlay).await
            }
            KernelAction::DeleteLink { ifindex, name } => self.delete_link(*ifindex, name).await,
            KernelAction::SetLimit { ifindex, name, tbf } => self.set_limit(*ifindex, name, tbf).await,
            KernelAction::RemoveLimit { ifindex, name, handle } => self.remove_limit(*ifindex, name, *handle).await,
            KernelAction::CreateGuard { released } => self.create_guard(released),
            KernelAction::RemoveGuard => self.remove_guard(),
            KernelAction::Release { ifindex, name } => self.release(*ifindex, name),
            KernelAction::Close { ifindex, name } => self.close(*ifindex, name),
            KernelAction::AddFdb(entry) => self.change_fdb(&[FdbChange::Add(*entry)]).remove(0),
            KernelAction::DeleteFdb(entry) => self.change_fdb(&[FdbChange::Delete(*entry)]).remove(0),
            KernelAction::ResolveNeighbor { uplink, address } => self.resolve_neighbor(*uplink, *address).await,
        }
    }

    /// Sends a request that changes something and waits for the kernel's word.
    async fn change(&self, message: RouteNetlinkMessage, flags: u16) -> std::io::Result<()> {
        self.request(message, NLM_F_REQUEST | NLM_F_ACK | flags).await.map(drop)
    }

    async fn request(&self, message: RouteNetlinkMessage, flags: u16) -> std::io::Result<Vec<RouteNetlinkMessage>> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = flags;
        let mut answers = self.handle.clone().request(request).map_err(io_error)?;
        let mut messages = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => messages.push(message),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                _ => (),
            }
        }
        Ok(messages)
    }
}

/// What each of some links can do.
fn nics(uplinks: &BTreeSet<u32>, links: &BTreeMap<u32, Link>) -> BTreeMap<u32, Result<NicFeatures, String>> {
    let features = |link: &Link| offload::features(&link.name).map_err(|error| error.to_string());
    let known = uplinks.iter().filter_map(|ifindex| links.get(ifindex));
    known.map(|link| (link.ifindex, features(link))).collect()
}

fn limits_what_machines_receive(desired: &Desired) -> bool {
    let mut ports = desired.networks.values().flat_map(|network| network.local_ports.values());
    ports.any(|port| port.qos.ingress.is_some())
}
