//! Leases: those that a server begins with, and those that it must forget.

use std::net::Ipv4Addr;

use overlane_core::services::{
    NamespaceSpec, ObservedNamespace, ObservedProcess, ObservedServices, OnChange, ServiceAction, Services,
    dhcp::leases::{Lease, Leases},
    plan,
};

use crate::{FOLDER, NAMESPACE, cloud, dhcp_port, file, namespace, namespace_with, port, process, subnet};

const SERVER_ID: &str = "00:01:00:01:2f";

fn of_both_families() -> NamespaceSpec {
    let subnets = subnet("10.0.0.0/24", "") + &subnet("fd00:7::/64", "");
    namespace(&cloud(&subnets, &[dhcp_port(&["10.0.0.10", "fd00:7::10"]), port(21, &["10.0.0.21", "fd00:7::21"], "")]))
}

#[test]
fn a_server_that_has_no_leases_yet_begins_with_those_that_machines_may_have() {
    let namespace = of_both_families();
    assert_eq!(file(&namespace, "leases"), "0 fa:16:3e:00:00:10 10.0.0.10 * *\n0 fa:16:3e:00:00:21 10.0.0.21 * *\n");
    assert_eq!(process(&namespace).files["leases"].on_change, OnChange::Keep);
}

#[test]
fn leases_that_are_nobodys_reservation_are_stale() {
    let text = format!(
        "1795 fa:16:3e:00:00:21 10.0.0.21 host-10-0-0-21 01:fa:16:3e:00:00:21\n1795 fa:16:3e:00:00:22 10.0.0.22 * 01:02\n\
         0 fa:16:3e:00:00:23 10.0.0.21 * *\nduid {SERVER_ID}\n1795 7 fd00:7::21 * 00:03\n1795 T8 fd00:7::22 * 00:04\nnonsense\n"
    );
    let reservations = of_both_families().reservations.expect("it has some");
    let mac = |text: &str| text.parse().expect("valid");
    let expected = [
        Lease::V4 { mac: mac("fa:16:3e:00:00:22"), address: Ipv4Addr::new(10, 0, 0, 22), client_id: Some(vec![1, 2]) },
        Lease::V4 { mac: mac("fa:16:3e:00:00:23"), address: Ipv4Addr::new(10, 0, 0, 21), client_id: None },
        Lease::V6 { iaid: 8, address: "fd00:7::22".parse().expect("valid"), client_id: vec![0, 4] },
    ];
    assert_eq!(reservations.stale(&text), expected);
    assert_eq!(Leases::parse(&text).server_id, Some(vec![0, 1, 0, 1, 0x2f]));
}

