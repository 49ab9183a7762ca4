//! Routers on several network nodes: their ports are on each of these, and a network that no file names joins the nodes, by which
//! keepalived finds out which of them is active (as Neutron's HA network does).

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;
use uuid::Uuid;

use super::{Network, Port, Router, Topology, check::Checker};
use crate::model::{Mac, NetworkId, PortId, RouterId, Segment, Vni};

/// Neutron's owner of the ports by which the nodes of a router find each other.
pub const HA_OWNER: &str = "network:router_ha_interface";
/// The addresses of these ports (Neutron's `l3_ha_net_cidr`).
pub(crate) const HA_SUBNET: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 192, 0), 18);
/// The name of the network, which `overlane show` prints.
const HA_NETWORK: &str = "HA network";
/// Its VNI: the last one there is.
const HA_VNI: u32 = (1 << 24) - 1;
/// More ports than this would not find addresses that nobody has.
const HA_PORTS_MAX: usize = 8192;

/// The first three bytes of the MAC addresses of these ports (Neutron's `base_mac`).
const BASE_MAC: [u8; 3] = [0xfa, 0x16, 0x3e];

impl Router {
    /// Whether it is on several network nodes.
    pub fn is_replicated(&self) -> bool {
        self.hosts.len() > 1
    }
}

impl Topology {
    /// Puts the ports of routers where these are, on each of several hosts, and adds the network by which several hosts of a router find
    /// each other. All hosts come to the same, as they read the same file.
    pub(super) fn place_router_ports(&mut self) {
        let hosts_of = |port: &Port| {
            let router = self.is_of_router(port).then(|| self.router_of(port)).flatten();
            router.map(|router| router.hosts.clone()).unwrap_or_default()
        };
        let of_ports: Vec<Vec<String>> = self.ports.iter().map(hosts_of).collect();
        for (port, hosts) in self.ports.iter_mut().zip(of_ports) {
            match hosts.as_slice() {
                [] => (),
                [only] => port.host = port.host.take().or_else(|| Some(only.clone())),
                _ => (port.host, port.replicated_on) = (None, hosts),
            }
        }
        let replicated: Vec<(RouterId, usize, Vec<String>)> = self
            .routers
            .iter()
            .filter(|router| router.is_replicated() && router.admin_state_up)
            .map(|router| (router.id, router.line, router.hosts.clone()))
            .collect();
        let Some((_, line, _)) = replicated.first() else { return };
        let network = ha_network(*line);
        let mut taken = Taken::of(&self.ports);
        for (router, line, hosts) in replicated {
            for host in hosts {
                let (id, mac, address) = taken.next(router, &host);
                self.ports.push(ha_port(line, network.id, router, host, (id, mac, address)));
            }
        }
        self.networks.push(network);
    }

    /// The port by which a router on `host` talks to its other hosts.
    pub(crate) fn ha_port(&self, router: RouterId, host: &str) -> Option<&Port> {
        self.ha_ports(router).find(|port| port.host.as_deref() == Some(host))
    }

    /// All of a router.
    pub(crate) fn ha_ports(&self, router: RouterId) -> impl Iterator<Item = &Port> {
        let id = router.to_string();
        self.ports.iter().filter(move |port| port.network_id == ha_network_id() && port.device_id == id)
    }
}

/// What is wrong with routers on several hosts, besides what is wrong with any.
pub(super) fn check(checker: &mut Checker<'_>, router: &Router) {
    for (index, host) in router.hosts.iter().enumerate() {
        if router.hosts[..index].contains(host) {
            checker.problem(router.line, format!("host {host:?} of router {} is named twice", router.name));
        }
    }
}

