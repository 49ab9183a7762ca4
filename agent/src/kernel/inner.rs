//! What is in the namespaces of DHCP servers and routers: links whose other ends are taps, their addresses and routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    os::fd::AsRawFd as _,
};

use ipnet::IpNet;
use overlane_core::{
    observed::Link,
    services::{LinkSpec, NextHop, ObservedLink, RouteSpec},
};
use rtnetlink::{
    packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
        link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
        route::{
            RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHop, RouteProtocol, RouteScope, RouteType,
        },
    },
};

use super::{Kernel, KernelError, Namespace, address, error::unless, link, sysctl::disable_ipv6};

/// What the alias of `lo` begins with in a namespace that Overlane has made; the owner follows.
const MARK: &str = "overlane";
const LOOPBACK: &str = "lo";

/// What netlink tells about a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inner {
    /// Whether Overlane has made it.
    pub is_ours: bool,
    /// Its links besides `lo`, by name.
    pub links: BTreeMap<String, ObservedLink>,
    /// Its routes, but for those that the kernel has made itself, by destination.
    pub routes: BTreeMap<IpNet, RouteSpec>,
}

impl Kernel {
    /// Lists what is in the namespace that this connection belongs to; it is ours when `owner` has made it.
    ///
    /// # Errors
    /// [`KernelError::List`] when a listing fails.
    pub async fn list_inner(&self, owner: &str) -> Result<Inner, KernelError> {
        let found = self.list_links()?;
        let mut inner = Inner {
            is_ours: self.is_marked_by(LOOPBACK, owner).await.map_err(KernelError::list(LOOPBACK))?,
            ..Inner::default()
        };
        let mut addresses: BTreeMap<u32, BTreeSet<IpNet>> = BTreeMap::new();
        for message in self.list_all_address_messages()? {
            // Those that the kernel has made of MAC addresses (RFC 4862) come and go with the link.
            let is_own = message.header.scope == AddressScope::Link && message.header.family == AddressFamily::Inet6;
            let is_managed = !is_own || !is_made_by_kernel(&message);
            if let Some(address) = address::address(&message).filter(|_| is_managed)
                && let Ok(address) = IpNet::new(address, message.header.prefix_len)
            {
                addresses.entry(message.header.index).or_default().insert(address);
            }
        }
        for link in found.values().filter(|link| link.name != LOOPBACK) {
            let addresses = addresses.remove(&link.ifindex).unwrap_or_default();
            inner
                .links
                .insert(link.name.clone(), ObservedLink { mac: link.mac, mtu: link.mtu, up: link.up, addresses });
        }
        inner.routes = self.list_inner_routes(&found)?;
        Ok(inner)
    }

    /// Names of all links of the namespace that this connection belongs to, and of those that are part of a bridge.
    ///
    /// # Errors
    /// [`KernelError::List`] when the listing fails.
    pub fn link_names(&self) -> Result<[BTreeSet<String>; 2], KernelError> {
        let links = self.list_links()?;
        let connected = links.values().filter(|link| link.master.is_some()).map(|link| link.name.clone()).collect();
        Ok([links.into_values().map(|link| link.name).collect(), connected])
    }

    /// Sets `lo` up in a new namespace, and marks the namespace as Overlane's and `owner`'s: several agents may share a machine.
    ///
    /// # Errors
    /// [`KernelError::Request`] when the kernel refuses.
    pub async fn mark_namespace(&self, owner: &str) -> Result<(), KernelError> {
        let mut message = named(LOOPBACK);
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes.push(LinkAttribute::IfAlias(mark(owner)));
        let result = self.change(RouteNetlinkMessage::SetLink(message), 0).await;
        result.map_err(KernelError::request("setting up", LOOPBACK))
    }

