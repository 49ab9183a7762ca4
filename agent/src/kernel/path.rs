//! How the other hosts are reached: addresses, routes and next hops of the underlay.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    net::IpAddr,
};

use overlane_core::{
    model::Mac,
    observed::{Link, Path},
};
use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_REQUEST},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        neighbour::{
            NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
        },
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia},
    },
};

use super::{Kernel, KernelError};

/// What the kernel knows of a next hop.
#[derive(Clone, Copy, Default)]
struct NextHop {
    mac: Option<Mac>,
    is_kept: bool,
}

impl Kernel {
    /// The paths to `vteps`; those that cannot be reached have none.
    pub(super) async fn find_paths(
        &self,
        vteps: &BTreeSet<IpAddr>,
        source: Option<IpAddr>,
        links: &BTreeMap<u32, Link>,
    ) -> Result<BTreeMap<IpAddr, Path>, KernelError> {
        let mut paths = BTreeMap::new();
        if vteps.is_empty() {
            return Ok(paths);
        }
        let next_hops = self.list_next_hops()?;
        for vtep in vteps {
            let Some((uplink, next_hop, route_mtu)) = self.find_route(*vtep, source).await? else { continue };
            let Some(link) = links.get(&uplink) else { continue };
            let known = next_hops.get(&(uplink, next_hop)).copied().unwrap_or_default();
            let mtu = route_mtu.unwrap_or(link.mtu);
            paths.insert(*vtep, Path { uplink, next_hop, next_hop_mac: known.mac, is_kept: known.is_kept, mtu });
        }
        Ok(paths)
    }

    /// Interface, next hop and MTU metric of the route to `destination`; `None` when it is unreachable or this host.
    async fn find_route(
        &self,
        destination: IpAddr,
        source: Option<IpAddr>,
    ) -> Result<Option<(u32, IpAddr, Option<u32>)>, KernelError> {
        let prefix_len = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
        let mut request = RouteMessage::default();
        request.header.address_family = family(destination);
        request.header.destination_prefix_length = prefix_len(destination);
        request.attributes.push(RouteAttribute::Destination(destination.into()));
        if let Some(source) = source.filter(|source| source.is_ipv4() == destination.is_ipv4()) {
            request.header.source_prefix_length = prefix_len(source);
            request.attributes.push(RouteAttribute::Source(source.into()));
        }
        let answers = match self.request(RouteNetlinkMessage::GetRoute(request), NLM_F_REQUEST).await {
            Ok(answers) => answers,
            Err(error) if is_unreachable(&error) => return Ok(None),
            Err(source) => return Err(KernelError::List { what: "the route to a VTEP", source }),
        };
        let route = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) if route.header.kind == RouteType::Unicast => Some(route),
            _ => None,
        });
        Ok(route.and_then(|route| parse_route(&route, destination)))
    }

    fn list_next_hops(&self) -> Result<HashMap<(u32, IpAddr), NextHop>, KernelError> {
        let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let next_hops = self.list(request, |answer| match answer {
            RouteNetlinkMessage::NewNeighbour(message) => parse_next_hop(&message),
            _ => None,
        });
        Ok(next_hops.map_err(KernelError::list("neighbours"))?.into_iter().collect())
    }

    /// Has the kernel resolve a next hop now and keep it resolved: packets of the fast lane pass the neighbour table
    /// by, so nothing else would.
    pub(super) async fn resolve_neighbor(&self, uplink: u32, address: IpAddr) -> Result<(), KernelError> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = uplink;
        message.header.state = NeighbourState::None;
        message.attributes.push(NeighbourAttribute::Destination(match address {
            IpAddr::V4(address) => NeighbourAddress::Inet(address),
            IpAddr::V6(address) => NeighbourAddress::Inet6(address),
        }));
        let mut managed = message.clone();
        managed.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        let result = match self.change(RouteNetlinkMessage::NewNeighbour(managed), NLM_F_CREATE).await {
            // Kernels before 5.16 do not manage neighbours; they can be told to look once.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                message.header.flags = NeighbourFlags::Use;
                self.change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE).await
            }
            result => result,
        };
        result.map_err(KernelError::request("resolving next hop", &address))
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn is_unreachable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::InvalidInput
    )
}

fn parse_route(route: &RouteMessage, destination: IpAddr) -> Option<(u32, IpAddr, Option<u32>)> {
    let (mut uplink, mut next_hop, mut mtu) = (None, destination, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(ifindex) => uplink = Some(*ifindex),
            RouteAttribute::Gateway(RouteAddress::Inet(gateway)) | RouteAttribute::Via(RouteVia::Inet(gateway)) => {
                next_hop = IpAddr::V4(*gateway);
            }
            RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) | RouteAttribute::Via(RouteVia::Inet6(gateway)) => {
                next_hop = IpAddr::V6(*gateway);
            }
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            _ => (),
        }
    }
    Some((uplink?, next_hop, mtu))
}

fn parse_next_hop(message: &NeighbourMessage) -> Option<((u32, IpAddr), NextHop)> {
    let mut address = None;
    let mut next_hop = NextHop::default();
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                next_hop.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac);
            }
            NeighbourAttribute::ExtFlags(flags) => next_hop.is_kept = flags.contains(NeighbourExtFlags::Managed),
            _ => (),
        }
    }
    // A failed or incomplete entry may still carry an old address.
    let is_valid = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    );
    if !is_valid {
        next_hop.mac = None;
    }
    next_hop.is_kept |= matches!(message.header.state, NeighbourState::Permanent | NeighbourState::Noarp);
    Some(((message.header.ifindex, address?), next_hop))
}
