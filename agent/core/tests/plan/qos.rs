//! What is planned for QoS policies: limits of taps, and what the programs are told.

use std::{collections::BTreeMap, path::Path};

use overlane_abi as abi;
use overlane_core::{
    action::Action,
    config::{Config, FastPath},
    desired::Desired,
    observed::{DatapathState, Link, LinkKind, Observed},
    plan::{self, Plan},
    qos::{Qdisc, QdiscKind, Tbf},
    topology::Topology,
};

use crate::simulated::{apply, config, link, reconcile};

const TAP: u32 = 5;
const ALL: &[&str] = &[
    "type = \"bandwidth_limit\"\nmax_kbps = 10000",
    "type = \"bandwidth_limit\"\nmax_kbps = 20000\ndirection = \"ingress\"",
    "type = \"dscp_marking\"\ndscp_mark = 26",
];
/// What the kernel chooses when the Linux bridge agent makes a limit.
const CHOSEN: u16 = 0x8001;

/// One port of a local network, under a policy of these rules.
fn desired(rules: &[&str]) -> Desired {
    let rules: String = rules.iter().map(|rule| format!("[[qos_policies.rules]]\n{rule}\n")).collect();
    let id = "971ffda2-e567-40a0-a2c8-b31a577fd4d3";
    let text = format!(
        "[[hosts]]\nname = \"here\"\nlocal_ip = \"10.10.10.11\"\n\
         [[networks]]\nid = \"{id}\"\nnetwork_type = \"local\"\nqos_policy_id = \"{id}\"\n\
         [[ports]]\nid = \"b1eaae00-e504-41f8-93a4-643687155bea\"\nnetwork_id = \"{id}\"\nhost = \"here\"\n\
         mac_address = \"fa:16:3e:81:1b:37\"\n[[qos_policies]]\nid = \"{id}\"\n{rules}"
    );
    Topology::parse(Path::new("t.toml"), &text).expect("valid").desired_for("here")
}

/// A host where the port works, under a policy of these rules.
fn host(rules: &[&str]) -> Observed {
    let mut host = Observed { datapath: Some(DatapathState::default()), ..Observed::default() };
    host.kernel.links.insert(TAP, link(TAP, "tapb1eaae00-e5", LinkKind::Other("tun".to_owned())));
    reconcile(&desired(rules), &mut host);
    host
}

fn tbf() -> Qdisc {
    Qdisc { handle: CHOSEN, kind: QdiscKind::Tbf(Tbf { rate: 1000, buffer: 1000, limit: 1000 }) }
}

fn lines(plan: &Plan) -> Vec<String> {
    plan.actions.iter().map(ToString::to_string).collect()
}

fn plan(rules: &[&str], host: &Observed) -> Plan {
    plan::plan(&desired(rules), host, &config())
}

#[test]
fn a_policy_comes_goes_and_changes_in_an_order_in_which_programs_find_what_they_look_for() {
    let mut host = host(&[]);
    let limited = plan(ALL, &host);
    assert_eq!(
        lines(&limited),
        [
            "limit what is received behind tapb1eaae00-e5 to 20000 kbit/s",
            "set qos[interface 5]",
            "set ports[interface 5]",
        ]
    );
    limited.actions.iter().for_each(|action| apply(&mut host, action));
    let flags = abi::Qos::LIMITED | abi::Qos::MARKED;
    let expected = abi::Qos { flags, rate_kbps: 10_000, burst_kbit: 8000, dscp: 26 };
    assert_eq!(host.datapath.as_ref().expect("on").qos, [(TAP, expected)].into());
    assert_eq!(plan(ALL, &host).actions, []);
    assert_eq!(lines(&plan(&ALL[..2], &host)), ["set qos[interface 5]"]);
    let lifted = plan(&[], &host);
    assert_eq!(
        lines(&lifted),
        [
            "lift the limit of what is received behind tapb1eaae00-e5",
            "set ports[interface 5]",
            "delete qos[interface 5]",
        ]
    );
    let mut former = host.clone();
    lifted.actions.iter().for_each(|action| apply(&mut former, action));
    assert_eq!(plan(&[], &former).actions, []);
    assert_eq!(lines(&plan(ALL, &former))[0], "limit what is received behind tapb1eaae00-e5 to 20000 kbit/s");
    let nobodys = Desired { networks: BTreeMap::new(), ..desired(&[]) };
    let removed = lines(&plan::plan(&nobodys, &former, &config()));
    assert_eq!(removed[0], "remove the limit of what is received behind tapb1eaae00-e5");
    let unheard = Desired { complete: false, ..Desired::default() };
    assert_eq!(plan::plan(&unheard, &host, &config()).actions, [], "nothing is known to be stale yet");
}

#[test]
fn a_new_taps_limit_is_there_before_anything_is_sent_to_it() {
    let mut host = host(&[]);
    host.kernel.links.get_mut(&TAP).expect("a tap").master = None;
    let steps = lines(&plan(ALL, &host));
    let place = |wanted: &str| steps.iter().position(|step| step.starts_with(wanted)).expect("planned");
    assert!(place("limit what is received") < place("add tapb1eaae00-e5 to bridge"), "{steps:?}");
}

