//! The server's part in security groups.

use std::collections::BTreeSet;

use overlane_core::model::PortId;
use serde_json::{Map, Value, json};

use super::{SimulatedPort, World};

impl SimulatedPort {
    /// Its allowed address pairs, as the server writes them.
    pub(super) fn pairs(&self) -> Vec<Value> {
        self.pairs.iter().map(|pair| json!({ "mac_address": self.mac(), "ip_address": pair })).collect()
    }
}

impl World {
    /// Every group admits SSH from its own members.
    pub(super) fn security(&self, taps: &[String]) -> Value {
        let mut devices = Map::new();
        let (mut groups, mut members) = (Map::new(), Map::new());
        let named = taps.iter().filter_map(|tap| self.named(tap));
        for (id, port) in named.filter(|(_, port)| !port.owner.starts_with("network:")) {
            devices.insert(
                id.to_string(),
                json!({ "network_id": port.network, "mac_address": port.mac(), "device_owner": port.owner,
                        "fixed_ips": [port.address], "security_groups": [port.group] }),
            );
            let of_all = json!({ "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp", "port_range_min": 22,
                                 "port_range_max": 22, "remote_group_id": port.group });
            let mut rules = vec![of_all];
            rules.extend(self.rules.get(port.group).into_iter().flatten().cloned());
            let named = |field| rules.iter().filter_map(|rule: &Value| rule[field].as_str()).collect::<BTreeSet<_>>();
            for group in named("remote_group_id") {
                members.insert(group.to_owned(), json!({ "IPv4": self.members(group) }));
            }
            for group in named("remote_address_group_id") {
                let addresses = self.address_groups[group].iter().map(|address| json!([address, null]));
                members.insert(group.to_owned(), json!({ "IPv4": addresses.collect::<Vec<_>>() }));
            }
            groups.insert(port.group.to_owned(), json!(rules));
        }
        json!({ "devices": devices, "security_groups": groups, "sg_member_ips": members })
    }

    fn members(&self, group: &str) -> Vec<Value> {
        let of_port = |port: &SimulatedPort| {
            let pairs = port.pairs.iter().map(|pair| json!([pair, port.mac()]));
            pairs.chain([json!([port.address, null])]).collect::<Vec<_>>()
        };
        self.ports.values().filter(|port| port.group == group).flat_map(of_port).collect()
    }

    /// The server tells that a port has changed.
    pub(crate) fn tell_port(&mut self, id: PortId) {
        let port = &self.ports[&id];
        let port = json!({ "id": id, "security_groups": [port.group], "allowed_address_pairs": port.pairs() });
        self.notify("port_update", json!({ "port": port }), false);
    }
}
