//! Security groups and port security in topology files.

use std::path::Path;

use overlane_core::{
    desired::{Desired, LocalPort},
    model::SecurityGroupId,
    security::{Remote, Traffic},
    topology::Topology,
};

const BASE: &str = r#"
[[hosts]]
name = "a"
local_ip = "10.1.0.1"
[[hosts]]
name = "b"
local_ip = "10.1.0.2"
[[networks]]
id = "971ffda2-e567-40a0-a2c8-b31a577fd4d3"
network_type = "vxlan"
segmentation_id = 10
"#;

fn id(number: u8) -> String {
    format!("{number:08x}-0000-4000-8000-000000000000")
}

fn port(number: u8, host: &str, more: &str) -> String {
    format!(
        "[[ports]]\nid = \"{}\"\nnetwork_id = \"971ffda2-e567-40a0-a2c8-b31a577fd4d3\"\nhost = \"{host}\"\n\
         mac_address = \"fa:16:3e:00:00:{number:02}\"\nfixed_ips = [\"10.0.0.{number}\"]\n{more}\n",
        id(number)
    )
}

fn group(number: u8, name: &str, rules: &[&str]) -> String {
    let rules = rules.iter().map(|rule| format!("[[security_groups.rules]]\n{}\n", rule.replace("; ", "\n")));
    format!("[[security_groups]]\nid = \"{}\"\nname = \"{name}\"\n{}", id(number), rules.collect::<String>())
}

fn parse(parts: &[String]) -> Result<Topology, Vec<String>> {
    let text = BASE.to_owned() + &parts.concat();
    Topology::parse(Path::new("t.toml"), &text).map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
}

fn desired(parts: &[String]) -> Desired {
    parse(parts).expect("valid").desired_for("a")
}

fn only_port(desired: &Desired) -> &LocalPort {
    desired.networks.values().flat_map(|network| network.local_ports.values()).next().expect("a port")
}

fn members(desired: &Desired, number: u8) -> Vec<String> {
    let group = &desired.rulebook.groups.security[&SecurityGroupId(id(number).parse().expect("valid"))];
    group.members.iter().map(ToString::to_string).collect()
}

#[test]
fn a_file_without_groups_holds_ports_to_their_addresses_only() {
    let desired = desired(&[port(1, "a", "")]);
    let filter = only_port(&desired).security.filter().expect("port security is on by default");
    assert_eq!(filter.groups, None);
    assert!(!desired.closed_by_default);
}

#[test]
fn a_port_that_names_no_group_has_the_default_one_and_one_with_an_empty_list_has_none() {
    let default = group(7, "default", &["direction = \"egress\""]);
    let groups_of = |more: &str| {
        let desired = desired(&[port(1, "a", more), default.clone()]);
        assert!(desired.closed_by_default);
        only_port(&desired).security.filter().expect("enforced").groups.clone().expect("there are groups")
    };
    assert_eq!(groups_of("").len(), 1);
    assert_eq!(groups_of("security_groups = []").len(), 0);
}

#[test]
fn port_security_follows_the_network_unless_the_port_says_otherwise_and_never_binds_the_networks_own_ports() {
    let is_enforced = |of_network: &str, more: &str| {
        let network = BASE.to_owned() + of_network + "\n";
        let text = network + &port(1, "a", more);
        let topology = Topology::parse(Path::new("t.toml"), &text).expect("valid");
        only_port(&topology.desired_for("a")).security.filter().is_some()
    };
    assert!(is_enforced("", ""));
    assert!(!is_enforced("port_security_enabled = false", ""));
    assert!(is_enforced("port_security_enabled = false", "port_security_enabled = true"));
    assert!(!is_enforced("", "port_security_enabled = false"));
    assert!(!is_enforced("", "device_owner = \"network:dhcp\""));
}

