//! What a topology's routers come to: the reference deployment's whole, and what differs.

mod connections;
mod replicated;

use std::{collections::BTreeMap, path::Path};

use overlane_core::{
    config::{Config, SystemDefaults},
    oslo_ini::Settings,
    services::{NamespaceSpec, Services},
    topology::Topology,
};

const REFERENCE: &str = include_str!("reference.toml");
const NAMESPACE: &str = "qrouter-39a77439-8a28-49c1-bf97-ac931510631b";

fn config(host: &str) -> Config {
    let mut settings = Settings::default();
    let text = format!("[DEFAULT]\nhost = {host}\n[vxlan]\nlocal_ip = 10.10.10.10\n[overlane]\ntopology = t.toml\n");
    assert_eq!(settings.add_file(Path::new("overlane.conf"), &text), []);
    Config::from_settings(&settings, &SystemDefaults::default()).expect("valid").0
}

fn services(text: &str, host: &str) -> BTreeMap<String, NamespaceSpec> {
    let topology = Topology::parse(Path::new("t.toml"), text).expect("valid");
    Services::of(&topology, &config(host)).namespaces
}

fn router(text: &str) -> NamespaceSpec {
    services(text, "controller").remove(NAMESPACE).expect("the router is there")
}

/// Takes out one table that begins with a line, up to the next empty line.
fn without(text: &str, part: &str) -> String {
    let kept: Vec<&str> = text.split("\n\n").filter(|table| !table.contains(part)).collect();
    kept.join("\n\n")
}

#[test]
fn the_reference_router_has_the_links_of_its_picture() {
    let links = router(REFERENCE).links;
    let seen: Vec<String> = links
        .iter()
        .map(|(name, link)| {
            let addresses: Vec<String> = link.addresses.iter().map(ToString::to_string).collect();
            format!("{name} {} {} {} {}", link.tap(), link.mac, link.mtu, addresses.join(" "))
        })
        .collect();
    assert_eq!(
        seen,
        [
            "qg-e09fce07-cd tape09fce07-cd fa:16:3e:77:78:86 1500 \
             10.62.227.151/24 10.62.227.160/32 10.62.228.161/32 2001:db8:62::151/64",
            "qr-0bb8efeb-10 tap0bb8efeb-10 fa:16:3e:9f:18:a9 1400 20.0.0.1/24 2001:db8:20::1/64 fe80::a9fe:a9fe/64",
            "qr-124ff148-b7 tap124ff148-b7 fa:16:3e:12:4f:f1 1500 10.62.228.1/24 fe80::a9fe:a9fe/64",
            "qr-16d9b0cc-38 tap16d9b0cc-38 fa:16:3e:16:d9:b0 1450 11.0.0.1/24 fe80::a9fe:a9fe/64",
            "qr-b1eaae00-e5 tapb1eaae00-e5 fa:16:3e:81:1b:37 1450 10.0.0.1/24 fe80::a9fe:a9fe/64",
        ]
    );
    assert!(links.values().all(|link| link.announces));
}

#[test]
fn the_reference_router_has_the_routes_of_its_table() {
    let routes: Vec<String> =
        router(REFERENCE).routes.iter().map(|(destination, route)| format!("{destination} {route}")).collect();
    assert_eq!(
        routes,
        [
            "0.0.0.0/0 via 10.62.227.1 on qg-e09fce07-cd",
            "10.62.228.0/24 on qg-e09fce07-cd",
            "12.0.0.0/24 on qr-b1eaae00-e5",
            "172.16.0.0/16 via 10.0.0.7 on qr-b1eaae00-e5 and via 20.0.0.7 on qr-0bb8efeb-10",
            "172.17.0.0/16 via 10.62.228.9 on qr-124ff148-b7",
            "::/0 via 2001:db8:62::1 on qg-e09fce07-cd",
        ]
    );
}

#[test]
fn the_reference_router_has_the_parameters_of_neutrons() {
    let sysctls: Vec<String> =
        router(REFERENCE).sysctls.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        sysctls,
        [
            "net/ipv4/conf/all/arp_announce=2",
            "net/ipv4/conf/all/arp_ignore=1",
            "net/ipv4/conf/all/promote_secondaries=1",
            "net/ipv4/ip_forward=1",
            "net/ipv6/conf/all/forwarding=1",
            "net/ipv6/conf/default/accept_dad=0",
            "net/ipv6/conf/default/addr_gen_mode=0",
            "net/ipv6/conf/qg-e09fce07-cd/accept_ra=0",
            "net/ipv6/conf/qg-e09fce07-cd/forwarding=1",
        ]
    );
}

