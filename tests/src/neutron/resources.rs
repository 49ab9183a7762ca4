//! What users make in the cloud: networks, ports, and the machines behind them.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{Agent, Cloud};
use crate::{
    lab::{Host, Machine, Port, connect_as_libvirt_does},
    wait::{PATIENCE, wait_at_most},
};

/// A network, as Neutron made it.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its id.
    pub id: String,
    /// What fits into its frames.
    pub mtu: u64,
    /// Its VNI or VID.
    pub segmentation_id: Option<u64>,
}

impl Network {
    /// The name of its bridge.
    pub fn bridge(&self) -> String {
        format!("brq{}", &self.id[..11])
    }

    /// The name of its vxlan device.
    ///
    /// # Panics
    /// When it is not a VXLAN network: a mistake in the test.
    pub fn vxlan(&self) -> String {
        format!("vxlan-{}", self.segmentation_id.expect("the test's network has a VNI"))
    }

    fn path(&self) -> String {
        format!("/networks/{}", self.id)
    }
}

/// Takes the only field of an answer, whatever it is called.
pub(super) fn content(answer: Value) -> Result<Value> {
    let Value::Object(fields) = answer else { anyhow::bail!("not an object: {answer}") };
    fields.into_iter().next().map(|(_, value)| value).context("an empty answer")
}

pub(super) fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().with_context(|| format!("not a string: {value}"))?.to_owned())
}

/// `defaults` with the fields of `more`.
pub(super) fn merged(mut defaults: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().into_iter().flatten() {
        defaults[name] = value.clone();
    }
    defaults
}

/// Makes the bridge of a network as Nova does. It is there when the host has another port of the network.
pub(super) fn make_bridge(network: &Network, host: &Host) -> Result<()> {
    let bridge = network.bridge();
    if host.run(&format!("ip link show {bridge}")).is_err() {
        let settings = "type bridge forward_delay 0 stp_state 0 mcast_snooping 0";
        host.run(&format!("ip link add name {bridge} {settings}"))?;
        host.namespace.set_parameter(&format!("net/ipv6/conf/{bridge}/disable_ipv6"), "1")?;
        host.run(&format!("ip link set {bridge} up"))?;
    }
    Ok(())
}

/// A port, as Neutron made it for a host.
fn described(made: &Value, host: &str) -> Result<Port> {
    let addresses = made["fixed_ips"].as_array().context("fixed_ips")?.iter();
    Ok(Port {
        id: text(&made["id"])?,
        network_id: text(&made["network_id"])?,
        host: host.to_owned(),
        mac_address: text(&made["mac_address"])?,
        fixed_ips: addresses.map(|address| text(&address["ip_address"])).collect::<Result<_>>()?,
        device_owner: text(&made["device_owner"])?,
        ..Port::default()
    })
}

impl Cloud {
    /// Makes a VXLAN network with the subnets 10.0.0.0/24 and fd00::/64, both without DHCP. `more` are fields besides.
    ///
    /// # Errors
    /// When Neutron refuses.
    pub fn network(&self, more: &Value) -> Result<Network> {
        let network = self.bare_network(more)?;
        self.subnet(&network, &json!({"cidr": "10.0.0.0/24", "enable_dhcp": false}))?;
        self.subnet(&network, &json!({"cidr": "fd00::/64", "ip_version": 6, "enable_dhcp": false}))?;
        Ok(network)
    }

    /// As `network`, without subnets.
    ///
    /// # Errors
    /// When Neutron refuses.
    pub fn bare_network(&self, more: &Value) -> Result<Network> {
        let body = merged(json!({"name": "net", "project_id": "lab"}), more);
        let made = content(self.post("/networks", &json!({ "network": body }))?)?;
        Ok(Network {
            id: text(&made["id"])?,
            mtu: made["mtu"].as_u64().context("an MTU")?,
            segmentation_id: made["provider:segmentation_id"].as_u64(),
        })
    }

    /// Gives a network a subnet, IPv4 unless `more` says otherwise, and returns its id.
    ///
    /// # Errors
    /// When Neutron refuses.
    pub fn subnet(&self, network: &Network, more: &Value) -> Result<String> {
        let body = merged(json!({"network_id": network.id, "ip_version": 4, "project_id": "lab"}), more);
        text(&content(self.post("/subnets", &json!({ "subnet": body }))?)?["id"])
    }

    /// Changes a network.
    ///
    /// # Errors
    /// When Neutron refuses.
    pub fn update_network(&self, network: &Network, fields: &Value) -> Result<()> {
        self.put(&network.path(), &json!({ "network": fields })).map(drop)
    }

    /// Deletes a network, which has no ports any more.
    ///
    /// # Errors
    /// When Neutron refuses.
    pub fn delete_network(&self, network: &Network) -> Result<()> {
        self.delete(&network.path())
    }

    /// Makes a port of a machine on `host`, bound to it as Nova does.
    ///
    /// # Errors
    /// When Neutron refuses, or cannot bind it.
    pub fn port(&self, network: &Network, host: &str, more: &Value) -> Result<Port> {
        static DEVICES: AtomicU32 = AtomicU32::new(1);
        let device = DEVICES.fetch_add(1, Ordering::Relaxed);
        let body = json!({
            "network_id": network.id,
            "project_id": "lab",
            "device_owner": "compute:nova",
            "device_id": format!("00000000-0000-4000-8000-{device:012x}"),
            "binding:host_id": host,
        });
        let made = content(self.post("/ports", &json!({"port": merged(body, more)}))?)?;
        ensure!(made["binding:vif_type"] == "bridge", "the port is not bound: {made}");
        described(&made, host)
    }