#[test]
fn a_limit_that_somebody_has_changed_or_removed_is_put_right() {
    let mut host = host(ALL);
    host.kernel.qdiscs.clear();
    assert_eq!(lines(&plan(ALL, &host)), ["limit what is received behind tapb1eaae00-e5 to 20000 kbit/s"]);
    host.kernel.qdiscs.insert(TAP, Qdisc { handle: Qdisc::OURS, ..tbf() });
    assert_eq!(lines(&plan(ALL, &host)), ["limit what is received behind tapb1eaae00-e5 to 20000 kbit/s"]);
}

#[test]
fn the_linux_bridge_agents_limit_goes_and_somebody_elses_discipline_stays_and_is_named() {
    for (rules, step) in [(&[][..], "remove the limit"), (ALL, "limit what is received")] {
        let mut host = host(rules);
        host.kernel.qdiscs.insert(TAP, tbf());
        assert!(lines(&plan(rules, &host))[0].starts_with(step), "{rules:?}");
        host.kernel.qdiscs.insert(TAP, Qdisc { handle: 1, ..tbf() });
        assert_eq!(plan(rules, &host).actions, []);
    }
    let mut host = host(&[]);
    host.kernel.qdiscs.insert(TAP, Qdisc { handle: 1, kind: QdiscKind::Other("htb".to_owned()) });
    let blocked = plan(ALL, &host);
    assert!(!lines(&blocked).iter().any(|line| line.starts_with("limit")), "{blocked:?}");
    let message = &blocked.obstacles[0].message;
    assert!(message.contains("htb 1:") && message.contains("tc qdisc del dev tapb1eaae00-e5 root"), "{message}");
}

#[test]
fn where_there_is_no_ebpf_an_obstacle_says_so_and_what_a_machine_receives_is_limited_all_the_same() {
    let mut host = host(&[]);
    host.datapath = None;
    let planned = plan(ALL, &host);
    assert_eq!(lines(&planned), ["limit what is received behind tapb1eaae00-e5 to 20000 kbit/s"]);
    let [obstacle] = &planned.obstacles[..] else { panic!("{planned:?}") };
    assert!(obstacle.to_string().starts_with("port b1eaae00-e504-41f8-93a4-643687155bea: tapb1eaae00-e5: what its"));
    assert_eq!(plan(&ALL[1..2], &host).obstacles, [], "that does not need it");
}

#[test]
fn a_port_is_in_place_once_its_policy_is_in_force_in_both_directions() {
    let is_in_place =
        |rules: &[&str], host: &Observed| !plan::ports_in_place(&desired(rules), host, &config()).is_empty();
    let mut host = host(&[]);
    assert!(is_in_place(&[], &host));
    let steps = plan(ALL, &host).actions;
    for (step, rules) in steps.iter().zip([&ALL[1..2], ALL, ALL]) {
        assert!(!is_in_place(rules, &host), "not yet able to {step}");
        apply(&mut host, step);
        assert_eq!(is_in_place(ALL, &host), step == steps.last().expect("some"), "{step}");
        assert!(is_in_place(&ALL[1..2], &host), "nothing is to be sent more slowly");
    }
    // Another policy than the one that is in force.
    assert!(!is_in_place(&["type = \"dscp_marking\"\ndscp_mark = 10"], &host));
    assert!(!is_in_place(&["type = \"bandwidth_limit\"\nmax_kbps = 30000\ndirection = \"ingress\""], &host));
    // The program is gone, or somebody has put something else in the place of the limit.
    let mut undone = host.clone();
    undone.datapath.as_mut().expect("on").attached.remove(&(abi::Hook::FromPort, TAP));
    assert!(!is_in_place(ALL, &undone) && is_in_place(&ALL[1..2], &undone));
    host.kernel.qdiscs.insert(TAP, tbf());
    assert!(!is_in_place(ALL, &host) && is_in_place(&[ALL[0], ALL[2]], &host));
    host.datapath = None;
    assert!(!is_in_place(ALL, &host) && is_in_place(&[], &host));
}

#[test]
fn without_the_fast_lane_only_the_program_that_limits_and_marks_stays() {
    let config = Config { fast_path: FastPath::Off, ..config() };
    let (mut host, desired) = (host(&[]), desired(ALL));
    for _ in 0..3 {
        for action in plan::plan(&desired, &host, &config).actions {
            apply(&mut host, &action);
        }
    }
    assert_eq!(host.datapath.expect("on").attached, [(abi::Hook::FromPort, TAP)].into());
}

#[test]
fn purging_a_host_removes_its_limits() {
    let mut host = host(ALL);
    host.kernel.links.insert(9, Link { up: true, ..link(9, "eth9", LinkKind::Other(String::new())) });
    host.kernel.qdiscs.insert(9, tbf());
    let steps: Vec<String> = plan::purge(&host.kernel, &config()).iter().map(Action::to_string).collect();
    assert_eq!(steps[0], "remove the limit of what is received behind tapb1eaae00-e5");
    assert!(!steps.iter().any(|step| step.contains("eth9")), "{steps:?}");
}

#[test]
fn other_rules_of_security_groups_leave_the_policy_in_force() {
    let desired = desired(ALL);
    let mut host = host(ALL);
    let Plan { placements, .. } = plan(ALL, &host);
    // As after a step that has not been taken.
    host.datapath.as_mut().expect("on").ports.get_mut(&TAP).expect("an entry").flags &= !abi::Port::SECURED;
    for action in plan::plan_rules(&desired, &host, &placements) {
        apply(&mut host, &action);
    }
    let flags = host.datapath.expect("on").ports[&TAP].flags;
    assert!(flags & abi::Port::QOS != 0 && flags & abi::Port::SECURED != 0, "{flags}");
}