#[test]
fn the_reference_routers_table_is_what_nft_has_been_shown_to_load() {
    let ruleset = router(REFERENCE).ruleset.expect("routers have one");
    assert_eq!(ruleset.table, "overlane");
    let found: serde_json::Value = serde_json::from_str(&ruleset.json).expect("JSON");
    let found = found["nftables"].as_array().expect("a list").iter().map(ToString::to_string).collect::<Vec<_>>();
    let wanted: Vec<&str> = include_str!("reference.nft.jsonl").lines().collect();
    assert_eq!(found, wanted, "{}", found.join("\n"));
}

#[test]
fn a_router_advertises_the_networks_that_say_how() {
    let processes = router(REFERENCE).processes;
    let (name, radvd) = processes.first_key_value().expect("one");
    assert_eq!(name.to_string(), "radvd of 39a77439-8a28-49c1-bf97-ac931510631b");
    assert_eq!(radvd.files["radvd.conf"].text, include_str!("radvd.conf"));
    let modes = [("dhcpv6-stateful", "AdvManagedFlag on"), ("dhcpv6-stateless", "AdvOtherConfigFlag on")];
    for (mode, expected) in modes {
        let text = REFERENCE.replace("\"slaac\"", &format!("\"{mode}\""));
        let text = router(&text).processes.into_values().next().expect("one").files["radvd.conf"].text.clone();
        assert!(text.contains(expected), "{text}");
        assert_eq!(text.contains("AdvAutonomous off"), mode == "dhcpv6-stateful", "{text}");
    }
    let silent = REFERENCE.replace("ipv6_ra_mode = \"slaac\"\n", "");
    assert!(router(&silent).processes.is_empty());
}

#[test]
fn a_router_is_where_it_should_be_and_nowhere_else() {
    assert!(services(REFERENCE, "compute1").is_empty());
    let off = REFERENCE.replace("name = \"router\"\n", "name = \"router\"\nadmin_state_up = false\n");
    assert!(services(&off, "controller").is_empty());
}

#[test]
fn a_port_that_is_switched_off_has_no_link_and_what_it_leads_to_no_route() {
    let off = REFERENCE.replace("fixed_ips = [\"20.0.0.1\", ", "admin_state_up = false\nfixed_ips = [\"20.0.0.1\", ");
    let router = router(&off);
    assert!(!router.links.contains_key("qr-0bb8efeb-10"));
    assert!(router.routes.values().flat_map(|route| &route.next_hops).all(|hop| hop.link != "qr-0bb8efeb-10"));
    assert!(router.processes.is_empty());
}

#[test]
fn a_router_without_a_gateway_translates_nothing() {
    let text = without(&without(REFERENCE, "network:router_gateway"), "floating_ip_address");
    // A route by way of the external network remains: one of its subnets is inside.
    let router = router(&text);
    assert_eq!(router.routes.keys().next().map(ToString::to_string).as_deref(), Some("10.62.227.0/24"));
    let ruleset = router.ruleset.expect("for the metadata service");
    assert!(!ruleset.json.contains("snat") && ruleset.json.contains("redirect"), "{}", ruleset.json);
}

#[test]
fn without_snat_machines_keep_their_addresses_outside_unless_they_have_a_floating_ip() {
    let text = REFERENCE.replace("name = \"router\"\n", "name = \"router\"\nenable_snat = false\n");
    let ruleset = router(&text).ruleset.expect("routers have one");
    let rules = |json: &str| json.matches("\"snat\"").count();
    // Floating IPs, and calls of them from inside.
    assert_eq!(rules(&ruleset.json), 2);
    let usual = router(REFERENCE).ruleset.expect("routers have one");
    assert_eq!(rules(&usual.json), 3);
    assert_ne!(ruleset.fingerprint(), usual.fingerprint());
}

#[test]
fn without_a_router_of_ipv6_in_the_file_the_gateway_listens_for_one() {
    let text = REFERENCE.replace("gateway_ip = \"2001:db8:62::1\"\n", "");
    assert_eq!(router(&text).sysctls["net/ipv6/conf/qg-e09fce07-cd/accept_ra"], "2");
}