#[test]
fn members_of_a_group_are_the_addresses_of_its_ports_on_every_host() {
    let mine = format!("security_groups = [\"{}\"]", id(7));
    let pair = mine.clone() + "\nallowed_address_pairs = [{ ip_address = \"10.9.0.5/24\" }]";
    let rule = format!("direction = \"ingress\"; remote_group_id = \"{}\"", id(7));
    let desired = desired(&[
        port(1, "a", &mine),
        port(2, "b", &pair),
        port(3, "b", "security_groups = []"),
        group(7, "own", &[&rule]),
        group(8, "unused", &[]),
    ]);
    assert_eq!(members(&desired, 7), ["10.0.0.1/32", "10.0.0.2/32", "10.9.0.0/24"]);
    assert_eq!(desired.rulebook.groups.security.len(), 1, "a group that concerns no port of this host is here");
}

#[test]
fn rules_mean_what_neutron_means_by_them() {
    let meaning = |rule: &str| {
        let topology = parse(&[group(7, "g", &[rule])]).expect(rule);
        topology.security_groups[0].rules[0].rule.to_string()
    };
    for (rule, expected) in [
        ("direction = \"egress\"", "egress IPv4"),
        ("direction = \"egress\"; protocol = \"0\"", "egress IPv4"),
        (
            "direction = \"ingress\"; protocol = \"tcp\"; port_range_min = 80; port_range_max = 443",
            "ingress IPv4 tcp 80-443",
        ),
        (
            "direction = \"ingress\"; protocol = \"icmp\"; port_range_min = 0; port_range_max = 0",
            "ingress IPv4 icmp type 0 code 0",
        ),
        ("direction = \"ingress\"; protocol = \"icmp\"; port_range_min = 8", "ingress IPv4 icmp type 8"),
        ("direction = \"ingress\"; ethertype = \"IPv6\"; protocol = \"icmp\"", "ingress IPv6 ipv6-icmp"),
        (
            "direction = \"ingress\"; ethertype = \"IPv6\"; protocol = \"icmpv6\"; port_range_min = 128",
            "ingress IPv6 ipv6-icmp type 128",
        ),
        ("direction = \"egress\"; protocol = \"112\"", "egress IPv4 vrrp"),
        ("direction = \"ingress\"; remote_ip_prefix = \"10.0.0.7/24\"", "ingress IPv4 from 10.0.0.0/24"),
        ("direction = \"ingress\"; remote_ip_prefix = \"10.0.0.7\"", "ingress IPv4 from 10.0.0.7/32"),
        ("direction = \"ingress\"; ethertype = \"IPv6\"; remote_ip_prefix = \"::/0\"", "ingress IPv6"),
    ] {
        assert_eq!(meaning(rule), expected);
    }
    let rule = parse(&[group(7, "g", &["direction = \"egress\""])]).expect("valid").security_groups[0].rules[0].rule;
    assert_eq!((rule.traffic, rule.remote), (Traffic::Any, Remote::Any));
}

#[test]
fn a_group_may_name_itself() {
    let rule = format!("direction = \"ingress\"; remote_group_id = \"{}\"", id(7));
    assert!(parse(&[group(7, "g", &[&rule])]).is_ok());
}

