//! Routers of the cloud, and the nodes that they are on.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{
    Cloud, Node,
    resources::{content, merged, text},
};
use crate::lab::Machine;

/// A router, as Neutron made it.
#[derive(Debug)]
pub struct Router {
    id: String,
    /// The subnets that it is the gateway of.
    subnets: Vec<String>,
}

impl Router {
    fn path(&self) -> String {
        format!("/routers/{}", self.id)
    }

    fn file(&self, node: &Node, name: &str) -> PathBuf {
        node.container().folder().join("state/ha_confs").join(name)
    }

    /// Whether it routes on a node, of several that it is on.
    pub fn is_active(&self, node: &Node) -> bool {
        let state = fs::read_to_string(self.file(node, &format!("{}/state", self.id)));
        // Which word it is depends on the release.
        state.is_ok_and(|state| matches!(state.trim(), "master" | "primary"))
    }

    /// Ends keepalived on a node, as one is taken out of service: it gives the router's addresses up first.
    ///
    /// # Errors
    /// When it does not run.
    pub fn retire(&self, node: &Node) -> Result<()> {
        let file = self.file(node, &format!("{}.pid.keepalived", self.id));
        let pid = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        node.container().run(&format!("kill -TERM {}", pid.trim())).map(drop)
    }
}

impl Cloud {
    /// Makes a router; `more` are fields besides.
    ///
    /// # Errors
    /// When Neutron refuses.
    pub fn router(&self, more: &Value) -> Result<Router> {
        let body = merged(json!({"name": "router", "project_id": "lab"}), more);
        let id = text(&content(self.post("/routers", &json!({ "router": body }))?)?["id"])?;
        Ok(Router { id, subnets: Vec::new() })
    }

    /// Makes a network `10.0.NUMBER.0/24` behind a router, and starts a machine in it, which is in `group`.
    ///
    /// # Errors
    /// When Neutron refuses, or its agents do not connect the machine.
    pub fn boot_behind(&self, router: &mut Router, number: u8, host: &str, group: &str) -> Result<Machine> {
        let network = self.bare_network(&json!({}))?;
        let subnet = self.subnet(&network, &json!({"cidr": format!("10.0.{number}.0/24"), "enable_dhcp": false}))?;
        self.put(&format!("{}/add_router_interface", router.path()), &json!({"subnet_id": subnet}))?;
        router.subnets.push(subnet);
        let port = self.port(&network, host, &json!({"security_groups": [group]}))?;
        let machine = self.boot(&network, &port)?;
        machine.run(&format!("ip route add default via 10.0.{number}.1"))?;
        Ok(machine)
    }

    /// Deletes a router, which has no floating IPs any more.
    ///
    /// # Errors
    /// When Neutron refuses.
    pub fn delete_router(&self, router: &Router) -> Result<()> {
        self.put(&router.path(), &json!({"router": {"external_gateway_info": null}}))?;
        for subnet in &router.subnets {
            self.put(&format!("{}/remove_router_interface", router.path()), &json!({"subnet_id": subnet}))?;
        }
        self.delete(&router.path())
    }
}