/// What is wrong with all of them together.
pub(super) fn check_network(checker: &mut Checker<'_>) {
    let topology = checker.topology;
    let replicated = || topology.routers.iter().filter(|router| router.is_replicated());
    let Some(first) = replicated().next() else { return };
    if let Some(network) = topology.networks.iter().find(|network| network.segment.vni().is_some_and(is_ha_vni)) {
        let message = format!(
            "segmentation_id {HA_VNI} of network {} is that of the network by which the hosts of router {} (line {}) find each other: \
             take another",
            network.name, first.name, first.line
        );
        checker.problem(network.line, message);
    }
    let n_ports: usize = replicated().map(|router| router.hosts.len()).sum();
    if n_ports > HA_PORTS_MAX {
        let message = format!(
            "routers on several hosts have {n_ports} hosts in all, counted for each router: {HA_PORTS_MAX} at most"
        );
        checker.problem(first.line, message);
    }
}

fn is_ha_vni(vni: Vni) -> bool {
    vni.get() == HA_VNI
}

fn ha_network_id() -> NetworkId {
    NetworkId(Uuid::new_v5(&Uuid::NAMESPACE_OID, HA_NETWORK.as_bytes()))
}

fn ha_network(line: usize) -> Network {
    Network {
        line,
        id: ha_network_id(),
        name: HA_NETWORK.to_owned(),
        segment: Segment::Vxlan(Vni::try_from(HA_VNI).expect("24 bits")),
        mtu: None,
        subnets: Vec::new(),
        is_external: false,
        dns_domain: None,
        port_security_enabled: false,
        qos_policy_id: None,
    }
}

fn ha_port(
    line: usize,
    network_id: NetworkId,
    router: RouterId,
    host: String,
    (id, mac_address, address): (PortId, Mac, Ipv4Addr),
) -> Port {
    Port {
        line,
        id,
        network_id,
        host: Some(host),
        replicated_on: Vec::new(),
        mac_address,
        fixed_ips: vec![address.into()],
        admin_state_up: true,
        device_owner: HA_OWNER.to_owned(),
        device_id: router.to_string(),
        dns_name: None,
        extra_dhcp_opts: Vec::new(),
        port_security_enabled: None,
        security_groups: None,
        allowed_address_pairs: Vec::new(),
        qos_policy_id: None,
        from_port_xdp: false,
    }
}

/// What is in use.
struct Taken {
    taps: BTreeSet<String>,
    addresses: BTreeSet<Ipv4Addr>,
    macs: BTreeSet<Mac>,
}

impl Taken {
    fn of(ports: &[Port]) -> Self {
        let taps = ports.iter().map(|port| port.id.tap_name()).collect();
        // That of the network, which is nobody's.
        Self { taps, addresses: [HA_SUBNET.network(), HA_SUBNET.broadcast()].into(), macs: BTreeSet::new() }
    }

    /// Id, MAC address and address of a router's port on a host. They follow from these two as long as nothing else has them, so
    /// that routers which come and go elsewhere in the file leave them as they are.
    fn next(&mut self, router: RouterId, host: &str) -> (PortId, Mac, Ipv4Addr) {
        for attempt in 0_u32.. {
            let id = Uuid::new_v5(&router.0, format!("{host} {attempt}").as_bytes());
            let bytes = id.as_bytes();
            let mac = Mac([BASE_MAC[0], BASE_MAC[1], BASE_MAC[2], bytes[13], bytes[14], bytes[15]]);
            let number = u32::from_be_bytes([bytes[9], bytes[10], bytes[11], bytes[12]]);
            let address = Ipv4Addr::from_bits(HA_SUBNET.network().to_bits() | number & !HA_SUBNET.netmask().to_bits());
            let id = PortId(id);
            let tap = id.tap_name();
            if self.taps.contains(&tap) || self.addresses.contains(&address) || self.macs.contains(&mac) {
                continue;
            }
            self.taps.insert(tap);
            self.addresses.insert(address);
            self.macs.insert(mac);
            return (id, mac, address);
        }
        unreachable!("there are more addresses than ports, and attempts without end")
    }
}
