//! Who is asking: from a socket and a source address to a machine.

use std::{collections::HashMap, fmt, net::IpAddr};

use super::state::{FixedIp, Instance, Interface, SocketKey, State, Upstream};
use crate::model::NetworkId;

/// A [`State`] that is quick to look things up in.
#[derive(Debug, Default)]
pub struct Directory {
    state: State,
    networks: HashMap<SocketKey, Vec<NetworkId>>,
    owners: HashMap<(NetworkId, IpAddr), Owner>,
}

/// Whose an address is: the numbers of an instance and of its interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    One { instance: usize, interface: usize },
    Several,
}

/// A machine that asks, and the port by which it does.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// The machine.
    pub instance: &'a Instance,
    /// The port whose address the request came from.
    pub interface: &'a Interface,
}

/// Why nobody knows who asks. Printed, it is the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// No port has this address.
    Unknown(IpAddr),
    /// Several ports have it.
    Several(IpAddr),
    /// It says nothing about the network it is in.
    Ambiguous(IpAddr),
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(source) => {
                write!(
                    f,
                    "No metadata for {source}: no port of the networks that this service is for has this address."
                )
            }
            Self::Several(source) => write!(f, "No metadata for {source}: several ports have this address."),
            Self::Ambiguous(source) => write!(
                f,
                "No metadata for {source}: a link-local address could be in any of several networks here. Ask over IPv4."
            ),
        }
    }
}

impl Directory {
    /// Puts a state in order.
    pub fn new(state: State) -> Self {
        let mut owners = HashMap::new();
        for (number, instance) in state.instances.iter().enumerate() {
            for (interface_number, interface) in instance.interfaces.iter().enumerate() {
                let owner = Owner::One { instance: number, interface: interface_number };
                for address in addresses(interface) {
                    let known = owners.entry((interface.network_id, address)).or_insert(owner);
                    if *known != owner {
                        *known = Owner::Several;
                    }
                }
            }
        }
        let networks = state.sockets.iter().map(|socket| (socket.key.clone(), socket.networks.clone())).collect();
        Self { state, networks, owners }
    }

    /// Where to listen.
    pub fn sockets(&self) -> impl Iterator<Item = &SocketKey> {
        self.networks.keys()
    }

    /// Who answers instead of us.
    pub fn upstream(&self) -> Option<&Upstream> {
        self.state.upstream.as_ref()
    }

    /// The addresses that several ports of one network claim.
    pub fn clashes(&self) -> impl Iterator<Item = (NetworkId, IpAddr)> {
        self.owners.iter().filter(|(_, owner)| **owner == Owner::Several).map(|(key, _)| *key)
    }

    /// Finds who has connected to a socket from `source`. Networks that are not behind the socket do not exist for it, so the same
    /// address elsewhere is somebody else.
    ///
    /// # Errors
    /// Why it is nobody in particular.
    pub fn guest(&self, socket: &SocketKey, source: IpAddr) -> Result<Guest<'_>, Stranger> {
        let networks = self.networks.get(socket).map_or(&[][..], Vec::as_slice);
        if is_link_local(source) && networks.len() > 1 {
            // Whoever is not held to its own addresses could pass for a machine of another network.
            return Err(Stranger::Ambiguous(source));
        }
        let mut found = networks.iter().filter_map(|network| self.owners.get(&(*network, source)));
        match (found.next(), found.next()) {
            (Some(Owner::One { instance, interface }), None) => {
                let instance = &self.state.instances[*instance];
                Ok(Guest { instance, interface: &instance.interfaces[*interface] })
            }
            (None, _) => Err(Stranger::Unknown(source)),
            _ => Err(Stranger::Several(source)),
        }
    }
}

