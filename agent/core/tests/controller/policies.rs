//! QoS policies of ports.

use overlane_core::{neutron::controller::News, qos::Qos};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    running,
    simulated::{World, network, port},
};

const POLICY: Uuid = Uuid::from_bytes([0xcc; 16]);

fn rule(kind: &str, data: &Value) -> Value {
    json!({ "versioned_object.name": kind, "versioned_object.version": "1.5", "versioned_object.data": data })
}

fn limit(kbps: u32, direction: &str) -> Value {
    rule("QosBandwidthLimitRule", &json!({ "max_kbps": kbps, "max_burst_kbps": 0, "direction": direction }))
}

fn policy(rules: &[Value]) -> Value {
    json!({ "id": POLICY, "name": "gold", "rules": rules })
}

fn qos(world: &World) -> Qos {
    world.desired.networks[&network(1)].local_ports[&port(1)].qos
}

#[test]
fn a_ports_policy_is_read_and_followed() {
    let mut world = running();
    world
        .policies
        .insert(POLICY, policy(&[limit(10_000, "egress"), rule("QosDscpMarkingRule", &json!({ "dscp_mark": 26 }))]));
    world.ports.get_mut(&port(1)).expect("a port").policy = Some(POLICY);
    world.notify("port_update", json!({ "port": { "id": port(1) } }), false);
    world.settle();
    let found = qos(&world);
    assert_eq!(found.egress.map(|limit| limit.kbps.get()), Some(10_000));
    assert_eq!((found.ingress, found.dscp), (None, Some(26)));

    world.policies.insert(POLICY, policy(&[limit(5000, "ingress")]));
    let object = json!({ "versioned_object.name": "QosPolicy", "versioned_object.version": "1.10",
                         "versioned_object.data": policy(&[]) });
    world.notify("push", json!({ "event_type": "updated", "resource_list": [object] }), false);
    world.settle();
    let found = qos(&world);
    assert_eq!((found.egress, found.ingress.map(|limit| limit.kbps.get()), found.dscp), (None, Some(5000), None));

    world.ports.get_mut(&port(1)).expect("a port").policy = None;
    world.notify("port_update", json!({ "port": { "id": port(1) } }), false);
    world.settle();
    assert_eq!(qos(&world), Qos::default());
}

#[test]
fn rules_that_are_not_carried_out_are_named_and_hold_back_nothing() {
    let mut world = running();
    world.policies.insert(POLICY, policy(&[rule("QosMinimumBandwidthRule", &json!({})), limit(1000, "egress")]));
    world.ports.get_mut(&port(1)).expect("a port").policy = Some(POLICY);
    world.notify("port_update", json!({ "port": { "id": port(1) } }), false);
    world.settle();
    assert!(qos(&world).egress.is_some());
    let is_named =
        |news: &News| matches!(news, News::NotUnderstood { what } if what.contains("QosMinimumBandwidthRule"));
    assert!(world.news.iter().any(is_named), "{:?}", world.news);
}
