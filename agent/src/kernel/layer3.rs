//! Moves addresses and routes between a NIC and the bridge that it is put into or taken out of, as one transaction.
//!
//! The order loses no packet: an address is on both before the NIC changes hands; a route is replaced, not deleted and
//! added; and packets leave by the bridge only while it has its NIC. A NIC that is part of a bridge still sends what is
//! routed to it.

use std::{collections::BTreeSet, io, net::IpAddr, time::Duration};

use overlane_core::model::Mac;
use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressMessage},
        link::{LinkAttribute, LinkFlags, LinkMessage, State},
        neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
        route::{
            RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHopFlags, RouteProtocol,
            RouteType,
        },
    },
};
use tokio::time::{Instant, sleep};

use super::{Kernel, KernelError, address, sysctl};

/// `RT_TABLE_LOCAL` of the kernel's `uapi/linux/rtnetlink.h`: what it keeps by itself.
const TABLE_LOCAL: u8 = 255;
/// Lifetimes of routes are listed in these units, and set in seconds (`USER_HZ`).
const TICKS_PER_SECOND: u32 = 100;

/// How long the kernel may take to do what it does in its own time: normally a millisecond, more on a busy host.
const PATIENCE: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Added to the metric of a route that is to be the last choice.
const LAST_CHOICE: u32 = 1_000_000;

/// An interface: index and name.
type Interface<'a> = (u32, &'a str);

/// What is done so far, as what would undo it.
#[derive(Default)]
struct Undo(Vec<UndoStep>);

enum UndoStep {
    Request(RouteNetlinkMessage, u16),
    DisableIpv6(String),
}

impl Kernel {
    /// Puts a NIC into a bridge together with its addresses and routes. What is done already stays done.
    pub(super) async fn move_into_bridge(&self, nic: Interface<'_>, bridge: Interface<'_>) -> Result<(), KernelError> {
        let transaction = async |undo: &mut Undo| {
            self.take_mac_of(bridge.0, nic.0).await?;
            let moving = self.add_addresses(nic, bridge, undo).await?;
            self.step(set_master(nic.0, bridge.0), set_master(nic.0, 0), undo).await?;
            self.wait_until_it_sends(bridge.0, nic.0).await?;
            self.replace_routes(nic, bridge, undo).await?;
            self.delete_addresses(nic, bridge, &moving, undo).await
        };
        self.transact(transaction)
            .await
            .map_err(KernelError::request("moving addresses and routes to its bridge:", nic.1))
    }

    /// Takes a NIC out of a bridge, and gives it the bridge's addresses and routes.
    pub(super) async fn give_back(&self, nic: Interface<'_>, bridge: Interface<'_>) -> Result<(), KernelError> {
        let transaction = async |undo: &mut Undo| {
            let moving = self.add_addresses(bridge, nic, undo).await?;
            self.replace_routes(bridge, nic, undo).await?;
            self.demote_kernel_routes(bridge.0, undo).await?;
            self.step(set_master(nic.0, 0), set_master(nic.0, bridge.0), undo).await?;
            self.delete_addresses(bridge, nic, &moving, undo).await
        };
        self.transact(transaction).await.map_err(KernelError::request("giving addresses and routes back to", nic.1))
    }

    async fn transact(&self, transaction: impl AsyncFnOnce(&mut Undo) -> io::Result<()>) -> io::Result<()> {
        let mut undo = Undo::default();
        let result = transaction(&mut undo).await;
        if result.is_err() {
            for step in undo.0.into_iter().rev() {
                let undone = match step {
                    UndoStep::Request(message, flags) => self.change(message, flags).await,
                    UndoStep::DisableIpv6(interface) => sysctl::disable_ipv6(&interface),
                };
                if let Err(error) = undone {
                    tracing::warn!(error = %error, "a step could not be undone");
                }
            }
        }
        result
    }

