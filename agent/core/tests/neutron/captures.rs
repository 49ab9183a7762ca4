//! Messages captured between a Neutron server of release Zed and its agents (`tests/captures`), without their contexts.

use std::path::Path;

use overlane_core::neutron::{
    envelope::{Message, Reply, Request},
    messages::{
        Call,
        devices::{
            DeviceDetails, GetDevicesDetailsList, GetDevicesDetailsListAndFailedDevices, UpdateDeviceDown,
            UpdateDeviceList, UpdateDeviceUp,
        },
        parse,
        ports::{GetNetworkDetails, GetPortsByVnicTypeAndHost},
        report::{HasAliveServer, ReportState},
        resources::{BulkPull, Pull, Resource},
        security::SecurityGroupInfoForDevices,
        trunk::{UpdateSubportBindings, UpdateTrunkStatus},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

/// A captured message.
pub(crate) fn capture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// Puts a captured message into the envelope that it was cut from.
pub(crate) fn body(name: &str) -> Vec<u8> {
    let message = capture(name)["message"].to_string();
    json!({ "oslo.version": "2.0", "oslo.message": message }).to_string().into_bytes()
}

pub(crate) fn request(name: &str) -> Request {
    match Message::decode(&body(name)).expect("valid") {
        Message::Request(request) => request,
        other => panic!("{name} is {other:?}"),
    }
}

pub(crate) fn reply(name: &str) -> Reply {
    match Message::decode(&body(name)).expect("valid") {
        Message::Reply(reply) => reply,
        other => panic!("{name} is {other:?}"),
    }
}

/// Everything that `ours` says is in `theirs`: a field that is not used is not kept.
fn assert_part_of(ours: &Value, theirs: &Value, place: &str) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for (key, value) in ours {
                let other = theirs.get(key).unwrap_or(&Value::Null);
                assert_part_of(value, other, &format!("{place}.{key}"));
            }
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            assert_eq!(ours.len(), theirs.len(), "{place}");
            for (index, (one, other)) in ours.iter().zip(theirs).enumerate() {
                assert_part_of(one, other, &format!("{place}[{index}]"));
            }
        }
        _ => assert_eq!(ours, theirs, "{place}"),
    }
}

/// What the server was asked is what our type asks, to the letter.
fn call_round_trips<C: Call + DeserializeOwned>(name: &str) {
    let captured = capture(name);
    assert_eq!(captured["exchange"], "neutron");
    assert_eq!(captured["routing_key"], C::TOPIC);
    let asked = request(name);
    assert_eq!((asked.method.as_str(), asked.version.as_str()), (C::METHOD, C::VERSION));
    assert_eq!(asked.namespace.as_deref(), C::NAMESPACE);
    let call: C = parse(Value::Object(asked.args.clone())).expect("our type");
    assert_eq!(call.args(), asked.args);
    assert!(asked.reply_to.is_some() && asked.unique_id.is_some());
    assert_eq!(Message::decode(&asked.encode()), Ok(Message::Request(asked)));
}

fn reply_round_trips<C: Call>(name: &str) -> C::Reply
where
    C::Reply: Serialize,
{
    let answer = reply(name);
    assert!(answer.is_last);
    assert_eq!(Message::decode(&answer.encode()), Ok(Message::Reply(answer.clone())));
    let result = answer.outcome.expect("no failure");
    let parsed: C::Reply = parse(result.clone()).expect("our type");
    let written = serde_json::to_value(&parsed).expect("JSON");
    assert_part_of(&written, &result, name);
    let again: C::Reply = parse(written.clone()).expect("our type");
    assert_eq!(serde_json::to_value(&again).expect("JSON"), written);
    parsed
}

