//! From the server's security group rules to rules that cannot contradict themselves.

use overlane_core::neutron::messages::{parse, security::SecurityRule};
use serde_json::{Value, json};

fn rule(more: &Value) -> Result<String, String> {
    let mut fields = json!({ "direction": "ingress", "ethertype": "IPv4" });
    fields.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let rule: SecurityRule = parse(fields).expect("the form of a rule");
    rule.rule().map(|rule| rule.to_string()).map_err(|error| error.to_string())
}

#[test]
fn a_rule_is_what_its_fields_say() {
    let group = "7758f993-c8f9-45b7-b099-da72c790f6ec";
    let described = |more: Value| rule(&more).expect("a rule");
    assert_eq!(described(json!({})), "ingress IPv4");
    assert_eq!(described(json!({ "protocol": "0", "port_range_min": 1 })), "ingress IPv4");
    assert_eq!(described(json!({ "protocol": "112" })), "ingress IPv4 vrrp");
    assert_eq!(
        described(
            json!({ "protocol": "tcp", "port_range_min": 80, "port_range_max": 443, "source_ip_prefix": "203.0.113.9/24" })
        ),
        "ingress IPv4 tcp 80-443 from 203.0.113.0/24"
    );
    assert_eq!(described(json!({ "protocol": 6, "port_range_min": 22 })), "ingress IPv4 tcp 22");
    assert_eq!(
        described(json!({ "protocol": "icmp", "port_range_min": 8, "port_range_max": 0 })),
        "ingress IPv4 icmp type 8 code 0"
    );
    assert_eq!(
        described(json!({ "ethertype": "IPv6", "protocol": "icmp", "port_range_min": 0 })),
        "ingress IPv6 ipv6-icmp type 0"
    );
    assert_eq!(described(json!({ "remote_group_id": group })), format!("ingress IPv4 from group {group}"));
    assert_eq!(
        described(json!({ "direction": "egress", "dest_ip_prefix": "0.0.0.0/0", "source_ip_prefix": "10.0.0.0/8" })),
        "egress IPv4"
    );
    assert_eq!(
        described(json!({ "direction": "egress", "remote_address_group_id": group })),
        format!("egress IPv4 to address group {group}")
    );
}

#[test]
fn a_rule_that_contradicts_itself_is_refused_with_its_field() {
    let refused = |more: Value| rule(&more).expect_err("refused");
    assert_eq!(refused(json!({ "direction": "up" })), "direction: expected ingress or egress, as the machine sees it");
    assert_eq!(refused(json!({ "ethertype": "ARP" })), "ethertype: expected IPv4 or IPv6");
    assert!(refused(json!({ "protocol": "300" })).starts_with("protocol: \"300\": expected a number"));
    assert_eq!(
        refused(json!({ "protocol": "tcp", "port_range_min": 5, "port_range_max": 4 })),
        "port_range_min: 5 to 4 is no range of ports"
    );
    assert_eq!(
        refused(json!({ "protocol": "tcp", "port_range_min": 70_000 })),
        "port_range_min: 70000 to 70000 is no range of ports"
    );
    assert_eq!(refused(json!({ "protocol": "gre", "port_range_min": 1 })), "port_range_min: protocol gre has no ports");
    assert_eq!(
        refused(json!({ "protocol": "icmp", "port_range_max": 1 })),
        "port_range_min: missing: an ICMP code needs an ICMP type"
    );
    assert_eq!(refused(json!({ "source_ip_prefix": "fd00::/8" })), "source_ip_prefix: fd00::/8 in a rule for IPv4");
}