    /// The other hosts know the NIC's MAC address, so the bridge takes it.
    async fn take_mac_of(&self, bridge: u32, nic: u32) -> io::Result<()> {
        let links = self.list_links().map_err(io::Error::other)?;
        let mac = |ifindex: u32| links.get(&ifindex).and_then(|link| link.mac);
        match (mac(nic), mac(bridge)) {
            (Some(Mac(wanted)), Some(Mac(found))) if wanted != found => {
                self.change(set_link(bridge, LinkAttribute::Address(wanted.to_vec())), 0).await
            }
            _ => Ok(()),
        }
    }

    /// A change that a later failure takes back.
    async fn step(&self, change: RouteNetlinkMessage, undoing: RouteNetlinkMessage, undo: &mut Undo) -> io::Result<()> {
        self.change(change, 0).await?;
        undo.request(undoing, 0);
        Ok(())
    }

    /// Puts the addresses of one interface on another as well, and returns them.
    async fn add_addresses(
        &self,
        from: Interface<'_>,
        to: Interface<'_>,
        undo: &mut Undo,
    ) -> io::Result<Vec<AddressMessage>> {
        let addresses = self.list_address_messages().map_err(io::Error::other)?;
        let addresses: Vec<_> = addresses.into_iter().filter(|address| address.header.index == from.0).collect();
        if addresses.iter().any(|address| address.header.family == AddressFamily::Inet6) && sysctl::enable_ipv6(to.1)? {
            undo.0.push(UndoStep::DisableIpv6(to.1.to_owned()));
        }
        for address in &addresses {
            let added = RouteNetlinkMessage::NewAddress(address_on(address, to.0));
            match self.change(added, NLM_F_CREATE | NLM_F_EXCL).await {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (),
                result => {
                    result?;
                    undo.request(RouteNetlinkMessage::DelAddress(address_on(address, to.0)), 0);
                }
            }
        }
        Ok(addresses)
    }

    /// Takes addresses off an interface, and with them the routes that the kernel makes for them, once another has them.
    async fn delete_addresses(
        &self,
        from: Interface<'_>,
        to: Interface<'_>,
        addresses: &[AddressMessage],
        undo: &mut Undo,
    ) -> io::Result<()> {
        self.wait_until_local(to.0, addresses).await?;
        for address in addresses {
            self.change(RouteNetlinkMessage::DelAddress(address_on(address, from.0)), 0).await?;
            undo.request(RouteNetlinkMessage::NewAddress(address_on(address, from.0)), NLM_F_CREATE);
        }
        Ok(())
    }

    /// The kernel takes packets for a new IPv6 address some time after it has been added.
    async fn wait_until_local(&self, ifindex: u32, addresses: &[AddressMessage]) -> io::Result<()> {
        let wanted: BTreeSet<IpAddr> = addresses.iter().filter_map(address::address).collect();
        wait_until(async || {
            let routes = self.list_routes_by(ifindex, |route| route.header.kind == RouteType::Local)?;
            Ok(wanted.is_subset(&routes.iter().filter_map(destination).collect()))
        })
        .await
    }

