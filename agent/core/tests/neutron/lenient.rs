//! What servers of other releases may leave out or write differently, and what one broken entry costs.

use overlane_core::neutron::messages::{
    Entries, MessageError, Table,
    devices::DeviceDetails,
    fdb::{FdbEntries, FdbUpdate},
    objects::QosRule,
    parse,
    resources::Resource,
    security::{Members, SecurityDevice, SecurityRule},
};
use serde_json::{Value, json};

const PORT: &str = "e960c5d6-80e6-4726-a83b-a98c42d976df";
const NETWORK: &str = "714d437e-b1ae-45d6-b8a9-5112ba4f6440";

/// A device with nothing in its details that could be left out.
fn device() -> Value {
    json!({
        "device": "tape960c5d6-80", "port_id": PORT, "network_id": NETWORK, "mac_address": "fa:16:3e:f6:79:11",
        "admin_state_up": true, "network_type": "vlan", "segmentation_id": 101, "physical_network": "physnet1",
        "fixed_ips": [{ "subnet_id": NETWORK, "ip_address": "192.168.7.211" }, "fd00::1"],
    })
}

fn changed(field: &str, value: Value) -> Value {
    let mut device = device();
    device[field] = value;
    device
}

#[test]
fn what_a_server_leaves_out_of_a_device_has_the_value_that_it_means() {
    let DeviceDetails::Known(bound) = parse(device()).expect("valid") else { panic!("another form") };
    assert!(bound.port_security_enabled && bound.allowed_address_pairs.is_empty() && bound.mtu.is_none());
    assert_eq!(bound.segment().expect("ours").to_string(), "vlan physnet1 101");
    assert_eq!(bound.fixed_ips[1].ip_address.to_string(), "fd00::1");
    parse::<DeviceDetails>(changed("allowed_address_pairs", Value::Null)).expect("null is none");
}

#[test]
fn a_device_that_the_server_does_not_tell_about_has_one_of_two_forms() {
    let unknown: DeviceDetails = parse(json!({ "device": "tap1" })).expect("valid");
    assert_eq!(unknown, DeviceDetails::Unknown { device: "tap1".to_owned() });
    let elsewhere: DeviceDetails = parse(json!({ "device": "tap1", "no_active_binding": true })).expect("valid");
    assert_eq!(elsewhere, DeviceDetails::NoActiveBinding { device: "tap1".to_owned() });
}

#[test]
fn one_broken_device_is_named_with_its_field_and_loses_no_other() {
    let list = json!([
        device(),
        changed("mac_address", json!("fa:16")),
        changed("fixed_ips", json!([{ "ip_address": "10.0.0.256" }])),
        changed("network_id", Value::Null),
        { "no_active_binding": true },
        7,
        { "device": "tap2" },
    ]);
    let entries: Entries<DeviceDetails> = parse(list).expect("a list");
    assert_eq!(entries.good.len(), 2);
    let bad: Vec<String> = entries.bad.iter().map(ToString::to_string).collect();
    let expected = [
        "tape960c5d6-80: mac_address: \"fa:16\" is no MAC address",
        "tape960c5d6-80: fixed_ips[0]: expected an address",
        "tape960c5d6-80: network_id: ",
        "entry 4: missing field `device`",
        "entry 5: ",
    ];
    assert_eq!(bad.len(), expected.len());
    for (bad, beginning) in bad.iter().zip(expected) {
        assert!(bad.starts_with(beginning), "{bad:?} does not begin with {beginning:?}");
    }
}

#[test]
fn a_device_without_a_word_about_its_addresses_is_refused_rather_than_opened() {
    let mut device = device();
    device.as_object_mut().expect("an object").remove("fixed_ips");
    let error: MessageError = parse::<DeviceDetails>(device).expect_err("refused");
    assert!(error.to_string().contains("fixed_ips"), "{error}");
}

#[test]
fn segments_that_the_agent_has_not_are_named() {
    let why = |device: Value| match parse(device).expect("valid") {
        DeviceDetails::Known(bound) => bound.segment().expect_err("none of ours").to_string(),
        other => panic!("{other:?}"),
    };
    assert!(why(changed("network_type", json!("geneve"))).starts_with("network_type: networks of type \"geneve\""));
    assert_eq!(
        why(changed("segmentation_id", json!(4095))),
        "segmentation_id: 4095 is no VID: it must be between 1 and 4094"
    );
    assert_eq!(why(changed("segmentation_id", Value::Null)), "segmentation_id: missing: the VID of the network");
    assert!(why(changed("physical_network", Value::Null)).starts_with("physical_network: missing"));
}

