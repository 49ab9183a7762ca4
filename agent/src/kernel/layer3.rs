//! Moves addresses and routes between a NIC and the bridge that it is put into or taken out of, as one transaction.
//!
//! The order loses no packet: an address is on both before the NIC changes hands, and a route is replaced, not deleted and
//! added.

use std::io;

use overlane_core::model::Mac;
use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressMessage},
        link::{LinkAttribute, LinkMessage},
        route::{RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHopFlags, RouteProtocol, RouteType},
    },
};

use super::{Kernel, KernelError, sysctl};

/// `RT_TABLE_LOCAL` of the kernel's `uapi/linux/rtnetlink.h`: what it keeps by itself.
const TABLE_LOCAL: u8 = 255;
/// Lifetimes of routes are listed in these units, and set in seconds (`USER_HZ`).
const TICKS_PER_SECOND: u32 = 100;

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
        let join = set_master(nic.0, bridge.0);
        let leave = set_master(nic.0, 0);
        let transaction = async |undo: &mut Undo| {
            self.take_mac_of(bridge.0, nic.0).await?;
            self.shift(nic, bridge, (join, leave), undo).await
        };
        self.transact(transaction)
            .await
            .map_err(KernelError::request("moving addresses and routes to its bridge:", nic.1))
    }

    /// Takes a NIC out of a bridge, and gives it the bridge's addresses and routes.
    pub(super) async fn give_back(&self, nic: Interface<'_>, bridge: Interface<'_>) -> Result<(), KernelError> {
        let leave = set_master(nic.0, 0);
        let join = set_master(nic.0, bridge.0);
        let transaction = async |undo: &mut Undo| self.shift(bridge, nic, (leave, join), undo).await;
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
        let links = self.list_links().await.map_err(io::Error::other)?;
        let mac = |ifindex: u32| links.get(&ifindex).and_then(|link| link.mac);
        match (mac(nic), mac(bridge)) {
            (Some(Mac(wanted)), Some(Mac(found))) if wanted != found => {
                self.change(set_link(bridge, LinkAttribute::Address(wanted.to_vec())), 0).await
            }
            _ => Ok(()),
        }
    }

    async fn shift(
        &self,
        from: Interface<'_>,
        to: Interface<'_>,
        (change_hands, change_back): (RouteNetlinkMessage, RouteNetlinkMessage),
        undo: &mut Undo,
    ) -> io::Result<()> {
        let addresses = self.list_address_messages().await.map_err(io::Error::other)?;
        let addresses: Vec<_> = addresses.into_iter().filter(|address| address.header.index == from.0).collect();
        let routes = self.list_routes_by(from.0).await?;
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
        self.change(change_hands, 0).await?;
        undo.request(change_back, 0);
        for route in &routes {
            let replace = NLM_F_CREATE | NLM_F_REPLACE;
            if route.attributes.iter().any(|attribute| matches!(attribute, RouteAttribute::NhId(_))) {
                // The object is bound to its interface, and others may use it.
                let message =
                    format!("a route uses a nexthop object, which cannot follow: see ip route show dev {}", from.1);
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
            self.change(RouteNetlinkMessage::NewRoute(route_by(route, from.0, to.0)), replace).await?;
            undo.request(RouteNetlinkMessage::NewRoute(route_by(route, from.0, from.0)), replace);
        }
        for address in &addresses {
            self.change(RouteNetlinkMessage::DelAddress(address_on(address, from.0)), 0).await?;
            undo.request(RouteNetlinkMessage::NewAddress(address_on(address, from.0)), NLM_F_CREATE);
        }
        Ok(())
    }

    /// The routes that lead out of an interface, but for those that come and go with its addresses; routes to next hops
    /// come before the ones by way of them.
    async fn list_routes_by(&self, ifindex: u32) -> io::Result<Vec<RouteMessage>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let answers = self.dump(RouteNetlinkMessage::GetRoute(request)).await?;
            routes.extend(answers.into_iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(route) if is_movable(&route) && leads_out(&route, ifindex) => Some(route),
                _ => None,
            }));
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

fn set_link(ifindex: u32, attribute: LinkAttribute) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    message.attributes.push(attribute);
    RouteNetlinkMessage::SetLink(message)
}

fn set_master(ifindex: u32, master: u32) -> RouteNetlinkMessage {
    set_link(ifindex, LinkAttribute::Controller(master))
}

fn is_movable(route: &RouteMessage) -> bool {
    let RouteHeader { table, protocol, kind, .. } = route.header;
    table != TABLE_LOCAL && protocol != RouteProtocol::Kernel && kind == RouteType::Unicast
}

fn leads_out(route: &RouteMessage, ifindex: u32) -> bool {
    route.attributes.iter().any(|attribute| match attribute {
        RouteAttribute::Oif(oif) => *oif == ifindex,
        RouteAttribute::MultiPath(hops) => hops.iter().any(|hop| hop.interface_index == ifindex),
        _ => false,
    })
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
