//! A picture of what is there, from what the hosts themselves say.

use anyhow::Result;
use overlane_tests::lab::{Host, UPLINK};
use serde_json::Value;

use crate::deployment::Deployment;

/// Draws hosts, bridges, taps, tunnels, and who is behind each tap.
pub(crate) fn draw(deployment: &Deployment) -> Result<String> {
    let mut picture = String::from("\n  underlay 10.10.10.0/24\n");
    let hosts = deployment.lab.hosts();
    for (index, host) in hosts.iter().enumerate() {
        let is_last = index + 1 == hosts.len();
        let (branch, trunk) = if is_last { ("└", " ") } else { ("├", "│") };
        picture += &format!("  {branch}─ {} ({UPLINK} {})\n", host.name, host.local_ip);
        for line in networks(deployment, host)? {
            picture += &format!("  {trunk}  {line}\n");
        }
    }
    Ok(picture)
}

fn networks(deployment: &Deployment, host: &Host) -> Result<Vec<String>> {
    let (networks, ports) = (host.show("networks")?, host.show("ports")?);
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let mut lines = Vec::new();
    for network in &networks {
        let flood: Vec<&str> = network["flood"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        lines.push(format!(
            "├─ {}  network {} (MTU {})",
            text(network, "bridge"),
            text(network, "name"),
            network["mtu"]
        ));
        let leads_to = match network["physical_network"].as_str() {
            Some(label) => format!("physical network {label}"),
            None => format!("tunnels to {}", flood.join(", ")),
        };
        lines.push(format!("│   ├─ {:<15} {leads_to}", text(network, "uplink")));
        let is_here = |port: &&Value| port["network_id"] == network["network_id"] && port["state"] != "waiting";
        for port in ports.iter().filter(is_here) {
            let inside = inside(deployment, &text(port, "port_id"));
            let address = port["fixed_ips"][0].as_str().unwrap_or_default().to_owned();
            lines.push(format!("│   ├─ {:<15} {inside} {address} ({} lane)", text(port, "tap"), text(port, "lane")));
        }
    }
    Ok(lines)
}

/// What is behind a port.
fn inside(deployment: &Deployment, port_id: &str) -> String {
    let machine = deployment.machines.iter().find(|machine| machine.port.id == port_id);
    machine.map_or_else(|| deployment.network_owner(port_id), |machine| machine.namespace.name().to_owned())
}
