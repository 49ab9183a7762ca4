//! What a topology asks of one host.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::{Network, Port, Topology};
use crate::desired::{self, Desired, LocalPort, Neighbor};

/// Owners of ports that route: `network:router_interface`, `network:router_gateway` and their relatives.
const ROUTER_OWNERS: &str = "network:router";

impl Topology {
    /// What this host should have. A topology file tells everything at once, so the answer is complete.
    pub fn desired_for(&self, host: &str) -> Desired {
        let others: BTreeMap<&str, IpAddr> = self
            .hosts
            .iter()
            .filter(|other| other.name != host)
            .map(|other| (other.name.as_str(), other.local_ip))
            .collect();
        let networks = self.networks.iter().filter_map(|network| {
            let ports: Vec<&Port> = self.ports.iter().filter(|port| port.network_id == network.id).collect();
            let desired = network_for(network, &ports, host, &others);
            (!desired.local_ports.is_empty()).then_some((network.id, desired))
        });
        Desired { complete: true, networks: networks.collect(), vteps: others.values().copied().collect() }
    }
}

fn network_for(network: &Network, ports: &[&Port], host: &str, others: &BTreeMap<&str, IpAddr>) -> desired::Network {
    let local = ports.iter().filter(|port| port.host.as_deref() == Some(host));
    // Only tunnels need to be told where the others are; the rest is learned.
    let is_tunnelled = network.segment.vni().is_some();
    let elsewhere = ports.iter().filter(|_| is_tunnelled);
    let remote = elsewhere.filter_map(|port| Some((port, *others.get(port.host.as_deref()?)?)));
    // What else there is on a physical network is not known, so nothing is answered in its name.
    let bound = ports.iter().filter(|port| is_tunnelled && port.host.is_some());
    // An address that any port may claim by an allowed address pair has no owner that could be known here.
    let pairs: Vec<IpNet> =
        ports.iter().flat_map(|port| &port.allowed_address_pairs).map(|pair| pair.ip_address).collect();
    let is_shared = |address: &IpAddr| pairs.iter().any(|pair| pair.contains(address));
    let neighbors = bound.flat_map(|port| {
        let is_router = port.device_owner.starts_with(ROUTER_OWNERS);
        let neighbor = Neighbor { mac: port.mac_address, is_router };
        port.fixed_ips.iter().filter(|address| !is_shared(address)).map(move |address| (*address, neighbor))
    });
    desired::Network {
        name: network.name.clone(),
        segment: network.segment.clone(),
        mtu: network.mtu,
        local_ports: local.map(|port| (port.id, local_port(port))).collect(),
        remote_macs: remote.clone().map(|(port, vtep)| (port.mac_address, vtep)).collect(),
        flood: remote.map(|(_, vtep)| vtep).collect(),
        neighbors: neighbors.collect(),
    }
}

fn local_port(port: &Port) -> LocalPort {
    LocalPort { mac: port.mac_address, addresses: port.fixed_ips.clone(), device_owner: port.device_owner.clone() }
}
