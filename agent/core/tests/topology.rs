//! Topology files: what they mean for a host, and every problem at once.

use std::{net::IpAddr, path::Path};

use overlane_core::{
    config::{Config, SystemDefaults},
    model::{Mac, NetworkId},
    oslo_ini::Settings,
    topology::Topology,
};

const HOSTS: &str =
    "[[hosts]]\nname = \"a\"\nlocal_ip = \"10.1.0.1\"\n[[hosts]]\nname = \"b\"\nlocal_ip = \"10.1.0.2\"\n";
const NETWORK_ID: &str = "971ffda2-e567-40a0-a2c8-b31a577fd4d3";

fn network() -> String {
    format!(
        "[[networks]]\nid = \"{NETWORK_ID}\"\nname = \"n\"\nnetwork_type = \"vxlan\"\nsegmentation_id = 10\n\
         [[networks.subnets]]\ncidr = \"10.0.0.0/24\"\n"
    )
}

fn port(number: u8, more: &str) -> String {
    format!(
        "[[ports]]\nid = \"000000{number:02}-0000-4000-8000-000000000000\"\nnetwork_id = \"{NETWORK_ID}\"\n\
         mac_address = \"fa:16:3e:00:00:{number:02}\"\n{more}\n"
    )
}

fn parse(text: &str) -> Result<Topology, Vec<String>> {
    Topology::parse(Path::new("t.toml"), text).map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("valid")
}

#[test]
fn a_host_learns_its_own_ports_and_where_the_others_are() {
    let ports = [
        port(1, "host = \"a\"\nfixed_ips = [\"10.0.0.1\"]\ndevice_owner = \"network:router_interface\""),
        port(2, "host = \"b\"\nfixed_ips = [\"10.0.0.2\"]"),
        port(3, "fixed_ips = [\"10.0.0.3\"]"),
    ];
    let desired = parse(&(HOSTS.to_owned() + &network() + &ports.concat())).expect("valid").desired_for("a");
    assert!(desired.complete);
    assert_eq!(desired.vteps, [address("10.1.0.2")].into());
    let id = NetworkId(NETWORK_ID.parse().expect("valid"));
    let network = &desired.networks[&id];
    assert_eq!(network.local_ports.len(), 1);
    let remote: Mac = "fa:16:3e:00:00:02".parse().expect("valid");
    assert_eq!(network.remote_macs, [(remote, address("10.1.0.2"))].into());
    assert_eq!(network.flood, [address("10.1.0.2")].into());
    // The unbound port answers nothing; the router's port says what it is.
    assert_eq!(network.neighbors.len(), 2);
    assert!(network.neighbors[&address("10.0.0.1")].is_router);
    assert!(!network.neighbors[&address("10.0.0.2")].is_router);
}

#[test]
fn a_network_without_a_port_on_a_host_does_not_concern_it() {
    let text = HOSTS.to_owned() + &network() + &port(1, "host = \"b\"");
    assert!(parse(&text).expect("valid").desired_for("a").networks.is_empty());
}

#[test]
fn an_address_in_anybodys_allowed_address_pairs_has_no_known_owner() {
    let pair = "allowed_address_pairs = [{ ip_address = \"10.0.0.0/30\" }]";
    let ports = [
        port(1, &format!("host = \"a\"\nfixed_ips = [\"10.0.0.1\"]\n{pair}")),
        port(2, "host = \"b\"\nfixed_ips = [\"10.0.0.2\"]"),
        port(9, "host = \"b\"\nfixed_ips = [\"10.0.0.9\"]"),
    ];
    let desired = parse(&(HOSTS.to_owned() + &network() + &ports.concat())).expect("valid").desired_for("a");
    let neighbors: Vec<&IpAddr> = desired.networks.values().flat_map(|network| network.neighbors.keys()).collect();
    assert_eq!(neighbors, [&address("10.0.0.9")]);
}

#[test]
fn what_does_not_fit_together_is_reported_with_its_line() {
    let twin = "[[hosts]]\nname = \"a\"\nlocal_ip = \"10.1.0.2\"\n";
    let ports = [
        port(1, "host = \"c\"\nfixed_ips = [\"10.9.0.1\"]"),
        port(1, "host = \"a\""),
        port(2, "host = \"a\"\nfixed_ips = [\"10.0.0.5\"]"),
        port(3, "host = \"a\"\nfixed_ips = [\"10.0.0.5\"]"),
    ];
    let problems = parse(&(HOSTS.to_owned() + twin + &network() + &ports.concat())).expect_err("invalid");
    for expected in [
        "t.toml:7: ",
        "host \"c\" is not among the hosts: a, b",
        "fixed IP 10.9.0.1 is in no subnet of network n",
        "10.0.0.5",
        "00000001-0000-4000-8000-000000000000",
        "fa:16:3e:00:00:01",
    ] {
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected} is not in {problems:#?}");
    }
}

#[test]
fn two_taps_of_one_name_are_refused() {
    // Device names hold only the beginning of an id.
    let twin = port(1, "host = \"a\"").replace("000000000000", "000000000001").replace("00:00:01", "00:00:02");
    let text = HOSTS.to_owned() + &network() + &port(1, "host = \"a\"") + &twin;
    let problems = parse(&text).expect_err("invalid");
    assert!(problems[0].contains("tap name") && problems.len() == 1, "{problems:?}");
}

#[test]
fn what_is_not_toml_is_reported_with_its_line() {
    let problems = parse("[[hosts]]\nname = \n").expect_err("invalid");
    assert!(problems.iter().any(|problem| problem.starts_with("t.toml:2: ")), "{problems:?}");
}

