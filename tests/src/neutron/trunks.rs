//! Trunks of the cloud, and machines behind them.

use anyhow::Result;
use serde_json::{Value, json};

use super::{
    Cloud, Network,
    resources::{content, make_bridge, text},
};
use crate::{
    lab::{Port, TrunkMachine, connect_as_libvirt_does},
    wait::{PATIENCE, wait_at_most},
};

fn sub_ports(sub_ports: &[(&Port, u16)]) -> Value {
    let sub_port =
        |(port, vid): &(&Port, u16)| json!({"port_id": port.id, "segmentation_type": "vlan", "segmentation_id": vid});
    sub_ports.iter().map(sub_port).collect()
}

impl Cloud {
    /// Gives a port a trunk with these subports, each with its tag, and returns its id.
    ///
    /// # Errors
    /// When Neutron refuses.
    pub fn trunk(&self, port: &Port, with: &[(&Port, u16)]) -> Result<String> {
        let body = json!({"trunk": {"port_id": port.id, "project_id": "lab", "sub_ports": sub_ports(with)}});
        text(&content(self.post("/trunks", &body)?)?["id"])
    }

    /// Adds subports to a trunk.
    ///
    /// # Errors
    /// When Neutron refuses.
    pub fn add_sub_ports(&self, trunk: &str, with: &[(&Port, u16)]) -> Result<()> {
        self.put(&format!("/trunks/{trunk}/add_subports"), &json!({"sub_ports": sub_ports(with)})).map(drop)
    }

    /// Removes subports from a trunk.
    ///
    /// # Errors
    /// When Neutron refuses.
    pub fn remove_sub_ports(&self, trunk: &str, ports: &[&Port]) -> Result<()> {
        let ports: Value = ports.iter().map(|port| json!({"port_id": port.id})).collect();
        self.put(&format!("/trunks/{trunk}/remove_subports"), &json!({"sub_ports": ports})).map(drop)
    }

    /// Deletes a trunk, whose port and subports stay.
    ///
    /// # Errors
    /// When Neutron refuses.
    pub fn delete_trunk(&self, trunk: &str) -> Result<()> {
        self.delete(&format!("/trunks/{trunk}"))
    }

    /// What Neutron says of a trunk.
    ///
    /// # Errors
    /// When there is none.
    pub fn show_trunk(&self, trunk: &str) -> Result<Value> {
        content(self.get(&format!("/trunks/{trunk}"))?)
    }

    /// Waits until a trunk has a status, such as `ACTIVE`.
    ///
    /// # Errors
    /// When it does not get it in time.
    pub fn wait_for_trunk(&self, trunk: &str, status: &str) -> Result<()> {
        wait_at_most(PATIENCE * 3, &format!("trunk {trunk} is {status}"), || {
            let shown = self.show_trunk(trunk)?;
            anyhow::ensure!(shown["status"] == status, "it is {}", shown["status"]);
            Ok(Some(()))
        })
    }

    /// Starts a machine that knows VLANs on its port's host, as Nova and libvirt do.
    ///
    /// # Errors
    /// When the devices cannot be made.
    pub fn plug_trunk(&self, network: &Network, port: &Port, with: &[(&Port, u16)]) -> Result<TrunkMachine> {
        let host = self.lab().host(&port.host);
        make_bridge(network, host)?;
        let machine = TrunkMachine::boot(host, self.world(), port, with)?;
        connect_as_libvirt_does(host, &port.tap(), &network.bridge())?;
        Ok(machine)
    }
}
