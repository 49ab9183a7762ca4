//! QoS policies of ports.

use std::time::Duration;

use overlane_core::{
    model::PortId,
    neutron::controller::{Failure, News},
    qos::Qos,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    restarted, running,
    simulated::{SimulatedPort, World, network, port},
};

const POLICY: Uuid = Uuid::from_bytes([0xcc; 16]);
/// The one before it, whichever way they are sorted by id.
const OTHER_POLICY: Uuid = Uuid::from_bytes([0xaa; 16]);

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

fn is_asked_for(world: &World, port: PortId) -> bool {
    world.desired.networks.get(&network(1)).is_some_and(|network| network.local_ports.contains_key(&port))
}

fn busy() -> Failure {
    Failure::Transient("pull: no answer within 60 s".to_owned())
}

/// [`running`], with a limit of what port 1 sends.
fn limited() -> World {
    let mut world = running();
    world.policies.insert(POLICY, policy(&[limit(10_000, "egress")]));
    world.ports.get_mut(&port(1)).expect("a port").policy = Some(POLICY);
    world.notify("port_update", json!({ "port": { "id": port(1) } }), false);
    world.settle();
    assert!(qos(&world).egress.is_some());
    world
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

#[test]
fn after_a_restart_limits_stay_until_the_server_tells_the_policy() {
    let mut world = restarted(limited());
    world.untold.insert(POLICY, busy());
    world.connect();
    world.settle();
    world.pass(Duration::from_secs(300));
    assert!(!is_asked_for(&world, port(1)) && is_asked_for(&world, port(2)));
    assert!(!world.desired.complete, "what is not asked for is unknown, not stale");
    let reasons = world.controller.reasons();
    assert!(reasons[port(1).tap_name().as_str()].contains("no answer within 60 s"), "{reasons:?}");
    world.untold.clear();
    world.pass(Duration::from_secs(40));
    assert_eq!(qos(&world).egress.map(|limit| limit.kbps.get()), Some(10_000));
    assert!(world.desired.complete && world.controller.reasons().is_empty());
}

#[test]
fn a_new_port_is_connected_and_reported_up_once_its_policy_is_known() {
    let mut world = limited();
    world.untold.insert(OTHER_POLICY, busy());
    world.ports.insert(port(3), SimulatedPort { policy: Some(OTHER_POLICY), ..SimulatedPort::new(3, 1) });
    world.plug(port(3));
    world.settle();
    world.pass(Duration::from_secs(5));
    assert!(!is_asked_for(&world, port(3)));
    assert_eq!(world.ports[&port(3)].status, "DOWN");
    world.untold.clear();
    world.pass(Duration::from_secs(40));
    assert!(is_asked_for(&world, port(3)));
    assert_eq!(world.ports[&port(3)].status, "ACTIVE");
}

#[test]
fn a_port_keeps_its_limits_until_its_new_policy_is_known() {
    let mut world = limited();
    world.untold.insert(OTHER_POLICY, busy());
    world.ports.get_mut(&port(1)).expect("a port").policy = Some(OTHER_POLICY);
    world.notify("port_update", json!({ "port": { "id": port(1) } }), false);
    world.settle();
    assert_eq!(qos(&world).egress.map(|limit| limit.kbps.get()), Some(10_000));
}

#[test]
fn a_policy_that_the_server_does_not_get_round_to_holds_back_no_other() {
    let mut world = running();
    world.untold.insert(OTHER_POLICY, busy());
    world.policies.insert(POLICY, policy(&[limit(10_000, "egress")]));
    for (number, policy) in [(1, POLICY), (2, OTHER_POLICY)] {
        world.ports.get_mut(&port(number)).expect("a port").policy = Some(policy);
        world.notify("port_update", json!({ "port": { "id": port(number) } }), false);
    }
    world.settle();
    assert!(qos(&world).egress.is_some());
}

#[test]
fn a_port_whose_policy_the_server_can_never_tell_works_without_it_and_says_so() {
    let refusals = [
        (Failure::Unsupported("CallbackNotFound".to_owned()), Duration::ZERO),
        (Failure::Other("InvalidTargetVersion".to_owned()), Duration::from_secs(60)),
    ];
    for (refusal, patience) in refusals {
        let mut world = restarted(limited());
        world.untold.insert(POLICY, refusal);
        world.connect();
        world.settle();
        if !patience.is_zero() {
            assert!(!is_asked_for(&world, port(1)), "it may be over in a moment");
        }
        world.pass(patience);
        world.pass(Duration::from_secs(6));
        assert_eq!(qos(&world), Qos::default());
        assert!(world.desired.complete);
        let reason = world.controller.reasons()[port(1).tap_name().as_str()].to_owned();
        assert!(reason.contains("works without its limits") && reason.contains(&POLICY.to_string()), "{reason}");
        let said = world.news.iter().filter(|news| matches!(news, News::WithoutPolicy { .. })).count();
        assert_eq!(said, 1, "{:?}", world.news);
        world.untold.clear();
        world.pass(Duration::from_secs(40));
        assert!(qos(&world).egress.is_some() && world.controller.reasons().is_empty());
    }
}

#[test]
fn a_policy_that_was_told_before_is_in_force_while_it_cannot_be_read_again() {
    let mut world = limited();
    world.untold.insert(POLICY, Failure::Other("KeyError".to_owned()));
    world.controller.lost();
    world.connect();
    world.settle();
    world.pass(Duration::from_secs(60));
    assert!(qos(&world).egress.is_some());
}