#[test]
fn every_type_error_is_reported() {
    let text = "[[hosts]]\nname = 1\nlocal_ip = \"0.0.0.0\"\n[[ports]]\nid = \"x\"\nfixed_ips = \"10.0.0.1\"\n";
    let problems = parse(text).expect_err("invalid");
    for line in [2, 3, 5, 6] {
        let prefix = format!("t.toml:{line}: ");
        assert!(problems.iter().any(|problem| problem.starts_with(&prefix)), "{prefix} is not in {problems:#?}");
    }
}

fn vlan(number: u8, physical_network: &str, vid: u32) -> String {
    format!(
        "[[networks]]\nid = \"000000{number:02}-0000-4000-8000-000000000000\"\nnetwork_type = \"vlan\"\n\
         physical_network = \"{physical_network}\"\nsegmentation_id = {vid}\n"
    )
}

#[test]
fn a_vlan_needs_a_physical_network_and_a_vid_that_is_used_once_on_it() {
    let good = HOSTS.to_owned() + &vlan(1, "p", 1) + &vlan(2, "p", 4094) + &vlan(3, "q", 1);
    let segments: Vec<String> =
        parse(&good).expect("valid").networks.iter().map(|network| network.segment.to_string()).collect();
    assert_eq!(segments, ["vlan p 1", "vlan p 4094", "vlan q 1"]);
    let without_network = vlan(4, "p", 2).replace("physical_network = \"p\"\n", "");
    let without_vid = vlan(4, "p", 2).replace("segmentation_id = 2\n", "");
    for (bad, expected) in [
        (vlan(4, "p", 0), "segmentation_id: expected a number from 1 to 4094"),
        (vlan(4, "p", 4095), "segmentation_id: expected a number from 1 to 4094"),
        (without_network, "the network has no physical_network"),
        (without_vid, "the network has no segmentation_id"),
        (vlan(4, "p", 4094), "segmentation_id 4094 of p is used in line 12 already"),
    ] {
        let problems = parse(&(good.clone() + &bad)).expect_err("invalid");
        assert!(problems.len() == 1 && problems[0].contains(expected), "{problems:?}");
    }
}
fn config(text: &str) -> Config {
    let mut settings = Settings::default();
    let text = format!("[DEFAULT]\nhost = a\n[overlane]\ntopology = t.toml\n[vxlan]\n{text}");
    assert_eq!(settings.add_file(Path::new("o.conf"), &text), []);
    Config::from_settings(&settings, &SystemDefaults::default()).expect("valid").0
}

#[test]
fn networks_that_cannot_work_with_the_configuration_are_reported_with_their_line() {
    const TUNNELS: &str = "local_ip = 10.1.0.1\n";
    let flat = "[[networks]]\nid = \"22222222-0000-4000-8000-000000000000\"\nnetwork_type = \"flat\"\n\
                physical_network = \"provider\"\n";
    let flat_port = port(9, "host = \"a\"").replace(NETWORK_ID, "22222222-0000-4000-8000-000000000000");
    let text = HOSTS.to_owned() + &network() + flat + &port(1, "host = \"a\"") + &flat_port;
    let bridge = NetworkId(NETWORK_ID.parse().expect("valid")).bridge_name();
    for (configuration, expected) in [
        (format!("{TUNNELS}[linux_bridge]\nbridge_mappings = provider:br-ex"), None),
        (TUNNELS.to_owned(), Some("t.toml:14: … physical network \"provider\" is neither in")),
        (
            format!("{TUNNELS}[linux_bridge]\nbridge_mappings = provider:{bridge}"),
            Some("t.toml:14: … device brq971ffda2-e5 is used in line 7 already"),
        ),
        (
            "enable_vxlan = false\n[linux_bridge]\nbridge_mappings = provider:br-ex".to_owned(),
            Some("t.toml:7: … network n is vxlan 10: [vxlan] enable_vxlan is false"),
        ),
    ] {
        let problems = parse(&text).expect("valid").check_segments(&config(&configuration));
        let problems: Vec<String> = problems.err().into_iter().flat_map(|p| p.0).map(|p| p.to_string()).collect();
        let found = |expected: &str| expected.split(" … ").all(|part| problems.iter().any(|p| p.contains(part)));
        assert!(expected.is_none_or(found), "{configuration}: {problems:#?}");
        assert_eq!(problems.len(), usize::from(expected.is_some()), "{configuration}: {problems:#?}");
    }
}

#[test]
fn a_tunnel_endpoint_of_another_family_or_address_than_the_configured_one_is_refused() {
    let topology = parse(HOSTS).expect("valid");
    for (local_ip, expected) in [
        ("10.1.0.1", None),
        ("10.1.0.9", Some("t.toml:1: host a has local_ip 10.1.0.1 here, but 10.1.0.9 in [vxlan] local_ip")),
        ("fd00::1", Some("t.toml:1: host a has local_ip 10.1.0.1 here, but fd00::1 in [vxlan] local_ip")),
    ] {
        let problems = topology.check_host("a", Some(address(local_ip))).err();
        assert_eq!(problems.map(|problems| problems.to_string()).as_deref(), expected);
    }
    let mixed = HOSTS.replace("10.1.0.2", "fd00::2");
    let problems = parse(&mixed).expect_err("invalid");
    assert!(problems[0].starts_with("t.toml:4: local_ip fd00::2 and 10.1.0.1 of host a are of different families"));
}