/// What a port may ask from: its fixed IPs, and what it gives itself.
fn addresses(interface: &Interface) -> impl Iterator<Item = IpAddr> {
    let fixed = interface.fixed_ips.iter().map(|FixedIp { address, .. }| *address);
    fixed.chain([interface.mac.link_local().into()])
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

#[cfg(test)]
pub(super) mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        model::PortId,
        services::metadata::{Assignment, Socket},
    };

    fn network(number: u128) -> NetworkId {
        NetworkId(Uuid::from_u128(number))
    }

    pub(in super::super) fn instance(id: &str, network_number: u128, address: &str, mac: &str) -> Instance {
        let fixed_ip = FixedIp {
            address: address.parse().expect("an address"),
            prefix_len: 24,
            assignment: Assignment::Dhcp,
            gateway: None,
            routes: Vec::new(),
            dns_nameservers: Vec::new(),
            floating_ip: None,
        };
        let interface = Interface {
            port_id: PortId(Uuid::from_u128(0xabc)),
            network_id: network(network_number),
            mac: mac.parse().expect("a MAC address"),
            mtu: None,
            fixed_ips: vec![fixed_ip],
        };
        let hostname = format!("{id}-host");
        Instance { id: id.to_owned(), hostname, interfaces: vec![interface], ..Instance::default() }
    }

    fn socket(namespace: &str, networks: &[u128]) -> Socket {
        let address = IpAddr::from([169, 254, 169, 254]);
        let key = SocketKey { namespace: namespace.to_owned(), address, port: 80, interface: None };
        Socket { key, networks: networks.iter().copied().map(network).collect() }
    }

    /// A qdhcp for each of two networks that use the same addresses, and a router of two others.
    fn directory() -> Directory {
        let mac = "fa:16:3e:00:00:01";
        Directory::new(State {
            upstream: None,
            sockets: vec![socket("one", &[1]), socket("two", &[2]), socket("router", &[3, 4])],
            instances: vec![
                instance("a", 1, "10.0.0.5", mac),
                instance("b", 2, "10.0.0.5", mac),
                instance("c", 3, "10.0.3.5", mac),
                instance("d", 4, "10.0.4.5", mac),
                instance("e", 4, "10.0.4.6", "fa:16:3e:00:00:02"),
                instance("f", 4, "10.0.4.6", "fa:16:3e:00:00:03"),
            ],
        })
    }

    fn ask(namespace: &str, source: &str) -> Result<String, Stranger> {
        let directory = directory();
        let guest = directory.guest(&socket(namespace, &[]).key, source.parse().expect("an address"))?;
        Ok(guest.instance.id.clone())
    }

    #[test]
    fn the_same_address_in_two_networks_is_two_machines() {
        assert_eq!([ask("one", "10.0.0.5"), ask("two", "10.0.0.5")], [Ok("a".to_owned()), Ok("b".to_owned())]);
    }

    #[test]
    fn machines_of_all_networks_behind_a_router_are_known_and_no_others() {
        assert_eq!([ask("router", "10.0.3.5"), ask("router", "10.0.4.5")], [Ok("c".to_owned()), Ok("d".to_owned())]);
        let stranger = "10.0.0.5".parse().expect("an address");
        assert_eq!(ask("router", "10.0.0.5"), Err(Stranger::Unknown(stranger)));
    }

    #[test]
    fn a_link_local_address_is_known_where_only_one_network_is() {
        let source = "fe80::f816:3eff:fe00:1";
        assert_eq!(ask("two", source), Ok("b".to_owned()));
        assert_eq!(ask("router", source), Err(Stranger::Ambiguous(source.parse().expect("an address"))));
    }

    #[test]
    fn an_address_that_two_ports_of_a_network_have_is_nobodys() {
        let address: IpAddr = "10.0.4.6".parse().expect("an address");
        assert_eq!(ask("router", "10.0.4.6"), Err(Stranger::Several(address)));
        assert_eq!(directory().clashes().collect::<Vec<_>>(), [(network(4), address)]);
    }

    #[test]
    fn a_socket_that_is_not_in_the_file_serves_nobody() {
        assert!(ask("elsewhere", "10.0.0.5").is_err());
    }
}
