//! `show routers` and `show floating-ips`: what is wanted, and whether the kernel has it.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use overlane_core::services::{LinkSpec, NamespaceSpec, Translations, plan::is_here};
use serde::Serialize;

use super::{View, table::Row};

const PREFIX: &str = "qrouter-";

/// A router of this host.
#[derive(Serialize)]
pub(super) struct RouterRow {
    router_id: String,
    /// `active`, `standby` (another of its hosts is meant to be active), `incomplete` (there are steps to do) or `blocked` (with a reason).
    state: &'static str,
    /// Where its outside is.
    gateway: Option<String>,
    gateway_addresses: Vec<IpAddr>,
    snat: bool,
    /// Its interfaces, each with its addresses.
    interfaces: Vec<Interface>,
    floating_ips: usize,
    port_forwardings: usize,
    reason: Option<String>,
}

/// An interface of a router.
#[derive(Serialize)]
pub(super) struct Interface {
    name: String,
    addresses: Vec<IpNet>,
}

impl Row for RouterRow {
    const TITLES: &'static [&'static str] =
        &["ROUTER", "STATE", "GATEWAY", "SNAT", "INTERFACES", "FLOATING IPS", "PORT FORWARDINGS", "REASON"];

    fn cells(&self) -> Vec<String> {
        let addresses: Vec<String> = self.gateway_addresses.iter().map(ToString::to_string).collect();
        let interfaces = self.interfaces.iter().map(|interface| {
            let addresses: Vec<String> = interface.addresses.iter().map(ToString::to_string).collect();
            format!("{} {}", interface.name, addresses.join(" "))
        });
        vec![
            self.router_id.clone(),
            self.state.to_owned(),
            addresses.join(" "),
            if self.snat { "yes" } else { "no" }.to_owned(),
            interfaces.collect::<Vec<_>>().join(", "),
            self.floating_ips.to_string(),
            self.port_forwardings.to_string(),
            self.reason.clone().unwrap_or_default(),
        ]
    }
}

pub(super) fn routers(view: &View) -> Vec<RouterRow> {
    let row = |(name, spec, translations): (&String, &NamespaceSpec, &Translations)| {
        let reason = view.services.plan.obstacles.get(name).cloned();
        let has_steps = view.services.plan.steps.contains_key(&Some(name.clone()));
        let gateway = translations.gateway.as_ref();
        let addresses = gateway.and_then(|gateway| spec.links.get(&gateway.link)).map(addresses_of);
        let is_floating = |address: &IpNet| address.prefix_len() == address.max_prefix_len();
        let is_inside = |link: &str| {
            let is_gateway = gateway.is_some_and(|gateway| gateway.link == link);
            let is_to_other_hosts = spec.activity.as_ref().is_some_and(|activity| activity.link == link);
            !is_gateway && !is_to_other_hosts
        };
        let inside = spec.links.iter().filter(|(link, _)| is_inside(link));
        let is_active = spec.activity.as_ref().is_none_or(|activity| {
            view.services.found.namespaces.get(name).is_some_and(|found| is_here(activity, found))
        });
        RouterRow {
            router_id: name.strip_prefix(PREFIX).unwrap_or(name).to_owned(),
            state: match (&reason, has_steps) {
                (Some(_), _) => "blocked",
                (None, true) => "incomplete",
                (None, false) if is_active => "active",
                (None, false) => "standby",
            },
            gateway: gateway.map(|gateway| gateway.link.clone()),
            gateway_addresses: addresses
                .into_iter()
                .flatten()
                .filter(|address| !is_floating(address))
                .map(|address| address.addr())
                .collect(),
            snat: gateway.is_some_and(|gateway| gateway.is_snat),
            interfaces: inside
                .map(|(name, link)| Interface { name: name.clone(), addresses: addresses_of(link) })
                .collect(),
            floating_ips: translations.floating.len(),
            port_forwardings: translations.forwarded.len(),
            reason,
        }
    };
    of_routers(view).map(row).collect()
}

