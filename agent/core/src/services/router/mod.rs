//! Routers, as Neutron's L3 agent makes them: a namespace with an end of each port's tap, routes, and a table that translates
//! addresses.

mod advertisements;
pub(super) mod high_availability;
mod interface;
mod routes;
mod ruleset;
mod translations;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use ipnet::{IpNet, Ipv6Net};

use super::{LinkSpec, METADATA_IPV4, METADATA_IPV6, NamespaceSpec};
use crate::{
    config::Config,
    model::RouterId,
    topology::{Joins, Router, Topology},
};
use interface::Interface;
pub use ruleset::TABLE as ROUTER_TABLE;
use translations::of_routers;
pub use translations::{Connection, Gateway, Translations};

const LINK_LOCAL_PREFIX_LEN: u8 = 64;

/// Parameters of the namespace (contract §5.2). The control plane gives out the addresses, so that nothing is gained by
/// asking for each of IPv6 whether it is somebody else's (`accept_dad`), which takes a second.
const PARAMETERS: &[(&str, &str)] = &[
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/conf/all/arp_ignore", "1"),
    ("net/ipv4/conf/all/arp_announce", "2"),
    ("net/ipv4/conf/all/promote_secondaries", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    (ADDRESS_GENERATION, "0"),
];

/// How links get their link-local addresses, for links that are made after it is set: 0 has the kernel make them of MAC addresses, 1 has
/// nobody make any.
pub(super) const ADDRESS_GENERATION: &str = "net/ipv6/conf/default/addr_gen_mode";

/// The namespace of each router that is on the configured host and switched on.
pub(super) fn namespaces(topology: &Topology, config: &Config) -> BTreeMap<String, NamespaceSpec> {
    let joins = Joins::of(topology);
    let routers = topology.routers.iter();
    let here: Vec<&Router> = routers.filter(|router| router.admin_state_up && is_on(router, &config.host)).collect();
    let interfaces: HashMap<RouterId, Vec<Interface<'_>>> =
        here.iter().map(|router| (router.id, interface::of_router(topology, &joins, router))).collect();
    let mut translations = of_routers(topology, &joins, &here, &interfaces);
    let of = |router: &Router| {
        let translations = translations.remove(&router.id).unwrap_or_default();
        (router.id.namespace(), namespace(topology, router, &interfaces[&router.id], translations, config))
    };
    here.into_iter().map(of).collect()
}

fn is_on(router: &Router, host: &str) -> bool {
    router.hosts.iter().any(|other| other == host)
}

fn namespace(
    topology: &Topology,
    router: &Router,
    interfaces: &[Interface<'_>],
    translations: Translations,
    config: &Config,
) -> NamespaceSpec {
    let of_replicated = if router.is_replicated() { high_availability::PARAMETERS } else { &[] };
    let general = PARAMETERS.iter().chain(of_replicated);
    let general = general.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let of_gateway = interfaces.iter().filter(|interface| interface.is_gateway);
    let of_gateway = of_gateway.flat_map(|gateway| gateway_parameters(gateway, router.is_replicated()));
    let mut spec = NamespaceSpec {
        sysctls: general.chain(of_gateway).collect(),
        links: interfaces.iter().map(|each| (each.link.clone(), link(topology, each, &translations))).collect(),
        routes: routes::of_router(router, interfaces),
        ruleset: Some(ruleset::ruleset(translations, router.is_replicated())),
        activity: None,
        reservations: None,
        processes: advertisements::process(topology, router, interfaces, config).into_iter().collect(),
    };
    if router.is_replicated() {
        high_availability::replicate(&mut spec, topology, router, config);
    }
    spec
}

/// A gateway whose subnet of IPv6 has no router in the file learns it from that router's advertisements, unless there are several of
/// the gateway: those that are not active would learn the way out as well.
fn gateway_parameters(gateway: &Interface<'_>, is_replicated: bool) -> Vec<(String, String)> {
    let knows_router = is_replicated || gateway.gateway_addresses().any(|address| address.is_ipv6());
    let parameter = |name, value: &str| (format!("net/ipv6/conf/{}/{name}", gateway.link), value.to_owned());
    vec![parameter("accept_ra", if knows_router { "0" } else { "2" }), parameter("forwarding", "1")]
}

fn link(topology: &Topology, interface: &Interface<'_>, translations: &Translations) -> LinkSpec {
    let mut addresses: std::collections::BTreeSet<IpNet> = interface.addresses().collect();
    if interface.is_gateway {
        addresses.extend(translations.floating_addresses().into_iter().map(|address| IpNet::from(IpAddr::V4(address))));
    } else {
        let metadata = Ipv6Net::new_assert(METADATA_IPV6, LINK_LOCAL_PREFIX_LEN);
        addresses.insert(metadata.into());
    }
    LinkSpec {
        port: interface.port.id,
        mac: interface.port.mac_address,
        mtu: topology.mtu_of(interface.network),
        addresses,
        moving: Default::default(),
        announces: true,
        finishes_checksums: false,
    }
}
