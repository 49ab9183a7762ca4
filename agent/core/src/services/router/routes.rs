//! Routes besides those that the kernel makes of addresses (contract §5.2).

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    super::{NextHop, RouteSpec},
    interface::Interface,
};
use crate::topology::Router;

/// The routes of a router.
pub(super) fn of_router(router: &Router, interfaces: &[Interface<'_>]) -> BTreeMap<IpNet, RouteSpec> {
    let mut routes = on_link(interfaces);
    routes.extend(to_the_outside(interfaces));
    routes.extend(extra(router, interfaces));
    routes
}

/// Subnets of the networks that a router is in, without having an address there. Its own interfaces lead better to theirs; but
/// what belongs to the external network is reached by the gateway as well.
fn on_link(interfaces: &[Interface<'_>]) -> BTreeMap<IpNet, RouteSpec> {
    let mut routes = BTreeMap::new();
    let (gateways, internal): (Vec<_>, Vec<_>) = interfaces.iter().partition(|interface| interface.is_gateway);
    for interface in gateways.into_iter().chain(internal) {
        for subnet in interface.other_subnets() {
            let destination = subnet.cidr.trunc();
            let is_connected = interfaces
                .iter()
                .flat_map(Interface::subnets)
                .any(|own| own.cidr.contains(&destination) || destination.contains(&own.cidr));
            if interface.is_gateway || !is_connected {
                let hop = NextHop { via: None, link: interface.link.clone() };
                routes.entry(destination).or_insert_with(|| RouteSpec { next_hops: [hop].into() });
            }
        }
    }
    routes
}

fn to_the_outside<'a>(interfaces: &'a [Interface<'_>]) -> impl Iterator<Item = (IpNet, RouteSpec)> + 'a {
    let gateways = interfaces.iter().filter(|interface| interface.is_gateway);
    gateways.flat_map(|gateway| {
        gateway.gateway_addresses().map(|via| {
            let hop = NextHop { via: Some(via), link: gateway.link.clone() };
            (everywhere(via), RouteSpec { next_hops: [hop].into() })
        })
    })
}

/// All destinations of an address' family.
fn everywhere(family: IpAddr) -> IpNet {
    match family {
        IpAddr::V4(_) => Ipv4Net::default().into(),
        IpAddr::V6(_) => Ipv6Net::default().into(),
    }
}

/// The router's own `routes`. Several to one destination take turns.
fn extra(router: &Router, interfaces: &[Interface<'_>]) -> BTreeMap<IpNet, RouteSpec> {
    let mut routes: BTreeMap<IpNet, RouteSpec> = BTreeMap::new();
    for route in &router.routes {
        let near = interfaces.iter().find(|each| each.subnets().any(|subnet| subnet.cidr.contains(&route.nexthop)));
        let far = || interfaces.iter().find(|each| each.network.has_address(route.nexthop));
        if let Some(interface) = near.or_else(far) {
            let hop = NextHop { via: Some(route.nexthop), link: interface.link.clone() };
            let none = || RouteSpec { next_hops: Default::default() };
            routes.entry(route.destination).or_insert_with(none).next_hops.insert(hop);
        }
    }
    routes
}
