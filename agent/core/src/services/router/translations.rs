//! Which addresses a router translates to which.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use super::{METADATA_IPV4, METADATA_IPV6, interface::Interface};
use crate::{
    model::RouterId,
    topology::{ForwardedProtocol, Joins, Router, Topology},
};

/// What a router's table translates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translations {
    /// Where the outside is.
    pub gateway: Option<Gateway>,
    /// Floating IPs that belong to one port: the address there, by the address outside.
    pub floating: BTreeMap<Ipv4Addr, Ipv4Addr>,
    /// Single ports of floating IPs: address and port there, by protocol, address and port outside.
    pub forwarded: BTreeMap<(ForwardedProtocol, Ipv4Addr, u16), (Ipv4Addr, u16)>,
}

/// A router's gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// The name of its link.
    pub link: String,
    /// Its address; `None` where the outside is IPv6 only.
    pub address: Option<Ipv4Addr>,
    /// Whether machines without a floating IP reach the outside in its name.
    pub is_snat: bool,
}

/// A connection as the kernel's connection table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// IP protocol number.
    pub protocol: u8,
    /// Who has begun it.
    pub source: IpAddr,
    /// With whom, as the beginner sees it; port 0 where the protocol has none.
    pub destination: SocketAddr,
    /// Who answers, as it sees itself.
    pub answerer: SocketAddr,
    /// To whom, as the answerer sees it.
    pub answered: IpAddr,
}

impl Translations {
    /// The addresses that the gateway has besides its own.
    pub(super) fn floating_addresses(&self) -> BTreeSet<Ipv4Addr> {
        self.floating.keys().copied().chain(self.forwarded.keys().map(|(_, address, _)| *address)).collect()
    }

    /// Whether the addresses of a connection are translated as they would be if it began now. One that began before its machine
    /// got a floating IP goes on in the gateway's name.
    pub fn hold_for(&self, connection: &Connection) -> bool {
        self.has_right_destination(connection) && self.has_right_source(connection)
    }

    fn has_right_destination(&self, connection: &Connection) -> bool {
        let (wanted, found) = (connection.destination, connection.answerer);
        if [IpAddr::V4(METADATA_IPV4), IpAddr::V6(METADATA_IPV6)].contains(&wanted.ip()) {
            return true;
        }
        let IpAddr::V4(address) = wanted.ip() else { return found == wanted };
        if let Some(fixed) = self.floating.get(&address) {
            return found == SocketAddr::new(IpAddr::V4(*fixed), wanted.port());
        }
        let forwarded = ForwardedProtocol::from_number(connection.protocol)
            .and_then(|protocol| self.forwarded.get(&(protocol, address, wanted.port())));
        found == forwarded.map_or(wanted, |(fixed, port)| SocketAddr::new(IpAddr::V4(*fixed), *port))
    }

    fn has_right_source(&self, connection: &Connection) -> bool {
        if connection.answered == connection.source {
            return true;
        }
        let (IpAddr::V4(source), IpAddr::V4(seen)) = (connection.source, connection.answered) else { return false };
        let is_floating = self.floating.get(&seen) == Some(&source);
        let comes_back = connection.destination != connection.answerer;
        let is_gateway = |gateway: &Gateway| gateway.address == Some(seen) && (gateway.is_snat || comes_back);
        is_floating || self.gateway.as_ref().is_some_and(is_gateway)
    }
}

impl ForwardedProtocol {
    /// The IP protocol number (IANA).
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp].into_iter().find(|protocol| protocol.number() == number)
    }
}

/// The translations of some routers, in one walk over the floating IPs.
pub(super) fn of_routers(
    topology: &Topology,
    joins: &Joins<'_>,
    routers: &[&Router],
    interfaces: &HashMap<RouterId, Vec<Interface<'_>>>,
) -> HashMap<RouterId, Translations> {
    let gateway = |router: &Router| {
        let gateway = interfaces[&router.id].iter().find(|interface| interface.is_gateway)?;
        let address = gateway.port.fixed_ips.iter().find_map(|address| ipv4(*address));
        Some(Gateway { link: gateway.link.clone(), address, is_snat: router.enable_snat })
    };
    let mut translations: HashMap<RouterId, Translations> = routers
        .iter()
        .map(|router| (router.id, Translations { gateway: gateway(router), ..Translations::default() }))
        .collect();
    // Without a gateway there is nowhere for a floating IP to be.
    let has_gateway = |translations: &&mut Translations| translations.gateway.is_some();
    for floating in &topology.floating_ips {
        let Some(outside) = ipv4(floating.floating_ip_address) else { continue };
        if let Some(target) = joins.target(floating)
            && let Some(fixed) = ipv4(target.fixed)
            && let Some(of_router) = translations.get_mut(&target.router).filter(has_gateway)
        {
            of_router.floating.insert(outside, fixed);
        }
        for forwarding in &floating.port_forwardings {
            if let Some(target) = joins.forwarding_target(floating, forwarding)
                && let Some(fixed) = ipv4(target.fixed)
                && let Some(of_router) = translations.get_mut(&target.router).filter(has_gateway)
            {
                let key = (forwarding.protocol, outside, forwarding.external_port.get());
                of_router.forwarded.insert(key, (fixed, forwarding.internal_port.get()));
            }
        }
    }
    translations
}

fn ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}
