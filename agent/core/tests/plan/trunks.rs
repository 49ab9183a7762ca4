//! Plans for subports of trunks, as `overlane plan` prints them: by the 8021q module, by eBPF, what they leave, and what stands in
//! the way.

use std::path::Path;

use overlane_abi as abi;
use overlane_core::{
    config::{Config, FastPath},
    desired::Desired,
    model::PortId,
    observed::{DatapathState, KernelState, Link, LinkKind, Observed, Vlan},
    plan,
    topology::Topology,
};

use crate::simulated::{apply, config, link, local_ip, reconcile};

const PARENT: &str = "b1eaae00-e504-41f8-93a4-643687155bea";
const SUB_PORT: &str = "c2eaae00-e504-41f8-93a4-643687155bea";
const PARENT_TAP: &str = "tapb1eaae00-e5";
const SUB_TAP: &str = "tapc2eaae00-e5";
const TAP: u32 = 4;
const DEVICE: u32 = 5;

/// A port whose trunk has a subport with VID 101, both in local networks; `groups` is more of the file.
fn desired_with(groups: &str) -> Desired {
    let topology = format!(
        "[[hosts]]\nname = \"here\"\nlocal_ip = \"{}\"\n\
         [[networks]]\nid = \"971ffda2-e567-40a0-a2c8-b31a577fd4d3\"\nnetwork_type = \"local\"\nmtu = 1500\n\
         [[networks]]\nid = \"a71ffda2-e567-40a0-a2c8-b31a577fd4d3\"\nnetwork_type = \"local\"\nmtu = 1500\n\
         [[ports]]\nid = \"{PARENT}\"\nnetwork_id = \"971ffda2-e567-40a0-a2c8-b31a577fd4d3\"\nhost = \"here\"\n\
         mac_address = \"fa:16:3e:81:1b:37\"\n\
         [[ports]]\nid = \"{SUB_PORT}\"\nnetwork_id = \"a71ffda2-e567-40a0-a2c8-b31a577fd4d3\"\n\
         mac_address = \"fa:16:3e:81:1b:38\"\n\
         [[trunks]]\nid = \"d3eaae00-e504-41f8-93a4-643687155bea\"\nport_id = \"{PARENT}\"\n\
         sub_ports = [{{ port_id = \"{SUB_PORT}\", segmentation_type = \"vlan\", segmentation_id = 101 }}]\n{groups}",
        local_ip()
    );
    Topology::parse(Path::new("t.toml"), &topology).expect("valid").desired_for("here")
}

fn desired() -> Desired {
    desired_with("")
}

fn without_trunk() -> Desired {
    Desired { sub_ports: [].into(), ..desired() }
}

fn parent() -> PortId {
    PortId(PARENT.parse().expect("valid"))
}

/// A host with the tap of the trunk's port, whose kernel has an 8021q module or not.
fn host(has_8021q: bool) -> Observed {
    let mut kernel = KernelState { has_8021q, ..KernelState::default() };
    kernel.links.insert(TAP, Link { up: true, ..link(TAP, PARENT_TAP, LinkKind::Other("tun".to_owned())) });
    Observed { kernel, datapath: Some(DatapathState::default()), ..Observed::default() }
}

fn with(mut host: Observed, link: Link) -> Observed {
    host.kernel.links.insert(link.ifindex, link);
    host
}

fn tagged(on: u32, vid: u32) -> LinkKind {
    LinkKind::Vlan(Vlan { nic: Some(on), vid: vid.try_into().expect("valid"), is_8021ad: false })
}

fn ifb(made_for_trunk: Option<PortId>) -> Link {
    Link { made_for_trunk, ..link(DEVICE, SUB_TAP, LinkKind::Other(LinkKind::IFB.to_owned())) }
}

fn plan_with(desired: &Desired, host: &Observed, config: &Config) -> (Vec<String>, Vec<String>) {
    let plan = plan::plan(desired, host, config);
    (plan.actions.iter().map(ToString::to_string).collect(), plan.obstacles.iter().map(ToString::to_string).collect())
}

/// What is done to the device of the subport, and what stands in the way of it.
fn about_device(desired: &Desired, host: &Observed) -> (Vec<String>, Vec<String>) {
    let (actions, obstacles) = plan_with(desired, host, &config());
    (actions.into_iter().filter(|action| action.contains(SUB_TAP)).collect(), obstacles)
}

fn obstacle(message: &str) -> Vec<String> {
    vec![format!("port {SUB_PORT}: {message}")]
}

#[test]
fn a_subport_gets_a_device_on_the_tap_of_its_trunk_once_that_is_there() {
    let on = |has_8021q| about_device(&desired(), &host(has_8021q));
    assert_eq!(on(true).0, [format!("create VLAN device {SUB_TAP} on {PARENT_TAP}, for a subport: VID 101 mtu 1500")]);
    let by_programs = "tagged by eBPF because the kernel has no 8021q module";
    assert_eq!(
        on(false).0,
        [format!("create VLAN device {SUB_TAP} on {PARENT_TAP}, for a subport: VID 101 mtu 1500, {by_programs}")]
    );
    let mut bare = host(true);
    bare.kernel.links.clear();
    assert_eq!(about_device(&desired(), &bare), (vec![], vec![]));
}

