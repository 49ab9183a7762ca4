//! The reference deployment's router on two hosts: what each of them has of it, and what keepalived reads.

use overlane_core::services::{NamespaceSpec, OnChange};

use super::{NAMESPACE, REFERENCE, router, services};

fn replicated() -> String {
    let node = "local_ip = \"10.10.10.11\"";
    REFERENCE.replacen("hosts = [\"controller\"]", "hosts = [\"controller\", \"compute1\"]", 1).replacen(
        node,
        &format!("{node}\nnetwork_node = true"),
        1,
    )
}

fn on(host: &str) -> NamespaceSpec {
    services(&replicated(), host).remove(NAMESPACE).expect("the router is there")
}

/// The text of keepalived's file.
fn configuration(spec: &NamespaceSpec) -> String {
    let keepalived = spec.processes.iter().find(|(name, _)| name.program == "keepalived").expect("one").1;
    let file = &keepalived.files["keepalived.conf"];
    assert_eq!(file.on_change, OnChange::Reload, "another address is no reason for another host to take over");
    file.text.clone()
}

#[test]
fn each_host_has_all_links_and_keepalived_moves_what_one_host_has_for_good() {
    let alone = router(REFERENCE);
    let [first, second] = ["controller", "compute1"].map(on);
    for spec in [&first, &second] {
        let activity = spec.activity.as_ref().expect("it moves");
        assert!(spec.links[&activity.link].moving.contains(&activity.address));
        assert_eq!(spec.links.len(), alone.links.len() + 1);
        for (name, link) in &alone.links {
            let of_host = &spec.links[name];
            assert_eq!((of_host.mac, of_host.port, of_host.mtu), (link.mac, link.port, link.mtu));
            assert!(of_host.addresses.is_empty() && link.addresses.is_subset(&of_host.moving), "{of_host:?}");
        }
        // Of two ways to a subnet, the one by its own interface is enough.
        let mut routes = alone.routes.clone();
        routes.remove(&"10.62.228.0/24".parse().expect("valid"));
        assert_eq!(spec.routes, routes);
    }
    assert_ne!(first.activity.expect("it moves").link, second.activity.expect("it moves").link);
}

#[test]
fn keepalived_is_told_of_all_addresses_and_routes_and_of_the_other_host() {
    assert_eq!(configuration(&on("controller")), include_str!("keepalived.conf"));
    let [first, second] = ["controller", "compute1"].map(|host| configuration(&on(host)));
    let differing = first.lines().zip(second.lines()).filter(|(one, other)| one != other).count();
    // Interface (twice), priority, own address, and the other one's.
    assert_eq!((first.lines().count(), differing), (second.lines().count(), 5), "{second}");
}

#[test]
fn a_router_that_is_switched_off_is_on_no_host_and_needs_nobody_to_agree_with() {
    let line = format!("id = \"{}\"\n", NAMESPACE.trim_start_matches("qrouter-"));
    let text = replicated().replacen(&line, &format!("{line}admin_state_up = false\n"), 1);
    assert!(services(&text, "controller").is_empty() && services(&text, "compute1").is_empty());
}