    /// Has everything that is routed out of one interface leave by another, whose next hops are then known already.
    async fn replace_routes(&self, from: Interface<'_>, to: Interface<'_>, undo: &mut Undo) -> io::Result<()> {
        self.copy_neighbors(from.0, to.0).await?;
        for route in self.list_routes_by(from.0, is_movable)? {
            let replace = NLM_F_CREATE | NLM_F_REPLACE;
            if route.attributes.iter().any(|attribute| matches!(attribute, RouteAttribute::NhId(_))) {
                // The object is bound to its interface, and others may use it.
                let message =
                    format!("a route uses a nexthop object, which cannot follow: see ip route show dev {}", from.1);
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
            self.change(RouteNetlinkMessage::NewRoute(route_by(&route, from.0, to.0)), replace).await?;
            undo.request(RouteNetlinkMessage::NewRoute(route_by(&route, from.0, from.0)), replace);
        }
        Ok(())
    }

    /// Makes the routes that the kernel keeps for the addresses of an interface the last choice, while another has the same
    /// addresses. Answers that must leave by the interface that the question came in on still find them.
    async fn demote_kernel_routes(&self, ifindex: u32, undo: &mut Undo) -> io::Result<()> {
        for route in self.list_routes_by(ifindex, is_made_by_kernel)? {
            let route = route_by(&route, ifindex, ifindex);
            let last = RouteNetlinkMessage::NewRoute(last_choice(&route));
            self.change(last, NLM_F_CREATE).await?;
            undo.request(RouteNetlinkMessage::DelRoute(last_choice(&route)), 0);
            self.change(RouteNetlinkMessage::DelRoute(route.clone()), 0).await?;
            undo.request(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE);
        }
        Ok(())
    }

    /// Without its neighbours the other interface would have to ask for them, and an answer that arrives on the bridge says
    /// nothing to the NIC.
    async fn copy_neighbors(&self, from: u32, to: u32) -> io::Result<()> {
        let all = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let copies = self.list(all, |answer| match answer {
            RouteNetlinkMessage::NewNeighbour(neighbor) => neighbor_on(&neighbor, from, to),
            _ => None,
        });
        for copy in copies? {
            self.change(RouteNetlinkMessage::NewNeighbour(copy), NLM_F_CREATE | NLM_F_REPLACE).await?;
        }
        Ok(())
    }

    /// A bridge without ports has no carrier, and the kernel starts its transmit queue some time after it has got one:
    /// until then what is routed to it is dropped.
    async fn wait_until_it_sends(&self, bridge: u32, nic: u32) -> io::Result<()> {
        // Without a carrier of its own the NIC has none to give.
        wait_until(async || Ok(self.is_running(bridge).await? || !self.is_running(nic).await?)).await
    }

    async fn is_running(&self, ifindex: u32) -> io::Result<bool> {
        let mut request = LinkMessage::default();
        request.header.index = ifindex;
        let answers = self.request(RouteNetlinkMessage::GetLink(request), NLM_F_REQUEST).await?;
        Ok(answers.iter().any(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => {
                let is_up = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::OperState(State::Up));
                link.header.flags.contains(LinkFlags::LowerUp) && link.attributes.iter().any(is_up)
            }
            _ => false,
        }))
    }

    /// The routes that lead out of an interface and are `wanted`; routes to next hops come before the ones by way of them.
    fn list_routes_by(&self, ifindex: u32, wanted: impl Fn(&RouteMessage) -> bool) -> io::Result<Vec<RouteMessage>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            routes.extend(self.list(RouteNetlinkMessage::GetRoute(request), |answer| match answer {
                RouteNetlinkMessage::NewRoute(route) if wanted(&route) && leads_out(&route, ifindex) => Some(route),
                _ => None,
            })?);
        }
        let has_gateway = |route: &RouteMessage| {
            let is_gateway = |attribute: &RouteAttribute| {
                matches!(attribute, RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_))
            };
            route.attributes.iter().any(is_gateway)
        };
        routes.sort_by_key(has_gateway);
        Ok(routes)
    }
}

impl Undo {
    fn request(&mut self, message: RouteNetlinkMessage, flags: u16) {
        self.0.push(UndoStep::Request(message, flags));
    }
}

/// Waits until something holds. When the patience is over, what follows is tried all the same.
async fn wait_until(mut holds: impl AsyncFnMut() -> io::Result<bool>) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await? && Instant::now() < deadline {
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

fn set_link(ifindex: u32, attribute: LinkAttribute) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    message.attributes.push(attribute);
    RouteNetlinkMessage::SetLink(message)
}

fn set_master(ifindex: u32, master: u32) -> RouteNetlinkMessage {
    set_link(ifindex, LinkAttribute::Controller(master))
}

/// Whether a route stays when the addresses of its interface go.
fn is_movable(route: &RouteMessage) -> bool {
    is_unicast(route) && route.header.protocol != RouteProtocol::Kernel
}