/// Also those that are on another of its hosts.
fn addresses_of(link: &LinkSpec) -> Vec<IpNet> {
    let is_link_local = |address: &&IpNet| matches!(address, IpNet::V6(net) if net.addr().is_unicast_link_local());
    let moving = link.moving.iter().filter(|address| !is_link_local(address));
    link.addresses.iter().chain(moving).copied().collect()
}

/// A floating IP, or one of its forwarded ports.
#[derive(Serialize)]
pub(super) struct FloatingIpRow {
    floating_ip_address: Ipv4Addr,
    /// With `external_port`, of forwarded ports only.
    protocol: Option<String>,
    external_port: Option<u16>,
    fixed_ip_address: Ipv4Addr,
    internal_port: Option<u16>,
    router_id: String,
    /// `active`, `standby` on a host where its router is, or `waiting` where the kernel does not have it yet.
    state: &'static str,
}

impl Row for FloatingIpRow {
    const TITLES: &'static [&'static str] = &["FLOATING IP", "LEADS TO", "ROUTER", "STATE"];

    fn cells(&self) -> Vec<String> {
        let outside = match (&self.protocol, self.external_port) {
            (Some(protocol), Some(port)) => format!("{} {protocol} {port}", self.floating_ip_address),
            _ => self.floating_ip_address.to_string(),
        };
        let inside = match self.internal_port {
            Some(port) => format!("{}:{port}", self.fixed_ip_address),
            None => self.fixed_ip_address.to_string(),
        };
        vec![outside, inside, self.router_id.clone(), self.state.to_owned()]
    }
}

pub(super) fn floating_ips(view: &View) -> Vec<FloatingIpRow> {
    let mut rows = Vec::new();
    for (name, spec, translations) in of_routers(view) {
        let found = view.services.found.namespaces.get(name);
        let is_elsewhere = spec.activity.as_ref().zip(found).is_some_and(|(activity, found)| !is_here(activity, found));
        let state = |address| match is_in_force(view, name, spec, translations, address) {
            true => "active",
            false if is_elsewhere => "standby",
            false => "waiting",
        };
        let router_id = name.strip_prefix(PREFIX).unwrap_or(name);
        rows.extend(translations.floating.iter().map(|(outside, fixed)| FloatingIpRow {
            floating_ip_address: *outside,
            protocol: None,
            external_port: None,
            fixed_ip_address: *fixed,
            internal_port: None,
            router_id: router_id.to_owned(),
            state: state(*outside),
        }));
        let forwarded = translations.forwarded.iter();
        rows.extend(forwarded.map(|((protocol, outside, external_port), (fixed, internal_port))| FloatingIpRow {
            floating_ip_address: *outside,
            protocol: Some(protocol.to_string()),
            external_port: Some(*external_port),
            fixed_ip_address: *fixed,
            internal_port: Some(*internal_port),
            router_id: router_id.to_owned(),
            state: state(*outside),
        }));
    }
    rows.sort_by_key(|row| (row.floating_ip_address, row.external_port));
    rows
}

fn is_in_force(view: &View, name: &str, spec: &NamespaceSpec, translations: &Translations, address: Ipv4Addr) -> bool {
    let Some(found) = view.services.found.namespaces.get(name).filter(|found| found.is_ours) else { return false };
    let gateway = translations.gateway.as_ref().and_then(|gateway| found.links.get(&gateway.link));
    let fingerprint = spec.ruleset.as_ref().map(overlane_core::services::Ruleset::fingerprint);
    found.ruleset == fingerprint
        && gateway.is_some_and(|link| link.addresses.contains(&IpNet::from(IpAddr::V4(address))))
}

fn of_routers(view: &View) -> impl Iterator<Item = (&String, &NamespaceSpec, &Translations)> {
    let namespaces = view.services.wanted.namespaces.iter().filter(|(name, _)| name.starts_with(PREFIX));
    namespaces.filter_map(|(name, spec)| Some((name, spec, &spec.ruleset.as_ref()?.translations)))
}