#[test]
fn a_subports_device_is_connected_like_a_tap_and_the_maps_say_whose_its_tag_is() {
    for has_8021q in [true, false] {
        let mut host = host(has_8021q);
        reconcile(&desired(), &mut host);
        let device = host.kernel.link_named(SUB_TAP).expect("made").clone();
        assert!(device.up && device.master == host.kernel.link_named("brqa71ffda2-e5").map(|bridge| bridge.ifindex));
        let maps = host.datapath.as_ref().expect("a fast lane");
        let flags = |ifindex: u32| maps.ports[&ifindex].flags & (abi::Port::TRUNK | abi::Port::SUBPORT);
        assert_eq!((flags(TAP), flags(device.ifindex)), (abi::Port::TRUNK, abi::Port::SUBPORT));
        let id = abi::VlanId::new(TAP, 101);
        let entered = if has_8021q { 0 } else { device.ifindex };
        assert_eq!(maps.vlans, [(id, abi::Vlan { network: 0, device: entered })].into());
        assert_eq!(maps.vlan_devices, if has_8021q { [].into() } else { [(device.ifindex, id)].into() });
        for hook in [abi::Hook::FromPort, abi::Hook::ToPort] {
            assert!(maps.attached.contains(&(hook, device.ifindex)) && maps.attached.contains(&(hook, TAP)));
        }
        // Without its trunk, nothing of it is left.
        reconcile(&without_trunk(), &mut host);
        let maps = host.datapath.as_ref().expect("a fast lane");
        assert!(host.kernel.link_named(SUB_TAP).is_none() && maps.vlans.is_empty() && maps.vlan_devices.is_empty());
        assert_eq!(maps.ports[&TAP].flags & abi::Port::TRUNK, 0);
    }
}

#[test]
fn before_everything_has_been_told_nothing_of_a_trunk_is_taken_away() {
    let mut host = host(false);
    reconcile(&desired(), &mut host);
    // As after a restart: the trunk's port is known already, its trunk is not.
    let mut part = Desired { complete: false, ..without_trunk() };
    part.networks.retain(|id, _| id.to_string().starts_with('9'));
    let (actions, _) = plan_with(&part, &host, &config());
    assert_eq!(actions, [""; 0]);
}

#[test]
fn what_the_linux_bridge_agent_has_made_is_adopted_and_what_it_has_left_goes() {
    let device = |kind| link(DEVICE, SUB_TAP, kind);
    let adopted = with(host(true), device(tagged(TAP, 101)));
    let (actions, obstacles) = about_device(&desired(), &adopted);
    assert_eq!(obstacles, [""; 0]);
    assert!(
        !actions.iter().any(|action| action.starts_with("create VLAN") || action.starts_with("delete")),
        "{actions:?}"
    );
    for left in [tagged(TAP, 102), tagged(TAP, 101)] {
        let desired = if left == tagged(TAP, 101) { without_trunk() } else { desired() };
        let (actions, _) = about_device(&desired, &with(host(true), device(left)));
        assert_eq!(actions, [format!("delete {SUB_TAP}")]);
    }
}

#[test]
fn a_device_that_the_programs_tag_for_goes_when_the_tap_of_its_trunk_does() {
    let mut alone = with(host(false), ifb(Some(parent())));
    alone.kernel.links.remove(&TAP);
    for complete in [true, false] {
        let (actions, _) = about_device(&Desired { complete, ..desired() }, &alone);
        assert_eq!(actions, [format!("delete {SUB_TAP}")]);
    }
}

#[test]
fn purge_takes_the_devices_of_subports_away() {
    let mut host = host(false);
    reconcile(&desired(), &mut host);
    let actions: Vec<String> = plan::purge(&host.kernel, &config()).iter().map(ToString::to_string).collect();
    assert!(actions.contains(&format!("delete {SUB_TAP}")), "{actions:?}");
}

#[test]
fn a_device_that_is_in_the_way_is_named_and_nobody_touches_it() {
    let named = |kind: &str| LinkKind::Other(kind.to_owned());
    for (in_the_way, what) in [
        (link(DEVICE, SUB_TAP, LinkKind::Bridge), "bridge"),
        (link(DEVICE, SUB_TAP, named("tun")), "tun"),
        (ifb(None), "device of kind ifb"),
    ] {
        let (actions, obstacles) = about_device(&desired(), &with(host(true), in_the_way));
        let need =
            format!("but the name is needed for the VLAN device of a subport on {PARENT_TAP}: rename or delete it");
        assert_eq!(obstacles, obstacle(&format!("{SUB_TAP} is a {what}, {need}")));
        assert_eq!(actions, [""; 0]);
    }
    let other = link(DEVICE, "mine", tagged(TAP, 101));
    let (actions, obstacles) = about_device(&desired(), &with(host(true), other));
    assert_eq!(obstacles, obstacle(&format!("VID 101 is used on {PARENT_TAP} by mine: delete it")));
    assert_eq!(actions, [""; 0]);
}

