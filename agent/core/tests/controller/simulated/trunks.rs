//! The server's and the host's part in trunks.

use std::collections::{BTreeMap, BTreeSet};

use overlane_core::{
    model::PortId,
    neutron::{controller::Answer, messages::objects::SubPort},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{HOST, World, api_port, understood, wrapped};

/// A trunk, as the server has it.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedTrunk {
    pub(crate) id: Uuid,
    pub(crate) status: String,
    /// Subports with their tags.
    pub(crate) sub_ports: BTreeMap<PortId, u32>,
}

impl SimulatedTrunk {
    pub(super) fn object(&self, port: PortId) -> Value {
        let sub_port = |(id, vid): (&PortId, &u32)| {
            let data =
                json!({ "port_id": id, "trunk_id": self.id, "segmentation_type": "vlan", "segmentation_id": vid });
            wrapped("SubPort", &data)
        };
        let sub_ports: Vec<Value> = self.sub_ports.iter().map(sub_port).collect();
        let data = json!({ "id": self.id, "port_id": port, "status": self.status, "sub_ports": sub_ports });
        wrapped("Trunk", &data)
    }
}

impl World {
    /// Binds subports, as far as that is possible.
    pub(super) fn bind(&mut self, sub_ports: &[SubPort]) -> Answer {
        let mut bound: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for sub_port in sub_ports.iter().filter(|sub_port| !self.unbindable.contains(&sub_port.port_id)) {
            let port = self.ports.get_mut(&sub_port.port_id).expect("known ports only");
            (port.host, port.owner, port.status) = (HOST, "trunk:subport", "DOWN");
            let port = api_port(sub_port.port_id, port);
            bound.entry(sub_port.trunk_id.to_string()).or_default().push(port);
        }
        let is_whole = sub_ports.iter().all(|sub_port| !self.unbindable.contains(&sub_port.port_id));
        for trunk in self.trunks.values_mut() {
            if sub_ports.iter().any(|sub_port| sub_port.trunk_id == trunk.id) {
                if is_whole { "BUILD" } else { "ERROR" }.clone_into(&mut trunk.status);
            }
        }
        Answer::SubPorts(understood(json!(bound)))
    }

    pub(super) fn take_status(&mut self, trunk: Uuid, status: &str) -> Answer {
        let known = self.trunks.values_mut().find(|known| known.id == trunk).expect("known trunks only");
        status.clone_into(&mut known.status);
        Answer::TrunkStatus
    }

    /// Makes the devices of subports on the taps of their trunks, and takes away those that are none any more.
    pub(super) fn make_sub_ports(&mut self) -> BTreeSet<PortId> {
        let is_possible =
            |id: &PortId, parent: PortId| self.taps.contains_key(&parent.tap_name()) && !self.blocked.contains(id);
        let sub_ports = self.desired.sub_ports.iter();
        let made: BTreeSet<PortId> =
            sub_ports.filter(|(id, sub_port)| is_possible(id, sub_port.parent)).map(|(id, _)| *id).collect();
        if self.desired.complete {
            for gone in self.made.difference(&made) {
                self.taps.remove(&gone.tap_name());
            }
            self.made.retain(|port| made.contains(port));
        }
        for new in made.iter().copied() {
            if self.made.insert(new) && !self.taps.contains_key(&new.tap_name()) {
                self.plug(new);
            }
        }
        made
    }
}