#[test]
fn every_captured_call_is_what_our_types_ask() {
    call_round_trips::<ReportState>("report_state.call");
    call_round_trips::<ReportState>("report_state.call.start");
    call_round_trips::<HasAliveServer>("has_alive_neutron_server.call");
    call_round_trips::<GetDevicesDetailsList>("get_devices_details_list.call");
    call_round_trips::<GetDevicesDetailsListAndFailedDevices>("get_devices_details_list_and_failed_devices.call");
    call_round_trips::<UpdateDeviceUp>("update_device_up.call");
    call_round_trips::<UpdateDeviceDown>("update_device_down.call");
    call_round_trips::<UpdateDeviceList>("update_device_list.call");
    call_round_trips::<SecurityGroupInfoForDevices>("security_group_info_for_devices.call");
    call_round_trips::<GetPortsByVnicTypeAndHost>("get_ports_by_vnic_type_and_host.call");
    call_round_trips::<GetNetworkDetails>("get_network_details.call");
    call_round_trips::<BulkPull>("bulk_pull.call");
    call_round_trips::<Pull>("pull_qos_policy.call");
    call_round_trips::<UpdateSubportBindings>("update_subport_bindings.call");
    call_round_trips::<UpdateTrunkStatus>("update_trunk_status.call");
}

#[test]
fn every_captured_reply_is_understood_and_written_back() {
    reply_round_trips::<ReportState>("report_state.call.reply");
    reply_round_trips::<UpdateDeviceUp>("update_device_up.call.reply");
    reply_round_trips::<UpdateDeviceDown>("update_device_down.call.reply");
    reply_round_trips::<UpdateDeviceList>("update_device_list.call.reply");
    reply_round_trips::<GetNetworkDetails>("get_network_details.call.reply");
    reply_round_trips::<UpdateSubportBindings>("update_subport_bindings.call.reply");
    let ports = reply_round_trips::<GetPortsByVnicTypeAndHost>("get_ports_by_vnic_type_and_host.call.reply");
    assert_eq!((ports.good.len(), ports.bad), (3, vec![]));
    let details = reply_round_trips::<GetDevicesDetailsList>("get_devices_details_list.call.reply");
    assert_eq!((details.good.len(), details.bad), (3, vec![]));
    let details = reply_round_trips::<GetDevicesDetailsListAndFailedDevices>(
        "get_devices_details_list_and_failed_devices.call.reply",
    );
    let unknown = DeviceDetails::Unknown { device: "00000000-0000-4000-8000-000000000000".to_owned() };
    assert_eq!((details.devices.good.len(), &details.devices.good[1]), (2, &unknown));
}

#[test]
fn a_captured_answer_about_security_groups_is_understood_whole() {
    let info = reply_round_trips::<SecurityGroupInfoForDevices>("security_group_info_for_devices.call.reply");
    assert_eq!((&info.devices.bad, &info.security_groups.bad, &info.sg_member_ips.bad), (&vec![], &vec![], &vec![]));
    assert!(!info.devices.good.is_empty() && !info.security_groups.good.is_empty());
    for rules in info.security_groups.good.values() {
        assert_eq!(rules.bad, []);
        for rule in &rules.good {
            rule.rule().expect("a rule");
        }
    }
    assert!(info.sg_member_ips.good.values().all(|members| members.ipv4.bad.is_empty() && !members.ipv4.is_empty()));
}

#[test]
fn captured_objects_are_understood_whole() {
    let ports = reply_round_trips::<BulkPull>("bulk_pull.call.reply");
    assert_eq!(ports.bad, []);
    for resource in &ports.good {
        let Resource::Port(port) = resource else { panic!("{resource:?}") };
        let segment = port.segment_on(&port.bindings[0].data.host).expect("bound");
        assert_eq!(segment.segment().expect("one of ours").network_type(), "vxlan");
        assert!(port.is_secured());
    }
    let policy = reply_round_trips::<Pull>("pull_qos_policy.call.reply").expect("there is one");
    let Resource::QosPolicy(policy) = policy else { panic!("{policy:?}") };
    assert_eq!(policy.rules.len(), 3);
}

#[test]
fn a_report_says_what_it_is_told_to() {
    let request = request("report_state.call.start");
    let mut args = request.args;
    let report: ReportState = parse(Value::Object(args.clone())).expect("our type");
    let mut state = report.agent_state.agent_state;
    (state.start_flag, state.resource_versions, state.configurations.tunneling_ip) = (None, None, None);
    let state_args = args["agent_state"]["agent_state"].as_object_mut().expect("an object");
    for gone in ["start_flag", "resource_versions"] {
        state_args.remove(gone);
    }
    state_args["configurations"].as_object_mut().map(|fields: &mut Map<String, Value>| fields.remove("tunneling_ip"));
    assert_eq!(ReportState::new(state, report.time).args(), args);
}
