//! What a network node offers besides connecting ports: DHCP servers and routers, each a namespace with the other ends of some
//! taps, and the programs that run in it.
//!
//! What is wanted of a topology ([`Services`]) and what was found on the host ([`ObservedServices`]) have the same few parts, so
//! that one plan ([`plan::plan`]) leads from one to the other whatever a namespace is for. The taps are connected by the
//! other plan, [`crate::plan::plan`], as any tap is.

mod action;
mod announcement;
pub mod dhcp;
pub mod metadata;
mod observed;
pub mod plan;
mod router;
mod spec;

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::{config::Config, topology::Topology};

pub use action::ServiceAction;
pub use announcement::announcement;
pub use observed::{ObservedLink, ObservedNamespace, ObservedProcess, ObservedServices};
pub use router::{Connection, Gateway, ROUTER_TABLE, Translations, high_availability::KEEPALIVED};
pub use spec::{
    Activity, FileSpec, LinkSpec, NamespaceSpec, NextHop, OWN_PROGRAM, OnChange, ProcessName, ProcessSpec,
    Reservations, RouteSpec, Ruleset, Services, fingerprint_of,
};

/// Where machines find the metadata service.
const METADATA_IPV4: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The same in IPv6, on their own link only.
const METADATA_IPV6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe);

impl Services {
    /// What a topology asks of the configured host; nothing, when that is no network node.
    pub fn of(topology: &Topology, config: &Config) -> Self {
        let mut services = Self::default();
        if topology.is_network_node(&config.host) {
            services.namespaces.extend(dhcp::namespaces(topology, config));
            services.namespaces.extend(router::namespaces(topology, config));
            services.processes.extend(metadata::process(topology, &services.namespaces, config));
        }
        services
    }

    /// The programs of all namespaces, and those of the host.
    pub fn programs(&self) -> impl Iterator<Item = &ProcessSpec> {
        let of_namespaces = self.namespaces.values().flat_map(|namespace| namespace.processes.values());
        of_namespaces.chain(self.processes.values())
    }
}
