//! No message whatsoever makes the agent panic, and a captured one with anything in any place does no harm.

use overlane_core::neutron::{
    envelope::Message,
    messages::{
        Entries, devices::DetailsAndFailures, devices::DeviceDetails, notification::Notification, parse,
        ports::ApiPort, report::ReportOutcome, resources::Resource, security::SecurityGroupInfo,
    },
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::{
    captures::{capture, request},
    notifications::cast,
};

const METHODS: [&str; 12] = [
    "port_update",
    "network_update",
    "network_delete",
    "binding_activate",
    "binding_deactivate",
    "security_groups_rule_updated",
    "security_groups_member_updated",
    "add_fdb_entries",
    "remove_fdb_entries",
    "update_fdb_entries",
    "push",
    "_private",
];
/// Names that lead into the types.
const KEYS: [&str; 14] = [
    "port",
    "network",
    "fdb_entries",
    "chg_ip",
    "resource_list",
    "event_type",
    "versioned_object.name",
    "versioned_object.data",
    "id",
    "device",
    "port_id",
    "fixed_ips",
    "security_groups",
    "10.0.0.1",
];
const CAPTURES: [&str; 7] = [
    "add_fdb_entries.cast",
    "update_fdb_entries.fanout",
    "port_update.fanout",
    "network_update.fanout",
    "push.fanout",
    "push_qos_policy.fanout",
    "push_trunk.fanout",
];

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        proptest::sample::select(
            &["Port", "QosPolicy", "deleted", "updated", "1.0", "10.0.0.0/8", "00:00:00:00:00:00"][..]
        )
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let key = prop_oneof![proptest::sample::select(&KEYS[..]).prop_map(str::to_owned), ".{0,4}"];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(key, inner, 0..6).prop_map(|map| Value::Object(Map::from_iter(map))),
        ]
    })
}

/// Every place in a value, as a JSON pointer.
fn places(value: &Value, place: &str, found: &mut Vec<String>) {
    found.push(place.to_owned());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| places(value, &format!("{place}/{}", key.replace('/', "~1")), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| places(value, &format!("{place}/{index}"), found));
        }
        _ => (),
    }
}

fn parse_as_everything(value: &Value) {
    _ = parse::<Entries<DeviceDetails>>(value.clone());
    _ = parse::<DetailsAndFailures>(value.clone());
    _ = parse::<Entries<ApiPort>>(value.clone());
    _ = parse::<Entries<Resource>>(value.clone());
    _ = parse::<ReportOutcome>(value.clone());
    if let Ok(info) = parse::<SecurityGroupInfo>(value.clone()) {
        info.security_groups.good.values().flat_map(|rules| &rules.good).for_each(|rule| _ = rule.rule());
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_envelope_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        _ = Message::decode(&body);
    }

    #[test]
    fn no_value_makes_the_types_panic(value in any_value(), method in proptest::sample::select(&METHODS[..])) {
        _ = Message::decode(value.to_string().as_bytes());
        _ = Message::decode(json!({ "oslo.version": "2.0", "oslo.message": value.to_string() }).to_string().as_bytes());
        let args = if value.is_object() { value.clone() } else { json!({ "port": value }) };
        _ = Notification::parse(cast(method, "1.0", &args));
        parse_as_everything(&value);
        parse_as_everything(&json!([value]));
    }

    #[test]
    fn anything_in_any_place_of_a_captured_message_does_no_harm(
        name in proptest::sample::select(&CAPTURES[..]),
        place in any::<proptest::sample::Index>(),
        value in any_value(),
    ) {
        let mut request = request(name);
        let mut args = Value::Object(request.args);
        let mut found = Vec::new();
        places(&args, "", &mut found);
        found.retain(|place| !place.is_empty());
        *args.pointer_mut(&found[place.index(found.len())]).expect("a place in it") = value;
        let Value::Object(args) = args else { unreachable!("only what is inside has been replaced") };
        request.args = args;
        _ = Notification::parse(request);
    }

    #[test]
    fn anything_in_any_place_of_an_answer_about_security_groups_does_no_harm(
        place in any::<proptest::sample::Index>(),
        value in any_value(),
    ) {
        let mut result = capture("security_group_info_for_devices.call.reply")["message"]["result"].take();
        let mut found = Vec::new();
        places(&result, "", &mut found);
        *result.pointer_mut(&found[place.index(found.len())]).expect("a place in it") = value;
        parse_as_everything(&result);
    }
}

#[test]
fn a_message_that_is_nested_without_end_is_refused() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Message::decode(deep.as_bytes()).is_err());
    assert!(Message::decode(json!({ "oslo.version": "2.0", "oslo.message": deep }).to_string().as_bytes()).is_err());
}
