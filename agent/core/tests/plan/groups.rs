//! Security groups of any kind, and the laws of what the plan makes of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net};
use overlane_abi as abi;
use overlane_core::{
    action::{Action, DatapathAction, KernelAction, MapEntry},
    desired::Desired,
    model::SecurityGroupId,
    observed::{DatapathState, KernelState, Link, LinkKind, Observed},
    plan,
    security::{
        Direction, Ethertype, Filter, Groups, PortRange, PortSecurity, Protocol, Remote, Rule, Rulebook, SecurityGroup,
        Traffic, sources,
    },
    topology::Topology,
};
use proptest::prelude::*;
use uuid::Uuid;

use crate::simulated::{apply, config, link, local_ip, reconcile};

/// What is to be asked of the ports of a host.
#[derive(Clone, Debug)]
pub(crate) struct Security {
    /// Without it, the control plane knows no groups.
    has_groups: bool,
    pub(crate) groups: Groups,
    /// By the last digit of a port's MAC address: open, or these groups.
    of_ports: Vec<Option<BTreeSet<u8>>>,
}

impl Security {
    pub(crate) fn apply(&self, mut desired: Desired) -> Desired {
        let ports = desired.networks.values_mut().flat_map(|network| network.local_ports.values_mut());
        for port in ports {
            let choice = &self.of_ports[usize::from(port.mac.0[5]) % self.of_ports.len()];
            let Some(groups) = choice else { continue };
            let groups = groups.iter().map(|number| group_id(*number)).collect();
            let sources = sources(port.mac, &port.addresses, []);
            port.security = PortSecurity::Enforced(Filter { sources, groups: self.has_groups.then_some(groups) });
        }
        desired.rulebook = self.rulebook_for(&desired);
        desired.closed_by_default = self.has_groups;
        desired
    }
}

impl Security {
    /// Other rules and members of the groups that ports have.
    pub(crate) fn rulebook_for(&self, desired: &Desired) -> Arc<Rulebook> {
        let ports = desired.networks.values().flat_map(|network| network.local_ports.values());
        let used: Vec<_> = ports.filter_map(|port| port.security.filter()?.groups.clone()).collect();
        Arc::new(Rulebook::new(self.groups.clone(), used))
    }
}

pub(crate) fn group_id(number: u8) -> SecurityGroupId {
    SecurityGroupId(Uuid::from_bytes([number + 1; 16]))
}

pub(crate) fn net(number: u8) -> IpNet {
    Ipv4Net::new(Ipv4Addr::new(10, number, 0, 0), 16 + number).expect("a short prefix").into()
}

pub(crate) fn any_security() -> impl Strategy<Value = Security> {
    let members = prop::collection::btree_set((0..6_u8).prop_map(net), 0..4);
    let group = (prop::collection::btree_set(any_rule(), 0..5), members, any::<bool>());
    let groups = prop::collection::vec(group, 3);
    let port = prop::option::of(prop::collection::btree_set(0..3_u8, 0..3));
    (groups, prop::collection::vec(port, 5), any::<bool>()).prop_map(|(groups, of_ports, has_groups)| {
        let groups = (0..).zip(groups).map(|(number, (rules, members, is_stateful))| {
            (group_id(number), SecurityGroup { rules, members, is_stateful, ..SecurityGroup::default() })
        });
        Security { has_groups, groups: Groups { security: groups.collect(), ..Groups::default() }, of_ports }
    })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let range = (any::<u16>(), any::<u16>()).prop_map(|(a, b)| PortRange::new(a.min(b), a.max(b)).expect("ordered"));
    let traffic = prop_oneof![
        Just(Traffic::Any),
        Just(Traffic::Protocol(Protocol::TCP)),
        range.prop_map(|range| Traffic::Ports(Protocol::TCP, range)),
        (any::<u8>(), any::<Option<u8>>()).prop_map(|(kind, code)| Traffic::Icmp { kind, code }),
    ];
    let remote = prop_oneof![
        Just(Remote::Any),
        (0..6_u8).prop_map(|number| Remote::Prefix(net(number))),
        (0..3_u8).prop_map(|number| Remote::Group(group_id(number))),
    ];
    let direction = prop::sample::select(Direction::ALL.to_vec());
    (direction, traffic, remote).prop_map(|(direction, traffic, remote)| Rule {
        direction,
        ethertype: Ethertype::IPv4,
        traffic,
        remote,
    })
}