#[test]
fn one_broken_address_of_l2population_loses_no_other() {
    let flood = ["00:00:00:00:00:00", "0.0.0.0"];
    let entries: FdbEntries = parse(json!({
        NETWORK: { "segment_id": 5, "network_type": "vxlan", "ports": {
            "10.0.0.1": [flood, ["fa:16:3e:00:00:01", "fd00::1"], ["fa:16:3e:00:00:01"], ["x", "10.0.0.1"]],
            "10.0.0.999": [flood],
        } },
        "no-id": { "segment_id": 5, "network_type": "vxlan", "ports": {} },
        PORT: { "segment_id": "five" },
    }))
    .expect("a table");
    let bad: Vec<&str> = entries.bad.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(bad, [PORT, "no-id"]);
    let network = entries.good.values().next().expect("one network");
    let ports = network.ports.good.values().next().expect("one endpoint");
    assert_eq!((network.ports.bad.len(), ports.good.len(), ports.bad.len()), (1, 2, 2));
}

#[test]
fn addresses_may_come_or_go_alone() {
    let update: FdbUpdate =
        parse(json!({ "chg_ip": { NETWORK: { "10.0.0.1": { "after": [["fa:16:3e:00:00:01", "10.0.0.9"]] } } } }))
            .expect("valid");
    let change = update.chg_ip.good.values().next().and_then(|endpoints| endpoints.good.values().next()).expect("one");
    assert_eq!((change.before.len(), change.after.len()), (0, 1));
    assert_eq!(parse(json!({ "chg_something": {} })), Ok(FdbUpdate::default()));
}

#[test]
fn members_may_have_a_mac_address_null_or_the_form_of_old_servers() {
    let members: Members =
        parse(json!({ "IPv4": [["10.0.0.1", null], ["10.9.0.0/24", "fa:16:3e:00:00:99"], "10.0.0.2", ["x", null]] }))
            .expect("a table");
    let nets: Vec<String> = members.ipv4.good.iter().map(|member| member.net.to_string()).collect();
    assert_eq!(nets, ["10.0.0.1/32", "10.9.0.0/24", "10.0.0.2/32"]);
    assert_eq!(members.ipv4.bad.len(), 1);
    assert!(members.ipv6.is_empty());
}

#[test]
fn fixed_ips_of_security_groups_are_bare_addresses() {
    let device: SecurityDevice = parse(json!({
        "network_id": NETWORK, "mac_address": "fa:16:3e:00:00:01", "fixed_ips": ["10.0.0.1", "fd00::1"],
        "security_group_rules": [{ "direction": "ingress", "ethertype": "IPv6", "protocol": "ipv6-icmp" }],
    }))
    .expect("valid");
    assert_eq!(device.fixed_ips.len(), 2);
    assert!(device.port_security_enabled);
}

#[test]
fn one_broken_rule_loses_no_other() {
    let rules: Table<String, Entries<SecurityRule>> = parse(json!({ "g": [
        { "direction": "egress", "ethertype": "IPv4", "protocol": 6 },
        { "direction": "egress" },
        { "direction": "ingress", "ethertype": "IPv4", "source_ip_prefix": "10.0.0.0/33" },
    ] }))
    .expect("a table");
    let rules = &rules.good["g"];
    assert_eq!((rules.good.len(), rules.good[0].protocol.as_deref()), (1, Some("6")));
    let bad: Vec<String> = rules.bad.iter().map(ToString::to_string).collect();
    assert!(bad[0].contains("missing field `ethertype`") && bad[1].contains("source_ip_prefix: "), "{bad:?}");
}

fn object(kind: &str, version: &str, data: &Value) -> Value {
    json!({ "versioned_object.name": kind, "versioned_object.version": version, "versioned_object.data": data })
}

#[test]
fn objects_of_another_kind_or_a_newer_version_lose_no_others() {
    let list = json!([
        object("Trunk", "1.9", &json!({ "id": PORT, "port_id": PORT, "novelty": 1 })),
        object("Trunk", "2.0", &json!({ "id": PORT, "port_id": PORT })),
        object("Chassis", "1.0", &json!({ "id": PORT })),
        object("Network", "1.1", &json!({ "id": NETWORK, "segments": [object("NetworkSegment", "1.0", &json!({}))] })),
    ]);
    let entries: Entries<Resource> = parse(list).expect("a list");
    assert_eq!(entries.good.len(), 1);
    let bad: Vec<String> = entries.bad.iter().map(ToString::to_string).collect();
    assert!(bad[0].contains("versioned_object.version: \"2.0\" of Trunk is not understood"), "{bad:?}");
    assert!(bad[1].contains("\"Chassis\" is of no use"), "{bad:?}");
    assert!(bad[2].contains("segments[0].versioned_object.data"), "{bad:?}");
}

#[test]
fn qos_rules_of_other_kinds_are_kept_by_name() {
    let rule: QosRule = parse(object("QosPacketRateLimitRule", "1.5", &json!({ "max_kpps": 3 }))).expect("valid");
    assert_eq!(rule, QosRule::Other { kind: "QosPacketRateLimitRule".to_owned() });
    let dscp =
        parse::<QosRule>(object("QosDscpMarkingRule", "1.5", &json!({ "dscp_mark": 64 }))).expect_err("too large");
    assert!(dscp.to_string().contains("dscp_mark: 64 is no DSCP"), "{dscp}");
}