#[test]
fn without_8021q_and_without_ebpf_a_subport_is_not_connected_and_the_plan_says_why() {
    let off = Config { fast_path: FastPath::Off, ..config() };
    let bare = Observed { datapath: None, ..host(false) };
    let (_, obstacles) = plan_with(&desired(), &bare, &off);
    let need = "the kernel has no 8021q module, so that subports need eBPF, but [overlane] fast_path is off";
    assert_eq!(obstacles, obstacle(need));
    let (_, obstacles) = plan_with(&desired(), &with(bare, ifb(Some(parent()))), &config());
    let need = "sends and receives by eBPF, but the fast path is unavailable: see the agent's log";
    assert_eq!(obstacles, obstacle(&format!("{SUB_TAP} {need}")));
}

#[test]
fn a_subport_has_no_room_for_more_than_the_tap_of_its_trunk_and_is_not_up_before_it() {
    let mut host = host(true);
    reconcile(&desired(), &mut host);
    let mut narrow = desired();
    let of_parent = narrow.networks.values_mut().next().expect("a network");
    (of_parent.mtu, of_parent.local_ports.values_mut().next().expect("a port").admin_state_up) = (Some(1400), false);
    reconcile(&narrow, &mut host);
    let device = host.kernel.link_named(SUB_TAP).expect("it is there");
    assert_eq!(device.mtu, 1400);
    let (_, obstacles) = plan_with(&narrow, &host, &config());
    assert!(obstacles[0].contains("has MTU 1400, less than the network's 1500"), "{obstacles:?}");
    // As the kernel does it with all that is on a tap.
    let ifindex = device.ifindex;
    host.kernel.links.get_mut(&ifindex).expect("it is there").up = false;
    let (actions, _) = about_device(&narrow, &host);
    assert_eq!(actions, [""; 0]);
}

#[test]
fn a_subport_with_security_groups_is_released_by_the_guard_whatever_makes_its_device() {
    let group = "[[security_groups]]\nid = \"0c6f2a52-6a1d-4e0b-9a49-6f5f0a7c1d01\"\nname = \"default\"\n";
    for has_8021q in [true, false] {
        let mut host = host(has_8021q);
        reconcile(&desired_with(group), &mut host);
        let device = host.kernel.link_named(SUB_TAP).expect("made");
        assert!(device.master.is_some() && host.kernel.released.as_ref().expect("a guard").contains(&device.ifindex));
    }
}

#[test]
fn other_rules_of_security_groups_leave_trunks_and_subports_what_they_are() {
    let group = "[[security_groups]]\nid = \"0c6f2a52-6a1d-4e0b-9a49-6f5f0a7c1d01\"\nname = \"default\"\n";
    let rule = "[[security_groups.rules]]\nid = \"1d6f2a52-6a1d-4e0b-9a49-6f5f0a7c1d01\"\ndirection = \"ingress\"\nethertype = \"IPv4\"\n";
    let (before, after) = (desired_with(&format!("{group}{rule}")), desired_with(group));
    for has_8021q in [true, false] {
        let mut host = host(has_8021q);
        reconcile(&before, &mut host);
        let flags = |host: &Observed| -> Vec<u16> {
            let ports = &host.datapath.as_ref().expect("a fast lane").ports;
            ports.values().map(|port| port.flags & (abi::Port::TRUNK | abi::Port::SUBPORT)).collect()
        };
        let were = flags(&host);
        assert_eq!(were.iter().fold(0, |all, flags| all | flags), abi::Port::TRUNK | abi::Port::SUBPORT);
        let placements = plan::plan(&after, &host, &config()).placements;
        let actions = plan::plan_rules(&after, &host, &placements);
        assert!(actions.iter().any(|action| action.to_string().starts_with("set ports")), "{actions:?}");
        for action in actions {
            apply(&mut host, &action);
        }
        assert_eq!(flags(&host), were);
    }
}

#[test]
fn what_a_subports_machine_receives_is_not_limited_without_8021q_and_the_plan_says_so() {
    let policy = "[[qos_policies]]\nid = \"8b4dc3b2-0d0c-4d8e-9f6d-6f5f0a7c1d01\"\n\
                  [[qos_policies.rules]]\ntype = \"bandwidth_limit\"\nmax_kbps = 1000\ndirection = \"ingress\"\n";
    let mut limited = desired_with(policy);
    let wanted = Topology::parse(
        Path::new("t.toml"),
        &format!("[[hosts]]\nname = \"here\"\nlocal_ip = \"{}\"\n{policy}", local_ip()),
    )
    .expect("valid");
    let sub_port = limited.networks.values_mut().last().and_then(|network| network.local_ports.values_mut().next());
    sub_port.expect("the subport").qos = wanted.qos_policies[0].qos;
    for (has_8021q, has_obstacle) in [(true, false), (false, true)] {
        let mut host = host(has_8021q);
        reconcile(&limited, &mut host);
        let (_, obstacles) = plan_with(&limited, &host, &config());
        assert_eq!(obstacles.iter().any(|obstacle| obstacle.contains("past queueing disciplines")), has_obstacle);
        assert_eq!(host.kernel.qdiscs.is_empty(), has_obstacle);
    }
}
