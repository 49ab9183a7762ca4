//! What the network node does for machines: addresses, routes, the way out and in, and what they are told about themselves.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    deployment::{Deployment, FLOATING_IP, INTERNET, NAMESPACES, ROUTER, ROUTES},
    report::Report,
    story::ping,
};

const METADATA: &str = "http://169.254.169.254";

/// Looks at what the machines were given, and at what the controller looks like.
pub(crate) fn inspect(deployment: &Deployment, report: &mut Report) {
    for (machine, lease) in deployment.machines.iter().zip(&deployment.leases) {
        let given = |name: &str| lease.get(name).map(String::as_str).unwrap_or_default();
        let is_right = given("ip") == machine.port.ipv4() && given("mtu") == "1450" && !given("router").is_empty();
        let detail = format!("{} by way of {}, MTU {}", given("ip"), given("router"), given("mtu"));
        report.check(format!("DHCP gives {} its address", machine.port.ipv4()), is_right, detail);
    }
    report.check_result("namespaces of the controller", namespaces_are_the_reference_ones(deployment));
    report.check_result("routing table of the router", routes_are_the_reference_ones(deployment));
}

/// Goes out, comes in, and asks for metadata.
pub(crate) fn try_out(deployment: &Deployment, report: &mut Report) {
    let outside = deployment.lab.fabric();
    report.check_result("ping web2 to the internet, by SNAT", ping(&deployment.machine("web2").namespace, INTERNET));
    report.check_result("ping the internet to app1, by its floating IP", ping(outside, FLOATING_IP));
    report.check_result("metadata", metadata(deployment));
}

fn namespaces_are_the_reference_ones(deployment: &Deployment) -> Result<(bool, String)> {
    let listed = deployment.controller().run("ip netns list")?;
    // Each line is a name, with an id behind it if there is one.
    let mut found: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    found.retain(|name| name.starts_with("qdhcp-") || name.starts_with("qrouter-"));
    found.sort_unstable();
    Ok((found == NAMESPACES, format!("three qdhcp and a qrouter: {}", found.join(", "))))
}

fn routes_are_the_reference_ones(deployment: &Deployment) -> Result<(bool, String)> {
    let text = deployment.controller().run(&format!("ip netns exec {ROUTER} ip -4 -json route"))?;
    let routes: Vec<Value> = serde_json::from_str(&text).context("reading the routing table")?;
    let mut found: Vec<(&str, Option<&str>, &str)> = routes
        .iter()
        .map(|route| {
            let text = |key: &str| route[key].as_str();
            (text("dst").unwrap_or_default(), text("gateway"), text("dev").unwrap_or_default())
        })
        .collect();
    found.sort_unstable();
    let mut expected = ROUTES.to_vec();
    expected.sort_unstable();
    let detail = if found == expected {
        format!("{} routes, link for link those of the reference deployment", found.len())
    } else {
        format!("found {found:?}, expected {expected:?}")
    };
    Ok((found == expected, detail))
}

fn metadata(deployment: &Deployment) -> Result<(bool, String)> {
    let app1 = deployment.machine("app1");
    let fetch = |path: &str| app1.run(&format!("curl --silent --fail --max-time 5 {METADATA}/{path}"));
    let address = fetch("latest/meta-data/public-ipv4")?;
    ensure!(address == FLOATING_IP, "its public address is said to be {address}");
    ensure!(fetch("latest/user-data")?.contains("#cloud-config"), "its user data are other ones");
    let openstack: Value = serde_json::from_str(&fetch("openstack/latest/meta_data.json")?).context("metadata")?;
    let hostname = openstack["hostname"].as_str().unwrap_or_default().to_owned();
    Ok((
        hostname.starts_with("app1"),
        format!("app1 is told its host name ({hostname}), its floating IP and its user data"),
    ))
}
