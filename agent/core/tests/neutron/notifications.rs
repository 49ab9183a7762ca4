//! What the server tells unasked.

use overlane_core::neutron::{
    envelope::Request,
    messages::{
        fdb::FdbEntry,
        notification::{Notification, NotificationError},
        objects::{BandwidthLimit, QosRule},
        resources::{Gone, Push, Resource},
    },
};
use serde_json::{Value, json};

use crate::captures::request;

pub(crate) fn cast(method: &str, version: &str, args: &Value) -> Request {
    Request {
        method: method.to_owned(),
        version: version.to_owned(),
        namespace: None,
        args: args.as_object().expect("an object").clone(),
        request_id: None,
        reply_to: None,
        unique_id: None,
    }
}

fn captured(name: &str) -> Notification {
    Notification::parse(request(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn captured_notifications_about_ports_networks_and_bindings_are_understood() {
    let Notification::PortUpdate(port) = captured("port_update.fanout") else { panic!("another kind") };
    assert_eq!(port.id.to_string(), "62a55f11-f0ab-484a-ad74-1350aab1203c");
    assert_eq!((port.host.as_deref(), port.revision_number), (Some("host1"), Some(5)));
    assert_eq!(port.security_groups.good[0].0.to_string(), "641c1bc0-356c-4f3c-b3ce-51a6b9c4d2d7");
    assert_eq!(port.allowed_address_pairs.good[0].ip_address.to_string(), "192.168.77.250/32");
    let Notification::NetworkUpdate(network) = captured("network_update.fanout") else { panic!("another kind") };
    assert_eq!((network.mtu, network.segment().expect("ours").to_string().as_str()), (Some(1400), "vxlan 1979"));
    let Notification::NetworkDelete(_) = captured("network_delete.fanout") else { panic!("another kind") };
    let Notification::BindingActivate(binding) = captured("binding_activate.fanout") else { panic!("another kind") };
    assert_eq!((binding.host.as_str(), binding.network_id), ("host2", None));
    let Notification::BindingDeactivate(binding) = captured("binding_deactivate.fanout") else {
        panic!("another kind")
    };
    assert!(binding.host == "host1" && binding.network_id.is_some());
}

#[test]
fn captured_notifications_about_security_groups_are_understood() {
    let Notification::SecurityGroupsRuleUpdated(groups) = captured("security_groups_rule_updated.fanout") else {
        panic!("another kind")
    };
    assert_eq!((groups.good.len(), groups.bad), (1, vec![]));
    let Notification::SecurityGroupsMemberUpdated(groups) = captured("security_groups_member_updated.fanout") else {
        panic!("another kind")
    };
    assert_eq!((groups.good.len(), groups.bad), (1, vec![]));
}

#[test]
fn captured_notifications_of_l2population_are_understood() {
    let Notification::AddFdb(directed) = captured("add_fdb_entries.cast") else { panic!("another kind") };
    let network = directed.fdb_entries.good.values().next().expect("one network");
    assert_eq!((network.segment_id, network.network_type.as_str()), (Some(1349), "vxlan"));
    assert!(network.ports.good.values().all(|entries| entries.good[0] == FdbEntry::FLOOD && entries.bad.is_empty()));
    let Notification::AddFdb(_) = captured("add_fdb_entries.fanout") else { panic!("another kind") };
    let Notification::RemoveFdb(_) = captured("remove_fdb_entries.fanout") else { panic!("another kind") };
    let Notification::UpdateFdb(update) = captured("update_fdb_entries.fanout") else { panic!("another kind") };
    let changes = update.chg_ip.good.values().next().expect("one network");
    let change = changes.good.values().next().expect("one endpoint");
    assert_eq!(change.before.good[0].address.to_string(), "192.168.77.72");
    assert_eq!(change.after.good[0].address.to_string(), "192.168.77.99");
}

fn pushed(name: &str) -> Resource {
    match captured(name) {
        Notification::Push(Push::Changed(mut resources)) if resources.bad.is_empty() => resources.good.remove(0),
        other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn captured_objects_that_were_pushed_are_understood() {
    let Resource::Port(port) = pushed("push.fanout") else { panic!("another kind") };
    assert_eq!(port.allowed_address_pairs[0].data.ip_address.to_string(), "192.168.77.250/32");
    let Resource::QosPolicy(policy) = pushed("push_qos_policy.fanout") else { panic!("another kind") };
    let ingress = BandwidthLimit { max_kbps: 20_000, max_burst_kbps: 0, direction: "ingress".to_owned() };
    assert_eq!(policy.rules[1..], [QosRule::BandwidthLimit(ingress), QosRule::DscpMarking { dscp_mark: 46 }]);
    let Resource::Trunk(trunk) = pushed("push_trunk.fanout") else { panic!("another kind") };
    assert_eq!(trunk.sub_ports[0].data.segmentation_id, 101);
    let Resource::AddressGroup(group) = pushed("push_address_group.fanout") else { panic!("another kind") };
    let addresses: Vec<String> = group.addresses.iter().map(|object| object.data.address.to_string()).collect();
    assert_eq!(addresses, ["198.51.100.0/24", "2001:db8:5::/64"]);
}

#[test]
fn of_an_object_that_is_gone_only_the_id_is_left() {
    let Notification::Push(Push::Deleted(gone)) = captured("push_port_deleted.fanout") else { panic!("another kind") };
    let id = "87afd903-0fb8-425b-8fb1-3d4794483b83".parse().expect("a UUID");
    assert_eq!(gone.good, [Gone { kind: "Port".to_owned(), id }]);
    let sub_port = json!({ "event_type": "deleted", "resource_list": [{
        "versioned_object.name": "SubPort", "versioned_object.version": "1.0",
        "versioned_object.data": { "port_id": "87afd903-0fb8-425b-8fb1-3d4794483b83", "segmentation_id": 5 },
    }] });
    let Ok(Notification::Push(Push::Deleted(gone))) = Notification::parse(cast("push", "1.1", &sub_port)) else {
        panic!("not understood")
    };
    assert_eq!(gone.good, [Gone { kind: "SubPort".to_owned(), id }]);
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let refused = |request| Notification::parse(request).expect_err("refused");
    assert!(matches!(refused(request("port_delete.fanout")), NotificationError::UnknownMethod { .. }));
    let newer = cast("port_update", "2.0", &json!({}));
    assert_eq!(refused(newer).to_string(), "port_update has version 2.0, this agent understands 1.x");
    // Minor versions only add.
    let port = json!({ "port": { "id": "87afd903-0fb8-425b-8fb1-3d4794483b83", "novelty": [] }, "more": 1 });
    Notification::parse(cast("port_update", "1.99", &port)).expect("understood");
    let NotificationError::Malformed { error, .. } =
        refused(cast("port_update", "1.0", &json!({ "port": { "id": "x" } })))
    else {
        panic!("another error")
    };
    assert_eq!(error.field, "port.id");
}
