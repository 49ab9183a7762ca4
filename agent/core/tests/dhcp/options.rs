//! What machines are told.

use overlane_core::services::dhcp::metadata_places;

use crate::{
    NAMESPACE, SUBNET, cloud, config, dhcp_port, file, namespace, namespace_with, parse, port, problems, router_port,
    subnet,
};

fn one_subnet(more: &str, ports: &[String]) -> String {
    cloud(&subnet("10.0.0.0/24", &format!("id = \"{SUBNET}\"\n{more}")), ports)
}

/// Without what every line begins with.
fn opts(text: &str, options: &str) -> Vec<String> {
    let namespace = namespace_with(text, options);
    file(&namespace, "opts").lines().map(|line| line.replace(&format!("tag:subnet-{SUBNET},"), "")).collect()
}

#[test]
fn with_a_router_metadata_is_behind_the_gateway() {
    let text = one_subnet("gateway_ip = \"10.0.0.1\"", &[dhcp_port(&["10.0.0.10"]), router_port(&["10.0.0.1"])]);
    let routes = "169.254.169.254/32,10.0.0.1,0.0.0.0/0,10.0.0.1";
    assert_eq!(
        opts(&text, ""),
        [
            format!("option:classless-static-route,{routes}"),
            format!("249,{routes}"),
            "option:router,10.0.0.1".to_owned()
        ]
    );
    assert_eq!(metadata_places(&parse(&text), &config("a", "")), []);
}

#[test]
fn without_a_router_metadata_is_at_the_dhcp_server_which_has_its_addresses() {
    let text = one_subnet("gateway_ip = \"10.0.0.1\"", &[dhcp_port(&["10.0.0.10"])]);
    let routes = "169.254.169.254/32,10.0.0.10,0.0.0.0/0,10.0.0.1";
    assert_eq!(opts(&text, "")[0], format!("option:classless-static-route,{routes}"));
    let addresses: Vec<String> =
        namespace(&text).links["ns-00000010-00"].addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.10/24", "169.254.169.254/32", "fe80::a9fe:a9fe/64"]);
    let places = metadata_places(&parse(&text), &config("a", ""));
    assert_eq!(
        (places[0].namespace.as_str(), places[0].link.as_str(), places[0].addresses.len()),
        (NAMESPACE, "ns-00000010-00", 2)
    );
    assert_eq!(opts(&text, "enable_isolated_metadata = False"), ["option:router,10.0.0.1"]);
}

#[test]
fn metadata_at_the_dhcp_server_can_be_forced() {
    let text = one_subnet("gateway_ip = \"10.0.0.1\"", &[dhcp_port(&["10.0.0.10"]), router_port(&["10.0.0.1"])]);
    assert!(opts(&text, "force_metadata = True")[0].contains("169.254.169.254/32,10.0.0.10,"));
    // The router has the address of IPv6.
    assert_eq!(metadata_places(&parse(&text), &config("a", "force_metadata = True"))[0].addresses.len(), 1);
}

#[test]
fn a_subnet_without_a_gateway_names_no_router() {
    assert_eq!(
        opts(&one_subnet("", &[dhcp_port(&["10.0.0.10"])]), "enable_isolated_metadata = False"),
        ["option:router"]
    );
}

#[test]
fn host_routes_and_the_other_subnets_are_static_routes() {
    let routes = "host_routes = [{ destination = \"192.0.2.0/24\", nexthop = \"10.0.0.7\" }]";
    let subnets = subnet("10.0.0.0/24", &format!("id = \"{SUBNET}\"\ngateway_ip = \"10.0.0.1\"\n{routes}"))
        + &subnet("11.0.0.0/24", "enable_dhcp = false")
        + &subnet("fd00::/64", "enable_dhcp = false");
    let text = cloud(&subnets, &[dhcp_port(&["10.0.0.10"]), router_port(&["10.0.0.1"])]);
    let expected = "192.0.2.0/24,10.0.0.7,169.254.169.254/32,10.0.0.1,11.0.0.0/24,0.0.0.0,0.0.0.0/0,10.0.0.1";
    assert_eq!(opts(&text, "")[..2], [format!("option:classless-static-route,{expected}"), format!("249,{expected}")]);
}