    /// Makes a link in `namespace` and its tap in the namespace that this connection belongs to, and sets the tap up; the kernel cannot set
    /// a link up that has no other end yet. A tap of `owner`'s whose other end is elsewhere, in a namespace that was deleted and that somebody
    /// holds on to, makes room.
    ///
    /// # Errors
    /// [`KernelError::Request`] when the kernel refuses; above all because there is a tap of that name.
    pub async fn create_inner(
        &self,
        namespace: &Namespace,
        name: &str,
        spec: &LinkSpec,
        owner: &str,
    ) -> Result<(), KernelError> {
        let tap = spec.tap();
        let create = async || -> io::Result<()> {
            let mut inner = named(name);
            inner.attributes.extend([
                LinkAttribute::Address(spec.mac.0.to_vec()),
                LinkAttribute::Mtu(spec.mtu),
                LinkAttribute::NetNsFd(namespace.as_fd().as_raw_fd()),
            ]);
            let mut message = named(&tap);
            message.attributes.extend([
                LinkAttribute::Mtu(spec.mtu),
                LinkAttribute::LinkInfo(vec![
                    LinkInfo::Kind(InfoKind::Veth),
                    LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(inner))),
                ]),
            ]);
            let create = || self.change(RouteNetlinkMessage::NewLink(message.clone()), NLM_F_CREATE | NLM_F_EXCL);
            match create().await {
                Err(error)
                    if error.kind() == io::ErrorKind::AlreadyExists && self.is_marked_by(&tap, owner).await? =>
                {
                    self.change(RouteNetlinkMessage::DelLink(named(&tap)), 0).await?;
                    create().await?;
                }
                result => result?,
            }
            disable_ipv6(&tap)?;
            // (An alias is not taken from whoever makes a link.)
            self.set_named(&tap, LinkFlags::Up, vec![LinkAttribute::IfAlias(mark(owner))]).await
        };
        create().await.map_err(KernelError::request("making the other end of", &tap))
    }

    /// Sets a link up.
    ///
    /// # Errors
    /// [`KernelError::Request`] when the kernel refuses.
    pub async fn set_inner_up(&self, name: &str) -> Result<(), KernelError> {
        self.set_named(name, LinkFlags::Up, Vec::new()).await.map_err(KernelError::request("setting up", name))
    }

    /// Changes the MTU of a link.
    ///
    /// # Errors
    /// [`KernelError::Request`] when the kernel refuses.
    pub async fn set_inner_mtu(&self, name: &str, mtu: u32) -> Result<(), KernelError> {
        let result = self.set_named(name, LinkFlags::empty(), vec![LinkAttribute::Mtu(mtu)]).await;
        result.map_err(KernelError::request("setting the MTU of", name))
    }

    /// Deletes a link; gone-already is success.
    ///
    /// # Errors
    /// [`KernelError::Request`] when the kernel refuses.
    pub async fn delete_inner(&self, name: &str) -> Result<(), KernelError> {
        let result = self.change(RouteNetlinkMessage::DelLink(named(name)), 0).await;
        let result = if link::is_gone(&result) { Ok(()) } else { result };
        result.map_err(KernelError::request("deleting", name))
    }

    /// Adds or removes an address of a link.
    ///
    /// # Errors
    /// [`KernelError::Request`] when the kernel refuses.
    pub async fn change_inner_address(&self, name: &str, address: IpNet, is_added: bool) -> Result<(), KernelError> {
        let change = async || -> io::Result<()> {
            let mut message = AddressMessage::default();
            message.header.index = self.index_of(name).await?;
            message.header.prefix_len = address.prefix_len();
            message.header.family = family(address.addr());
            message
                .attributes
                .extend([AddressAttribute::Local(address.addr()), AddressAttribute::Address(address.addr())]);
            if address.addr().is_ipv6() {
                // The control plane has seen to it that nobody else has it.
                message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            }
            if is_added {
                let added = self.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL).await;
                return unless(io::ErrorKind::AlreadyExists, added);
            }
            unless(io::ErrorKind::AddrNotAvailable, self.change(RouteNetlinkMessage::DelAddress(message), 0).await)
        };
        let request = if is_added { "adding an address to" } else { "removing an address from" };
        change().await.map_err(KernelError::request(request, name))
    }

    /// Sets a route, as keepalived would if it `moves`, or with `None` deletes it.
    ///
    /// # Errors
    /// [`KernelError::Request`] when the kernel refuses.
    pub async fn change_inner_route(
        &self,
        destination: IpNet,
        route: Option<(&RouteSpec, bool)>,
    ) -> Result<(), KernelError> {
        let change = async || -> io::Result<()> {
            let mut message = RouteMessage::default();
            message.header.address_family = family(destination.addr());
            message.header.destination_prefix_length = destination.prefix_len();
            message.header.table = RouteHeader::RT_TABLE_MAIN;
            message.attributes.push(RouteAttribute::Destination(route_address(destination.addr())));
            let Some((route, moves)) = route else { return self.delete_static_routes(message).await };
            message.header.kind = RouteType::Unicast;
            message.header.protocol = if moves { RouteProtocol::KeepAlived } else { RouteProtocol::Static };
            let is_on_link = route.next_hops.iter().all(|hop| hop.via.is_none());
            message.header.scope = if is_on_link { RouteScope::Link } else { RouteScope::Universe };
            let mut hops = Vec::new();
            for hop in &route.next_hops {
                let mut next_hop = RouteNextHop::default();
                next_hop.interface_index = self.index_of(&hop.link).await?;
                next_hop.attributes.extend(hop.via.map(|via| RouteAttribute::Gateway(route_address(via))));
                hops.push(next_hop);
            }
            match hops.as_slice() {
                [only] => {
                    message.attributes.push(RouteAttribute::Oif(only.interface_index));
                    message.attributes.extend(only.attributes.iter().cloned());
                }
                _ => message.attributes.push(RouteAttribute::MultiPath(hops)),
            }
            if !is_on_link {
                return self.change(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE).await;
            }
            // The kernel may have made a route to the same destination of an address of another link, which must stay.
            self.delete_static_routes(message.clone()).await?;
            self.change(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_APPEND).await
        };
        change().await.map_err(KernelError::request("changing the route to", &destination))
    }

    /// Deletes what somebody, Overlane or else, has set for the destination of `message`; gone-already is success.
    async fn delete_static_routes(&self, mut message: RouteMessage) -> io::Result<()> {
        message.header.scope = RouteScope::NoWhere;
        message.attributes.retain(|attribute| matches!(attribute, RouteAttribute::Destination(_)));
        for protocol in [RouteProtocol::Static, RouteProtocol::Boot, RouteProtocol::KeepAlived] {
            message.header.protocol = protocol;
            let deleted = self.change(RouteNetlinkMessage::DelRoute(message.clone()), 0).await;
            // ESRCH: there is no such route.
            if !deleted.as_ref().is_err_and(|error| error.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32)) {
                deleted?;
            }
        }
        Ok(())
    }

    async fn is_marked_by(&self, link: &str, owner: &str) -> io::Result<bool> {
        let get = RouteNetlinkMessage::GetLink(named(link));
        let answers = self.request(get, rtnetlink::packet_core::NLM_F_REQUEST).await?;
        let mark = mark(owner);
        let is_mark = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::IfAlias(alias) if *alias == mark);
        Ok(answers.iter().any(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => message.attributes.iter().any(is_mark),
            _ => false,
        }))
    }

    fn list_inner_routes(&self, links: &BTreeMap<u32, Link>) -> Result<BTreeMap<IpNet, RouteSpec>, KernelError> {
        let mut routes: BTreeMap<IpNet, RouteSpec> = BTreeMap::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let found = self.list(RouteNetlinkMessage::GetRoute(request), |answer| match answer {
                RouteNetlinkMessage::NewRoute(message) => parse_route(&message, links),
                _ => None,
            });
            for (destination, hops) in found.map_err(KernelError::list("routes"))? {
                // IPv6 may list each next hop as a route of its own.
                let route = routes.entry(destination).or_insert_with(|| RouteSpec { next_hops: BTreeSet::new() });
                route.next_hops.extend(hops);
            }
        }
        Ok(routes)
    }

    async fn index_of(&self, name: &str) -> io::Result<u32> {
        let links = self.list_links().map_err(io::Error::other)?;
        let link = links.into_values().find(|link| link.name == name);
        link.map(|link| link.ifindex)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no {name}")))
    }

    async fn set_named(&self, name: &str, flags: LinkFlags, attributes: Vec<LinkAttribute>) -> io::Result<()> {
        let mut message = named(name);
        message.header.flags = flags;
        message.header.change_mask = flags;
        message.attributes.extend(attributes);
        self.change(RouteNetlinkMessage::SetLink(message), 0).await
    }
}

