//! Which connections outlive a change of a router's table.

use std::net::{IpAddr, SocketAddr};

use overlane_core::services::{Connection, Translations};

use super::{REFERENCE, router, without};

const TCP: u8 = 6;
const UDP: u8 = 17;
const OUTSIDE: &str = "192.0.2.1:9";

fn connection(protocol: u8, source: &str, destination: &str, answerer: &str, answered: &str) -> Connection {
    let end = |text: &str| text.parse::<SocketAddr>().expect("valid");
    let address = |text: &str| text.parse::<IpAddr>().expect("valid");
    Connection {
        protocol,
        source: address(source),
        destination: end(destination),
        answerer: end(answerer),
        answered: address(answered),
    }
}

fn translations(text: &str) -> Translations {
    router(text).ruleset.expect("routers have one").translations
}

#[test]
fn what_the_table_would_translate_the_same_way_goes_on() {
    let table = translations(REFERENCE);
    for kept in [
        // Between two networks of the router, and of IPv6.
        connection(TCP, "10.0.0.21", "20.0.0.22:80", "20.0.0.22:80", "10.0.0.21"),
        connection(TCP, "2001:db8::1", "[2001:db8:20::22]:80", "[2001:db8:20::22]:80", "2001:db8::1"),
        // To the outside, by the floating IP or, begun before there was one, in the gateway's name.
        connection(TCP, "10.0.0.21", OUTSIDE, OUTSIDE, "10.62.227.160"),
        connection(TCP, "10.0.0.21", OUTSIDE, OUTSIDE, "10.62.227.151"),
        // From the outside, and from inside with both ends translated.
        connection(TCP, "192.0.2.1", "10.62.227.160:22", "10.0.0.21:22", "192.0.2.1"),
        connection(TCP, "20.0.0.22", "10.62.227.160:22", "10.0.0.21:22", "10.62.227.151"),
        connection(TCP, "10.0.0.21", "10.62.227.160:22", "10.0.0.21:22", "10.62.227.160"),
        // By a forwarded port.
        connection(TCP, "192.0.2.1", "10.62.228.161:2222", "20.0.0.22:22", "192.0.2.1"),
        connection(UDP, "192.0.2.1", "10.62.228.161:53", "20.0.0.22:5353", "192.0.2.1"),
        // To the metadata service, wherever that is.
        connection(TCP, "10.0.0.21", "169.254.169.254:80", "10.0.0.1:9697", "10.0.0.21"),
        connection(TCP, "fe80::1", "[fe80::a9fe:a9fe]:80", "[fe80::2]:9697", "fe80::1"),
    ] {
        assert!(table.hold_for(&kept), "{kept:?}");
    }
}

#[test]
fn what_it_would_translate_in_another_way_is_cut() {
    let table = translations(REFERENCE);
    for cut in [
        // Floating IPs that are nobody's any more, or somebody else's.
        connection(TCP, "192.0.2.1", "10.62.227.162:22", "10.0.0.21:22", "192.0.2.1"),
        connection(TCP, "192.0.2.1", "10.62.227.160:22", "20.0.0.22:22", "192.0.2.1"),
        connection(TCP, "10.0.0.21", OUTSIDE, OUTSIDE, "10.62.227.162"),
        connection(TCP, "20.0.0.22", OUTSIDE, OUTSIDE, "10.62.227.160"),
        // Ports that lead elsewhere, or by the other protocol.
        connection(TCP, "192.0.2.1", "10.62.228.161:2222", "20.0.0.22:23", "192.0.2.1"),
        connection(UDP, "192.0.2.1", "10.62.228.161:2222", "20.0.0.22:22", "192.0.2.1"),
        // Begun before the address was translated at all.
        connection(UDP, "192.0.2.1", "10.62.227.160:53", "10.62.227.160:53", "192.0.2.1"),
        // In the name of a gateway that has another address now.
        connection(TCP, "20.0.0.22", OUTSIDE, OUTSIDE, "10.62.227.150"),
    ] {
        assert!(!table.hold_for(&cut), "{cut:?}");
    }
}

#[test]
fn without_snat_nobody_speaks_in_the_gateways_name_but_callers_of_floating_ips() {
    let table = translations(&REFERENCE.replace("name = \"router\"\n", "name = \"router\"\nenable_snat = false\n"));
    assert!(!table.hold_for(&connection(TCP, "20.0.0.22", OUTSIDE, OUTSIDE, "10.62.227.151")));
    assert!(table.hold_for(&connection(TCP, "20.0.0.22", "10.62.227.160:22", "10.0.0.21:22", "10.62.227.151")));
}

#[test]
fn without_a_gateway_only_plain_connections_go_on() {
    let text = without(&without(REFERENCE, "network:router_gateway"), "floating_ip_address");
    let table = translations(&text);
    assert!(!table.hold_for(&connection(TCP, "20.0.0.22", OUTSIDE, OUTSIDE, "10.62.227.151")));
    assert!(table.hold_for(&connection(TCP, "10.0.0.21", "20.0.0.22:80", "20.0.0.22:80", "10.0.0.21")));
}
