//! The server's part in the status of ports.

use overlane_core::{
    model::PortId,
    neutron::controller::{Answer, Failure, Status},
};
use serde_json::json;

use super::{World, fdb, understood};

impl World {
    /// One port after the other, those that are up first.
    pub(super) fn note(&mut self, status: &Status) -> Result<Answer, Failure> {
        if status.up.iter().chain(&status.down).any(|id| self.hung.contains(id)) {
            return Err(Failure::Other("no answer in time".to_owned()));
        }
        let (failed_up, up): (Vec<PortId>, Vec<_>) = status.up.iter().partition(|id| self.refused.contains(id));
        for id in up {
            self.ports.get_mut(&id).expect("known ports only").status = "ACTIVE";
            let network = self.ports[&id].network;
            if status.refresh
                && let Some(ports) = self.elsewhere.get(&network).cloned()
            {
                self.notify("add_fdb_entries", fdb(network, &ports), true);
            }
        }
        let (failed_down, down): (Vec<PortId>, Vec<_>) = status.down.iter().partition(|id| self.refused.contains(id));
        for id in down {
            if let Some(port) = self.ports.get_mut(&id) {
                port.status = "DOWN";
            }
        }
        Ok(Answer::Status(understood(json!({
            "devices_up": [], "failed_devices_up": failed_up, "devices_down": [], "failed_devices_down": failed_down,
        }))))
    }
}