/// As long as an alias may be (`IFALIASZ` without its zero byte).
const ALIAS_LEN_MAX: usize = 255;

fn mark(owner: &str) -> String {
    let mut mark = format!("{MARK} {owner}");
    mark.truncate(mark.floor_char_boundary(ALIAS_LEN_MAX));
    mark
}

fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

const fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

/// Whether the kernel has made a link-local address of IPv6 by itself. Those that are set here skip duplicate address detection, which
/// its own never do; who has made an address (`IFA_PROTO`) not every kernel says.
fn is_made_by_kernel(message: &AddressMessage) -> bool {
    let is_nodad = |attribute: &AddressAttribute| matches!(attribute, AddressAttribute::Flags(flags) if flags.contains(AddressFlags::Nodad));
    !message.attributes.iter().any(is_nodad)
}

/// A route that somebody has set, and where it leads.
fn parse_route(message: &RouteMessage, links: &BTreeMap<u32, Link>) -> Option<(IpNet, BTreeSet<NextHop>)> {
    let header = &message.header;
    let is_set = matches!(header.protocol, RouteProtocol::Static | RouteProtocol::Boot | RouteProtocol::KeepAlived);
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast || !is_set {
        return None;
    }
    let (mut destination, mut via, mut oif, mut several) = (None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address),
            RouteAttribute::Gateway(address) => via = ip(address),
            RouteAttribute::Oif(ifindex) => oif = Some(*ifindex),
            RouteAttribute::MultiPath(hops) => several = Some(hops),
            _ => (),
        }
    }
    let unspecified = match header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        _ => IpAddr::from([0; 16]),
    };
    let destination = IpNet::new(destination.unwrap_or(unspecified), header.destination_prefix_length).ok()?;
    let hop = |ifindex: u32, via| Some(NextHop { via, link: links.get(&ifindex)?.name.clone() });
    let hops = match several {
        Some(hops) => {
            let via = |next_hop: &RouteNextHop| {
                next_hop.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::Gateway(address) => ip(address),
                    _ => None,
                })
            };
            hops.iter().filter_map(|next_hop| hop(next_hop.interface_index, via(next_hop))).collect()
        }
        None => oif.and_then(|ifindex| hop(ifindex, via)).into_iter().collect(),
    };
    Some((destination, hops))
}

const fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}