const TOPOLOGY: &str = r#"
[[hosts]]
name = "here"
local_ip = "10.10.10.11"
[[networks]]
id = "971ffda2-e567-40a0-a2c8-b31a577fd4d3"
network_type = "local"
[[security_groups]]
id = "00000001-0000-4000-8000-000000000000"
name = "default"
[[security_groups.rules]]
direction = "ingress"
remote_group_id = "00000001-0000-4000-8000-000000000000"
[[ports]]
id = "b1eaae00-e504-41f8-93a4-643687155bea"
network_id = "971ffda2-e567-40a0-a2c8-b31a577fd4d3"
host = "here"
mac_address = "fa:16:3e:81:1b:37"
fixed_ips = ["10.0.0.1"]
"#;

const TAP: u32 = 5;

fn desired(text: &str) -> Desired {
    Topology::parse(std::path::Path::new("t.toml"), text).expect("valid").desired_for("here")
}

/// A host on which the tap of the port is there; libvirt may have put it into the bridge already.
fn host(bridge: Option<u32>) -> Observed {
    let mut kernel = KernelState::default();
    kernel.addresses.insert(2, [local_ip()].into());
    let kinds = [(2, "eth1", LinkKind::Other(String::new())), (3, "brq971ffda2-e5", LinkKind::Bridge)];
    for (ifindex, name, kind) in kinds {
        kernel.links.insert(ifindex, Link { up: true, ..link(ifindex, name, kind) });
    }
    let tap = Link { master: bridge, ..link(TAP, "tapb1eaae00-e5", LinkKind::Other("tun".to_owned())) };
    kernel.links.insert(TAP, tap);
    kernel.released = Some(BTreeSet::new());
    Observed { kernel, datapath: Some(DatapathState::default()), ..Observed::default() }
}

fn actions(desired: &Desired, host: &Observed) -> Vec<Action> {
    plan::plan(desired, host, &config()).actions
}

#[test]
fn a_tap_with_groups_is_neither_connected_nor_reachable_nor_released_before_its_programs_are_attached() {
    let desired = desired(TOPOLOGY);
    for bridge in [None, Some(3)] {
        let mut host = host(bridge);
        for action in actions(&desired, &host) {
            let opens = match &action {
                Action::Kernel(KernelAction::SetMaster { .. } | KernelAction::Release { .. }) => true,
                Action::Datapath(DatapathAction::Put(entry)) => matches!(entry, MapEntry::Fdb(..)),
                Action::Kernel(_) | Action::Datapath(_) => false,
            };
            assert!(!opens, "{action}");
        }
        reconcile(&desired, &mut host);
        assert_eq!(host.kernel.links[&TAP].master, Some(3));
        assert_eq!(host.kernel.released, Some([TAP].into()));
        assert_eq!(host.datapath.expect("on").fdb.len(), 1);
    }
}

/// Whether what its machine sends gets out, and what is for it gets in. Programs are loaded so that a port without an entry is
/// closed.
fn passes(host: &Observed) -> (bool, bool) {
    let maps = host.datapath.as_ref().expect("on");
    let through = |hook| !maps.attached.contains(&(hook, TAP)) || maps.ports.contains_key(&TAP);
    let tap = &host.kernel.links[&TAP];
    let is_released = host.kernel.released.as_ref().is_none_or(|released| released.contains(&TAP));
    let by_bridge = tap.master.is_some() && is_released;
    // What a program forwards never meets bridge and guard.
    let is_fast = maps.attached.contains(&(abi::Hook::FromPort, TAP)) && maps.ports.contains_key(&TAP);
    (is_fast || (by_bridge && through(abi::Hook::FromPort)), by_bridge && through(abi::Hook::ToPort))
}

/// Takes the steps to what is desired one by one, and looks after each of them.
fn step_by_step(desired: &Desired, host: &mut Observed, look: impl Fn(&Observed, &Action)) {
    for _ in 0..4 {
        for action in actions(desired, host) {
            apply(host, &action);
            look(host, &action);
        }
    }
    assert_eq!(actions(desired, host), []);
}

#[test]
fn a_machine_with_groups_is_not_heard_before_it_can_be_answered_nor_without_its_filters() {
    let desired = desired(TOPOLOGY);
    // Connected by us, or by libvirt; with a guard, or on a host that is about to get one.
    for (bridge, guard) in [(None, Some(BTreeSet::new())), (Some(3), Some(BTreeSet::new())), (None, None)] {
        let mut host = host(bridge);
        host.kernel.released = guard;
        step_by_step(&desired, &mut host, |host, action| {
            let (sends, receives) = passes(host);
            assert!(!sends || receives, "{bridge:?}: it could be heard only, after: {action}");
            let is_filtered = host.datapath.as_ref().expect("on").is_filtered(TAP);
            assert!(is_filtered || !(sends || receives), "{bridge:?}: it was open after: {action}");
        });
        assert_eq!(passes(&host), (true, true));
    }
}