    /// Makes a port that nobody has bound yet, and that is to be on `host` in the end.
    ///
    /// # Errors
    /// When Neutron refuses.
    pub fn unbound_port(&self, network: &Network, host: &str, more: &Value) -> Result<Port> {
        let body = merged(json!({"network_id": network.id, "project_id": "lab"}), more);
        described(&content(self.post("/ports", &json!({ "port": body }))?)?, host)
    }

    /// What Neutron says of a port.
    ///
    /// # Errors
    /// When there is none.
    pub fn show_port(&self, port: &Port) -> Result<Value> {
        content(self.get(&format!("/ports/{}", port.id))?)
    }

    /// Changes a port.
    ///
    /// # Errors
    /// When Neutron refuses.
    pub fn update_port(&self, port: &Port, fields: &Value) -> Result<()> {
        self.put(&format!("/ports/{}", port.id), &json!({ "port": fields })).map(drop)
    }

    /// Deletes a port.
    ///
    /// # Errors
    /// When Neutron refuses.
    pub fn delete_port(&self, port: &Port) -> Result<()> {
        self.delete(&format!("/ports/{}", port.id))
    }

    /// Waits until a port has a status, such as `ACTIVE`.
    ///
    /// # Errors
    /// When it does not get it in time.
    pub fn wait_for_status(&self, port: &Port, status: &str) -> Result<()> {
        wait_at_most(PATIENCE * 3, &format!("port {} on {} is {status}", port.id, port.host), || {
            let shown = self.show_port(port)?;
            let log = || self.node(&port.host).log(Agent::Overlane).unwrap_or_default();
            ensure!(shown["status"] == status, "it is {}; {} says:\n{}", shown["status"], port.host, log());
            Ok(Some(()))
        })
    }

    /// Starts a machine on its port's host as Nova and libvirt do, and waits until the port is ACTIVE.
    ///
    /// # Errors
    /// When the devices cannot be made, or Neutron's agent does not connect them in time.
    pub fn boot(&self, network: &Network, port: &Port) -> Result<Machine> {
        let machine = self.plug(network, port)?;
        self.wait_for_status(port, "ACTIVE")?;
        Ok(machine)
    }

    /// As `boot`, without waiting.
    ///
    /// # Errors
    /// When the devices cannot be made.
    pub fn plug(&self, network: &Network, port: &Port) -> Result<Machine> {
        let machine = Machine::off(self.world(), &format!("{}-{}", &port.id[..11], port.host), port)?;
        let host = self.lab().host(&port.host);
        make_bridge(network, host)?;
        host.make_tap(&machine.namespace, port, "eth0")?;
        machine.run(&format!("ip link set eth0 mtu {}", network.mtu))?;
        connect_as_libvirt_does(host, &port.tap(), &network.bridge())?;
        Ok(machine)
    }

    /// Makes a security group that admits nothing but what its machines send, and returns its id.
    ///
    /// # Errors
    /// When Neutron refuses.
    pub fn security_group(&self, name: &str) -> Result<String> {
        let body = json!({"security_group": {"name": name, "project_id": "lab"}});
        text(&content(self.post("/security-groups", &body)?)?["id"])
    }

    /// Adds a rule to a group, for what its machines receive by IPv4 unless `fields` say otherwise; returns its id.
    ///
    /// # Errors
    /// When Neutron refuses.
    pub fn add_rule(&self, group: &str, fields: &Value) -> Result<String> {
        let body =
            json!({"security_group_id": group, "direction": "ingress", "ethertype": "IPv4", "project_id": "lab"});
        let body = json!({"security_group_rule": merged(body, fields)});
        text(&content(self.post("/security-group-rules", &body)?)?["id"])
    }

    /// Removes a rule.
    ///
    /// # Errors
    /// When Neutron refuses.
    pub fn remove_rule(&self, rule: &str) -> Result<()> {
        self.delete(&format!("/security-group-rules/{rule}"))
    }

    /// Makes a QoS policy without rules, and returns its id.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn qos_policy(&self, name: &str) -> Result<String> {
        let made = self.post("/qos/policies", &json!({"policy": {"name": name}}))?;
        text(&content(made)?["id"])
    }

    /// Adds a rule to a QoS policy, such as a `bandwidth_limit`, and returns its id.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn add_qos_rule(&self, policy: &str, kind: &str, fields: &Value) -> Result<String> {
        let path = format!("/qos/policies/{policy}/{kind}_rules");
        text(&content(self.post(&path, &json!({format!("{kind}_rule"): fields}))?)?["id"])
    }

    /// Removes a rule of a QoS policy.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn remove_qos_rule(&self, policy: &str, kind: &str, rule: &str) -> Result<()> {
        self.delete(&format!("/qos/policies/{policy}/{kind}_rules/{rule}"))
    }

    /// Takes a machine's tap away, as Nova does before it deletes the port.
    ///
    /// # Errors
    /// When there is none.
    pub fn unplug(&self, port: &Port) -> Result<()> {
        self.lab().host(&port.host).run(&format!("ip link delete {}", port.tap())).map(drop)
    }
}
