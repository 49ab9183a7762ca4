//! Routers of the cloud, and the nodes that they are on.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{
    Cloud, Node,
    resources::{content, merged, text},
};

/// A router, as Neutron made it.
#[derive(Debug)]
pub struct Router {
    /// Its id.
    pub id: String,
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

    /// Makes a router the gateway of a subnet.
    ///
    /// # Errors
    /// When Neutron refuses.
    pub fn connect_router(&self, router: &mut Router, subnet: &str) -> Result<()> {
        self.put(&format!("{}/add_router_interface", router.path()), &json!({"subnet_id": subnet}))?;
        router.subnets.push(subnet.to_owned());
        Ok(())
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