#[test]
fn a_machine_that_is_heard_already_is_heard_and_answered_at_every_step_on_its_way_to_its_filters() {
    let desired = desired(TOPOLOGY);
    // The host had no guard so far, or an older agent's, whose maps are not ours to read.
    for guard in [None, Some([TAP].into())] {
        let mut host = host(Some(3));
        host.kernel.released = guard;
        assert_eq!(passes(&host), (true, true));
        step_by_step(&desired, &mut host, |host, action| assert_eq!(passes(host), (true, true), "{action}"));
        assert!(host.datapath.expect("on").is_filtered(TAP));
    }
}

#[test]
fn a_port_held_to_no_rule_of_a_topology_without_groups_has_its_entry_before_its_programs() {
    let (networks, ports) = TOPOLOGY.split_once("[[security_groups]]").expect("its groups");
    let ports =
        ports.split_once("[[ports]]").expect("its port").1.replace("fixed_ips", "security_groups = []\nfixed_ips");
    let desired = desired(&format!("{networks}[[ports]]{ports}"));
    assert!(!desired.closed_by_default);
    let mut host = Observed { kernel: KernelState { released: None, ..host(None).kernel }, ..host(None) };
    step_by_step(&desired, &mut host, |host, action| {
        let maps = host.datapath.as_ref().expect("on");
        assert!(maps.attached.is_empty() || maps.ports.contains_key(&TAP), "{action}");
        assert!(host.kernel.links[&TAP].master.is_none() || maps.is_filtered(TAP), "{action}");
    });
}

#[test]
fn of_many_ports_each_is_complete_before_the_programs_of_the_next_are_attached() {
    let second = TOPOLOGY.split_once("[[ports]]").expect("its port").1.replace("b1eaae00", "b1eaae01");
    let desired =
        desired(&format!("{TOPOLOGY}[[ports]]{}", second.replace("1b:37", "1b:38").replace("0.0.1", "0.0.2")));
    let mut host = host(Some(3));
    host.kernel.links.insert(6, Link { master: Some(3), ..link(6, "tapb1eaae01-e5", LinkKind::Other(String::new())) });
    let attached = actions(&desired, &host).into_iter().filter_map(|action| match action {
        Action::Datapath(DatapathAction::Attach { ifindex, .. }) => Some(ifindex),
        _ => None,
    });
    assert_eq!(attached.take(4).collect::<Vec<u32>>(), [TAP, TAP, 6, 6]);
}

#[test]
fn a_tap_whose_port_has_left_is_closed_before_its_programs_go() {
    let mut host = host(None);
    reconcile(&desired(TOPOLOGY), &mut host);
    let gone = desired(TOPOLOGY.split("[[ports]]").next().expect("the rest"));
    let actions = actions(&gone, &host);
    let place = |wanted: fn(&Action) -> bool| actions.iter().position(wanted).expect("planned");
    let closes = place(|action| matches!(action, Action::Kernel(KernelAction::Close { ifindex: TAP, .. })));
    let detaches = place(|action| matches!(action, Action::Datapath(DatapathAction::Detach { .. })));
    assert!(closes < detaches, "{actions:?}");
    // Without a guard, only its programs keep it closed.
    host.kernel.released = None;
    let detaches = |action: &Action| matches!(action, Action::Datapath(DatapathAction::Detach { .. }));
    assert!(!plan::plan(&gone, &host, &config()).actions.iter().any(detaches));
}

#[test]
fn a_new_guard_cuts_off_no_tap_that_was_connected_before() {
    let desired = desired(TOPOLOGY);
    let mut host = host(Some(3));
    host.kernel.released = None;
    let created = |host: &Observed| {
        actions(&desired, host).into_iter().find_map(|action| match action {
            Action::Kernel(KernelAction::CreateGuard { released }) => Some(released),
            _ => None,
        })
    };
    assert_eq!(created(&host), Some([TAP].into()));
    // Somebody flushes the rules of a host whose ports are filtered: a tap that has appeared since is not let through.
    reconcile(&desired, &mut host);
    host.kernel.released = None;
    host.kernel.links.insert(6, Link { master: Some(3), ..link(6, "tapb1eaae01-e5", LinkKind::Other(String::new())) });
    assert_eq!(created(&host), Some([TAP].into()));
}

#[test]
fn without_ebpf_a_port_with_groups_stays_closed_and_says_why() {
    let host = Observed { datapath: None, ..host(None) };
    let plan = plan::plan(&desired(TOPOLOGY), &host, &config());
    let connects = |action: &Action| matches!(action, Action::Kernel(KernelAction::SetMaster { .. }));
    assert!(!plan.actions.iter().any(connects), "{:?}", plan.actions);
    assert!(plan.obstacles.iter().any(|obstacle| obstacle.message.contains("stays closed")), "{:?}", plan.obstacles);
}