#[test]
fn a_running_server_is_told_to_forget_stale_leases_and_one_that_is_about_to_start_is_not_yet() {
    let spec = of_both_families();
    let wanted = Services { namespaces: [(NAMESPACE.to_owned(), spec.clone())].into(), ..Services::default() };
    let (name, program) = spec.processes.first_key_value().expect("dnsmasq");
    let files = program.files.iter().map(|(file, spec)| (program.folder.join(file), spec.text.clone()));
    let mut found = ObservedServices { files: files.collect(), ..ObservedServices::default() };
    found.files.insert(format!("{FOLDER}/leases").into(), "0 fa:16:3e:00:00:22 10.0.0.22 * *\n".to_owned());
    found.namespaces.insert(NAMESPACE.to_owned(), ObservedNamespace { is_ours: true, ..ObservedNamespace::default() });
    let released = |found: &ObservedServices| {
        let steps = plan::plan(&wanted, found).steps.remove(&Some(NAMESPACE.to_owned())).unwrap_or_default();
        steps
            .iter()
            .filter(|step| matches!(step, ServiceAction::ReleaseLeases { .. }))
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert!(released(&found).is_empty());
    found.processes.insert(name.clone(), vec![ObservedProcess { pid: 7, fingerprint: program.fingerprint() }]);
    assert_eq!(released(&found), ["release the leases of 10.0.0.22"]);
}

/// What is planned for the DHCP server of a network with two subnets of which one is served, with these leases in its file.
fn planned(leases: &str, is_running: bool) -> Vec<String> {
    let subnets = subnet("10.0.0.0/24", "") + &subnet("10.0.1.0/24", "enable_dhcp = false");
    let ports = [dhcp_port(&["10.0.0.10", "10.0.1.10"]), port(21, &["10.0.0.21"], ""), port(22, &["10.0.1.22"], "")];
    let spec = namespace(&cloud(&subnets, &ports));
    let wanted = Services { namespaces: [(NAMESPACE.to_owned(), spec.clone())].into(), ..Services::default() };
    let (name, program) = spec.processes.first_key_value().expect("dnsmasq");
    let files = program.files.iter().map(|(file, spec)| (program.folder.join(file), spec.text.clone()));
    let mut found = ObservedServices { files: files.collect(), ..ObservedServices::default() };
    found.files.insert(format!("{FOLDER}/leases").into(), leases.to_owned());
    found.namespaces.insert(NAMESPACE.to_owned(), ObservedNamespace { is_ours: true, ..ObservedNamespace::default() });
    if is_running {
        found.processes.insert(name.clone(), vec![ObservedProcess { pid: 7, fingerprint: program.fingerprint() }]);
    }
    let steps = plan::plan(&wanted, &found).steps.remove(&Some(NAMESPACE.to_owned())).unwrap_or_default();
    steps.iter().map(ToString::to_string).filter(|step| step.contains("lease") || step.contains("start")).collect()
}

#[test]
fn a_lease_in_a_subnet_that_is_not_served_is_not_released_because_its_server_would_not_hear_it() {
    let leases = "1795 fa:16:3e:00:00:22 10.0.1.22 * *\n1795 fa:16:3e:00:00:23 10.0.0.23 * *\n";
    assert_eq!(planned(leases, true), ["release the leases of 10.0.0.23"]);
}

#[test]
fn a_server_is_started_without_leases_that_are_nobodys() {
    let start = format!("start dnsmasq of {}", &NAMESPACE["qdhcp-".len()..]);
    let of_machines = "1795 fa:16:3e:00:00:21 10.0.0.21 * *\n";
    assert_eq!(planned(of_machines, false), [start.as_str()]);
    let drop = format!("drop leases that are nobody's from {FOLDER}/leases");
    for nobodys in ["1795 fa:16:3e:00:00:22 10.0.1.22 * *\n", "1795 fa:16:3e:00:00:23 10.0.0.23 * *\n"] {
        assert_eq!(planned(&format!("{of_machines}{nobodys}"), false), [drop.as_str(), start.as_str()]);
    }
}

#[test]
fn a_server_is_started_with_no_more_leases_than_it_reads() {
    let text = cloud(&subnet("10.0.0.0/24", ""), &[dhcp_port(&["10.0.0.10"]), port(21, &["10.0.0.21"], "")]);
    let few = namespace_with(&text, "dnsmasq_lease_max = 1");
    assert_eq!(file(&few, "leases").lines().count(), 1);
    let reservations = few.reservations.expect("it has some");
    let of_two = "duid 00:01\n0 fa:16:3e:00:00:10 10.0.0.10 * *\n0 fa:16:3e:00:00:21 10.0.0.21 * *\n";
    let of_one = "duid 00:01\n0 fa:16:3e:00:00:10 10.0.0.10 * *\n";
    assert_eq!(reservations.without_nobodys(of_two).as_deref(), Some(of_one));
    assert_eq!(reservations.without_nobodys(of_one), None);
}

#[test]
fn a_release_is_what_the_client_itself_would_say() {
    let lease = Lease::V4 {
        mac: "fa:16:3e:00:00:22".parse().expect("valid"),
        address: Ipv4Addr::new(10, 0, 0, 22),
        client_id: Some(vec![1, 2, 3]),
    };
    let message = lease.release(Ipv4Addr::new(10, 0, 0, 10), &[]);
    assert_eq!(message[..4], [1, 1, 6, 0]);
    assert_eq!(message[12..16], [10, 0, 0, 22]);
    assert_eq!(message[28..34], [0xfa, 0x16, 0x3e, 0, 0, 0x22]);
    assert_eq!(message[236..], [99, 130, 83, 99, 53, 1, 7, 54, 4, 10, 0, 0, 10, 61, 3, 1, 2, 3, 255]);
    let lease = Lease::V6 { iaid: 9, address: "fd00:7::21".parse().expect("valid"), client_id: vec![7, 7] };
    let message = lease.release(Ipv4Addr::UNSPECIFIED, &[5]);
    assert_eq!(message[0], 8);
    assert_eq!(message[4..10], [0, 1, 0, 2, 7, 7]);
    assert_eq!(message[10..15], [0, 2, 0, 1, 5]);
    assert_eq!(message[21..29], [0, 3, 0, 40, 0, 0, 0, 9]);
    assert_eq!(message[37..41], [0, 5, 0, 24]);
}