#[test]
fn every_rule_that_contradicts_itself_is_refused_with_its_line() {
    for (rule, line, expected) in [
        ("direction = \"in\"", 1, "direction \"in\": expected ingress or egress"),
        ("protocol = \"tcp\"", 0, "the security group rule has no direction"),
        ("direction = \"egress\"; ethertype = \"ipv5\"", 2, "ethertype \"ipv5\": expected IPv4 or IPv6"),
        (
            "direction = \"egress\"; protocol = \"tpc\"",
            2,
            "protocol \"tpc\": expected a number from 0 to 255 or one of",
        ),
        ("direction = \"egress\"; protocol = \"256\"", 2, "protocol \"256\""),
        ("direction = \"egress\"; protocol = \"ipv6-icmp\"", 2, "protocol ipv6-icmp needs ethertype = \"IPv6\""),
        (
            "direction = \"egress\"; protocol = \"gre\"; port_range_min = 1; port_range_max = 2",
            3,
            "protocol gre has no ports",
        ),
        ("direction = \"egress\"; port_range_min = 1; port_range_max = 2", 0, "need a protocol that has ports"),
        (
            "direction = \"egress\"; protocol = \"tcp\"; port_range_min = 443; port_range_max = 80",
            3,
            "the range 443 to 80 is reversed",
        ),
        ("direction = \"egress\"; protocol = \"tcp\"; port_range_min = 443", 3, "port_range_max is missing"),
        (
            "direction = \"egress\"; protocol = \"tcp\"; port_range_min = 0; port_range_max = 65536",
            3,
            "expected a number from 1 to 65535",
        ),
        ("direction = \"egress\"; protocol = \"icmp\"; port_range_min = 256", 3, "expected a number from 0 to 255"),
        (
            "direction = \"egress\"; protocol = \"icmp\"; port_range_max = 0",
            3,
            "an ICMP code (port_range_max) needs an ICMP type",
        ),
        ("direction = \"egress\"; remote_ip_prefix = \"fd00::/8\"", 2, "remote_ip_prefix fd00::/8 in a rule for IPv4"),
        ("direction = \"egress\"; remote_ip_prefix = \"10.0.0.0/33\"", 2, "expected an address or a range"),
        (
            "direction = \"egress\"; remote_ip_prefix = \"10.0.0.0/8\"; remote_group_id = \"00000007-0000-4000-8000-000000000000\"",
            3,
            "one of remote_ip_prefix and remote_group_id, not both",
        ),
        (
            "direction = \"egress\"; remote_group_id = \"00000009-0000-4000-8000-000000000000\"",
            0,
            "is not among the security_groups",
        ),
        (
            "direction = \"egress\"; remote_address_group_id = \"00000009-0000-4000-8000-000000000000\"",
            0,
            "is not among the address_groups",
        ),
        ("direction = \"egress\"; priority = 5", 2, "unknown key \"priority\"; known for this security group rule: "),
    ] {
        let problems = parse(&[group(7, "g", &[rule])]).expect_err(rule);
        // The rule's table is the last thing before its fields.
        let table = BASE.lines().count() + 4;
        let place = format!("t.toml:{}: ", table + line);
        let is_expected = |problem: &String| problem.starts_with(&place) && problem.contains(expected);
        assert!(problems.iter().any(is_expected), "{rule}: {place}{expected} is not in {problems:#?}");
    }
}

#[test]
fn groups_and_ports_that_do_not_fit_together_are_refused() {
    let refused = |parts: &[String], expected: &str| {
        let problems = parse(parts).expect_err(expected);
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected} is not in {problems:#?}");
    };
    let mine = format!("security_groups = [\"{}\"]", id(7));
    refused(&[port(1, "a", &mine)], "is not among the security_groups");
    let off = mine.clone() + "\nport_security_enabled = false";
    refused(&[port(1, "a", &off), group(7, "g", &[])], "its port security is off");
    let own = mine + "\ndevice_owner = \"network:dhcp\"";
    refused(&[port(1, "a", &own), group(7, "g", &[])], "network: ports are open");
    refused(&[group(7, "g", &[]), group(7, "h", &[])], "security group id");
    refused(&[group(7, "default", &[]), group(8, "default", &[])], "security group name default");
    refused(
        &[group(7, "g", &["direction = \"egress\""]).replace("name", "log = \"some\"\nname")],
        "expected off, accept",
    );
    let multicast = "allowed_address_pairs = [{ ip_address = \"10.0.0.9\", mac_address = \"01:00:5e:00:00:01\" }]";
    refused(&[port(1, "a", multicast)], "expected the address of one interface");
}