fn is_made_by_kernel(route: &RouteMessage) -> bool {
    is_unicast(route) && route.header.protocol == RouteProtocol::Kernel
}

fn is_unicast(route: &RouteMessage) -> bool {
    let RouteHeader { table, kind, .. } = route.header;
    table != TABLE_LOCAL && kind == RouteType::Unicast
}

fn leads_out(route: &RouteMessage, ifindex: u32) -> bool {
    route.attributes.iter().any(|attribute| match attribute {
        RouteAttribute::Oif(oif) => *oif == ifindex,
        RouteAttribute::MultiPath(hops) => hops.iter().any(|hop| hop.interface_index == ifindex),
        _ => false,
    })
}

fn destination(route: &RouteMessage) -> Option<IpAddr> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })
}

/// The same route, taken only when there is no other.
fn last_choice(route: &RouteMessage) -> RouteMessage {
    let mut route = route.clone();
    let metric = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    route.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::Priority(_)));
    route.attributes.push(RouteAttribute::Priority(metric.unwrap_or_default().saturating_add(LAST_CHOICE)));
    route
}

/// The same address on another interface, with its lifetime and without what only the kernel may say.
fn address_on(address: &AddressMessage, ifindex: u32) -> AddressMessage {
    let mut address = address.clone();
    address.header.index = ifindex;
    // A label begins with the name of the interface that it is for.
    address.attributes.retain(|attribute| !matches!(attribute, AddressAttribute::Label(_)));
    for attribute in &mut address.attributes {
        if let AddressAttribute::Flags(flags) = attribute {
            *flags &= AddressFlags::Noprefixroute | AddressFlags::Managetempaddr | AddressFlags::Homeaddress;
            // It was this host's before; asking around would make it wait.
            *flags |= AddressFlags::Nodad;
        }
    }
    address
}

/// The same neighbour on another interface, if its link-layer address is known: to be used at once, and to be confirmed.
fn neighbor_on(neighbor: &NeighbourMessage, from: u32, to: u32) -> Option<NeighbourMessage> {
    let is_known = matches!(
        neighbor.header.state,
        NeighbourState::Reachable | NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe
    );
    if neighbor.header.ifindex != from || !is_known {
        return None;
    }
    let mut copy = NeighbourMessage::default();
    copy.header.family = neighbor.header.family;
    copy.header.ifindex = to;
    copy.header.state = NeighbourState::Stale;
    copy.header.flags = neighbor.header.flags & NeighbourFlags::Router;
    let is_address = |attribute: &&NeighbourAttribute| {
        matches!(attribute, NeighbourAttribute::Destination(_) | NeighbourAttribute::LinkLayerAddress(_))
    };
    copy.attributes = neighbor.attributes.iter().filter(is_address).cloned().collect();
    Some(copy)
}

/// The same route out of another interface, with its remaining lifetime.
fn route_by(route: &RouteMessage, from: u32, to: u32) -> RouteMessage {
    let mut route = route.clone();
    route.header.flags &= RouteFlags::Onlink;
    let mut lifetime = None;
    for attribute in &mut route.attributes {
        match attribute {
            RouteAttribute::Oif(oif) if *oif == from => *oif = to,
            RouteAttribute::MultiPath(hops) => {
                for hop in hops.iter_mut() {
                    hop.flags &= RouteNextHopFlags::Onlink;
                    if hop.interface_index == from {
                        hop.interface_index = to;
                    }
                }
            }
            RouteAttribute::CacheInfo(info) if info.expires > 0 => lifetime = Some(info.expires / TICKS_PER_SECOND),
            _ => (),
        }
    }
    let is_answer_only = |attribute: &RouteAttribute| {
        matches!(
            attribute,
            RouteAttribute::CacheInfo(_) | RouteAttribute::Expires(_) | RouteAttribute::MulticastExpires(_)
        )
    };
    route.attributes.retain(|attribute| !is_answer_only(attribute));
    route.attributes.extend(lifetime.map(RouteAttribute::Expires));
    route
}