#[test]
fn a_default_among_the_host_routes_is_the_gateway_of_a_subnet_that_has_none() {
    let routes = "host_routes = [{ destination = \"0.0.0.0/0\", nexthop = \"10.0.0.9\" }]";
    let opts = opts(&one_subnet(routes, &[dhcp_port(&["10.0.0.10"])]), "enable_isolated_metadata = False");
    assert_eq!(opts, ["option:router,10.0.0.9"]);
}

#[test]
fn name_servers_are_the_subnets_own_or_none_or_all_dhcp_servers() {
    let no_metadata = "enable_isolated_metadata = False";
    let first = |more: &str, ports: &[String]| opts(&one_subnet(more, ports), no_metadata)[0].clone();
    let one = [dhcp_port(&["10.0.0.10"])];
    assert_eq!(
        first("dns_nameservers = [\"192.0.2.1\", \"192.0.2.2\"]", &one),
        "option:dns-server,192.0.2.1,192.0.2.2"
    );
    assert_eq!(first("dns_nameservers = [\"0.0.0.0\"]", &one), "option:dns-server");
    let another = port(11, &["10.0.0.11"], "host = \"b\"\ndevice_owner = \"network:dhcp\"");
    assert_eq!(first("", &[one[0].clone(), another]), "option:dns-server,10.0.0.10,10.0.0.11");
}

#[test]
fn extra_options_are_for_their_port_only() {
    let options = "extra_dhcp_opts = [{ opt_name = \"ntp-server\", opt_value = \"192.0.2.7\" }, \
                   { opt_name = \"42\", opt_value = \"192.0.2.8\" }, { opt_name = \"client-id\", opt_value = \"01:02\" }, \
                   { opt_name = \"dns-server\", opt_value = \"[fd00::1]\", ip_version = 6 }]";
    let text = one_subnet("", &[dhcp_port(&["10.0.0.10"]), port(21, &["10.0.0.21"], options)]);
    let namespace = namespace_with(&text, "enable_isolated_metadata = False");
    let tag = "port-00000021-0000-4000-8000-000000000000";
    // Its option of IPv6 concerns nobody: it has no such address.
    assert_eq!(
        file(&namespace, "opts"),
        format!("tag:subnet-{SUBNET},option:router\ntag:{tag},option:ntp-server,192.0.2.7\ntag:{tag},42,192.0.2.8\n")
    );
    let expected = format!("fa:16:3e:00:00:21,id:01:02,host-10-0-0-21.openstacklocal,10.0.0.21,set:{tag}\n");
    assert!(file(&namespace, "host").contains(&expected), "{}", file(&namespace, "host"));
}

#[test]
fn an_option_that_dnsmasq_would_not_understand_is_reported() {
    let option = |name: &str, value: &str, more: &str| {
        let options = format!("extra_dhcp_opts = [{{ opt_name = \"{name}\", opt_value = \"{value}\"{more} }}]");
        problems(&one_subnet("", &[port(21, &["10.0.0.21"], &options)]))
    };
    let unknown = option("no-such-option", "1", "");
    assert!(unknown[0].contains("dnsmasq --help dhcp)"), "{unknown:?}");
    let other_family = option("sip-server-domain", "1", "");
    assert!(other_family[0].contains("opt_name"), "{other_family:?}");
    assert!(option("client-id", "01,10.0.0.9", "")[0].contains("a client-id has no commas"));
    assert!(option("300", "1", "")[0].contains("or its number"));
}

#[test]
fn a_domain_that_is_none_is_reported() {
    let text = one_subnet("", &[]).replace("segmentation_id", "dns_domain = \"a b\"\nsegmentation_id");
    assert_eq!(problems(&text), ["t.toml:12: dns_domain \"a b\": expected a domain name"]);
}