/// The changes of maps that lead from one topology to another.
fn changes(before: &str, after: &str) -> Vec<String> {
    let mut host = host(None);
    reconcile(&desired(before), &mut host);
    actions(&desired(after), &host).iter().map(ToString::to_string).collect()
}

fn with_member(address: &str) -> String {
    TOPOLOGY.to_owned()
        + &format!(
            "[[ports]]\nid = \"b1eaae00-0000-41f8-93a4-643687155bea\"\n\
             network_id = \"971ffda2-e567-40a0-a2c8-b31a577fd4d3\"\nmac_address = \"fa:16:3e:81:1b:38\"\n\
             fixed_ips = [\"{address}\"]\n"
        )
}

#[test]
fn a_member_that_joins_is_one_entry_and_one_that_leaves_one_deletion_and_a_new_generation() {
    assert_eq!(changes(TOPOLOGY, &with_member("10.0.0.2")), ["set members[set 1, 10.0.0.2/32]"]);
    assert_eq!(changes(&with_member("10.0.0.2"), TOPOLOGY), ["delete members[set 1, 10.0.0.2/32]", "set generation"]);
}

/// The port's entry before and after.
fn port_entries(before: &str, after: &str) -> (abi::Port, abi::Port) {
    let mut host = host(None);
    let mut entry = |text: &str| {
        reconcile(&desired(text), &mut host);
        host.datapath.as_ref().expect("on").ports[&TAP]
    };
    (entry(before), entry(after))
}

#[test]
fn flows_are_judged_again_when_something_was_taken_away_and_only_then() {
    let rule = "[[security_groups.rules]]\ndirection = \"egress\"\n";
    let more = TOPOLOGY.replace("[[security_groups.rules]]", &format!("{rule}[[security_groups.rules]]"));
    let (before, after) = port_entries(TOPOLOGY, &more);
    assert_ne!(before.policy, after.policy);
    assert_eq!(before.revision, after.revision, "a rule was added");
    let (before, after) = port_entries(&more, TOPOLOGY);
    assert!(before.revision < after.revision, "a rule was removed");
    let address = "fixed_ips = [\"10.0.0.1\", \"10.0.0.9\"]";
    let two = TOPOLOGY.replace("fixed_ips = [\"10.0.0.1\"]", address);
    let (before, after) = port_entries(TOPOLOGY, &two);
    assert_eq!(before.revision, after.revision, "an address was added");
    let (before, after) = port_entries(&two, TOPOLOGY);
    assert!(before.revision < after.revision, "an address was removed");
    let group = TOPOLOGY.replace("fixed_ips", "security_groups = []\nfixed_ips");
    let (before, after) = port_entries(TOPOLOGY, &group);
    assert!(before.revision < after.revision, "a group was removed");
}

#[test]
fn addresses_that_a_port_may_not_use_any_more_go_before_its_entry_says_so() {
    let address = "fixed_ips = [\"10.0.0.1\", \"10.0.0.9\"]";
    let two = TOPOLOGY.replace("fixed_ips = [\"10.0.0.1\"]", address);
    let changes = changes(&two, TOPOLOGY);
    assert_eq!(
        changes,
        [
            "delete sources[interface 5, fa:16:3e:81:1b:37, 10.0.0.9/32]",
            "set ports[interface 5]",
            "delete members[set 1, 10.0.0.9/32]",
            "set generation",
        ]
    );
}

proptest! {
    #[test]
    fn maps_of_security_follow_any_change_of_groups(first in any_security(), second in any_security()) {
        let base = desired(TOPOLOGY.split("[[security_groups]]").next().expect("the networks"));
        prop_assert!(base.networks.is_empty());
        let port = desired(TOPOLOGY);
        let mut host = host(None);
        let mut revisions: BTreeMap<u32, u32> = BTreeMap::new();
        for security in [&first, &second, &first] {
            let desired = Desired { complete: true, ..security.apply(port.clone()) };
            reconcile(&desired, &mut host);
            let datapath = host.datapath.as_ref().expect("on");
            let state = &datapath.security;
            // Every address of every set that rules name is there, and nothing else.
            let wanted: usize = desired.rulebook.sets.values().map(BTreeMap::len).sum();
            prop_assert_eq!(state.members.values().map(BTreeMap::len).sum::<usize>(), wanted);
            prop_assert_eq!(state.sets.len(), desired.rulebook.sets.len());
            prop_assert_eq!(state.policies.len(), desired.rulebook.policies.len());
            for (tap, entry) in &datapath.ports {
                let before = revisions.insert(*tap, entry.revision).unwrap_or_default();
                prop_assert!(before <= entry.revision);
            }
        }
    }
}
