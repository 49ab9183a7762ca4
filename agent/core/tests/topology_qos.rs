//! QoS policies in topology files.

use std::path::Path;

use overlane_core::{
    qos::{Qos, RateLimit},
    topology::Topology,
};

const HOSTS: &str = "[[hosts]]\nname = \"a\"\nlocal_ip = \"10.1.0.1\"\n";
const GOLD: &str = "00000001-0000-4000-8000-000000000000";
const LEAD: &str = "00000002-0000-4000-8000-000000000000";

fn network(more: &str) -> String {
    format!(
        "[[networks]]\nid = \"971ffda2-e567-40a0-a2c8-b31a577fd4d3\"\nnetwork_type = \"vxlan\"\nsegmentation_id = 10\n{more}\n"
    )
}

fn port(more: &str) -> String {
    format!(
        "[[ports]]\nid = \"a1b6a1c2-5d0e-4a51-8f0e-1f6f0a7c1d01\"\nnetwork_id = \"971ffda2-e567-40a0-a2c8-b31a577fd4d3\"\n\
         host = \"a\"\nmac_address = \"fa:16:3e:00:00:01\"\n{more}\n"
    )
}

fn policy(id: &str, rules: &[&str]) -> String {
    let rules = rules.iter().map(|rule| format!("[[qos_policies.rules]]\n{}\n", rule.replace("; ", "\n")));
    format!("[[qos_policies]]\nid = \"{id}\"\n{}", rules.collect::<String>())
}

fn parse(parts: &[String]) -> Result<Topology, Vec<String>> {
    let text = HOSTS.to_owned() + &parts.concat();
    Topology::parse(Path::new("t.toml"), &text).map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
}

fn qos(parts: &[String]) -> Qos {
    let desired = parse(parts).expect("valid").desired_for("a");
    desired.networks.values().flat_map(|network| network.local_ports.values()).next().expect("a port").qos
}

fn limit(kbps: u32, burst_kbit: u32) -> RateLimit {
    RateLimit { kbps: kbps.try_into().expect("the test's rates"), burst_kbit }
}

#[test]
fn a_port_has_its_own_policy_and_otherwise_that_of_its_network() {
    let gold = policy(
        GOLD,
        &[
            "type = \"bandwidth_limit\"; max_kbps = 10000; max_burst_kbps = 1000",
            "type = \"bandwidth_limit\"; max_kbps = 20000; direction = \"ingress\"",
            "type = \"dscp_marking\"; dscp_mark = 26",
        ],
    );
    let lead = policy(LEAD, &["type = \"dscp_marking\"; dscp_mark = 8"]);
    let expected = Qos { egress: Some(limit(10_000, 1000)), ingress: Some(limit(20_000, 0)), dscp: Some(26) };
    let (of_network, of_port) = (format!("qos_policy_id = \"{GOLD}\""), format!("qos_policy_id = \"{LEAD}\""));
    let with = |of_network: &str, of_port: &str| qos(&[network(of_network), port(of_port), gold.clone(), lead.clone()]);
    assert_eq!(with("", ""), Qos::default());
    assert_eq!(with(&of_network, ""), expected);
    assert_eq!(with(&of_network, &of_port), Qos { dscp: Some(8), ..Qos::default() });
    // The network's own ports have a policy only if it is theirs.
    let owner = "\ndevice_owner = \"network:dhcp\"";
    assert_eq!(with(&of_network, owner), Qos::default());
    assert_eq!(with("", &(of_port + owner)).dscp, Some(8));
    assert_eq!(with(&of_network, "device_owner = \"network:router_gateway\""), expected);
}

#[test]
fn every_problem_of_a_policy_is_named_with_its_line() {
    let bad = policy(
        GOLD,
        &[
            "type = \"minimum_bandwidth\"",
            "type = \"bandwidth_limit\"; max_kbps = 0",
            "type = \"bandwidth_limit\"; max_kbps = 5; dscp_mark = 3",
            "type = \"bandwidth_limit\"; max_kbps = 6",
            "type = \"dscp_marking\"; dscp_mark = 64",
            "type = \"dscp_marking\"",
        ],
    );
    assert_eq!(
        parse(&[bad]).expect_err("invalid"),
        [
            "t.toml:7: type \"minimum_bandwidth\": expected bandwidth_limit or dscp_marking",
            "t.toml:10: max_kbps: expected a number from 1 to 2147483647",
            "t.toml:14: a rule of this type has no dscp_mark; it has max_kbps, max_burst_kbps, direction",
            "t.toml:16: the policy has a rule of this type, and for this direction, already",
            "t.toml:20: dscp_mark: expected a number from 0 to 63",
            "t.toml:21: the QoS rule has no dscp_mark",
        ]
    );
    let line = format!("qos_policy_id = \"{GOLD}\"");
    let problems = parse(&[network(&line), port(&line), policy(LEAD, &[]), policy(LEAD, &[])]).expect_err("invalid");
    let missing = format!("qos_policy_id {GOLD} is not among the qos_policies");
    assert_eq!(
        problems,
        [
            format!("t.toml:4: {missing}"),
            format!("t.toml:9: {missing}"),
            format!("t.toml:17: QoS policy id {LEAD} is used in line 15 already"),
        ]
    );
}
