//! Plans for VLAN networks, as `overlane plan` prints them: by the 8021q module, by eBPF, and what stands in the way.

use std::path::Path;

use overlane_core::{
    config::{Config, FastPath},
    desired::{Desired, Network},
    model::{NetworkId, Segment},
    observed::{DatapathState, KernelState, Link, LinkKind, Observed, Vlan},
    plan,
    topology::Topology,
};

use crate::simulated::{config, link, local_ip};

const NETWORK: &str = "971ffda2-e567-40a0-a2c8-b31a577fd4d3";
const OTHER: &str = "b0000000-0000-4000-8000-000000000000";
const NIC: u32 = 2;

fn desired_with(mtu: &str) -> Desired {
    let topology = format!(
        "[[hosts]]\nname = \"here\"\nlocal_ip = \"{}\"\n\
         [[networks]]\nid = \"{NETWORK}\"\nnetwork_type = \"vlan\"\nphysical_network = \"provider\"\n\
         segmentation_id = 100\n{mtu}\n\
         [[ports]]\nid = \"b1eaae00-e504-41f8-93a4-643687155bea\"\nnetwork_id = \"{NETWORK}\"\nhost = \"here\"\n\
         mac_address = \"fa:16:3e:81:1b:37\"\n",
        local_ip()
    );
    Topology::parse(Path::new("t.toml"), &topology).expect("valid").desired_for("here")
}

fn desired() -> Desired {
    desired_with("")
}

fn id(text: &str) -> NetworkId {
    NetworkId(text.parse().expect("valid"))
}

/// A host whose kernel has an 8021q module or not.
fn host(has_8021q: bool) -> Observed {
    let mut kernel = KernelState { has_8021q, ..KernelState::default() };
    kernel.links.insert(NIC, Link { up: true, ..link(NIC, "ens224", LinkKind::Other(String::new())) });
    Observed { kernel, datapath: Some(DatapathState::default()), ..Observed::default() }
}

fn with(mut host: Observed, links: impl IntoIterator<Item = Link>) -> Observed {
    host.kernel.links.extend(links.into_iter().map(|link| (link.ifindex, link)));
    host
}

fn bridge() -> Link {
    Link { up: true, ..link(3, "brq971ffda2-e5", LinkKind::Bridge) }
}

fn device(name: &str, kind: LinkKind) -> Link {
    Link { up: true, ..link(4, name, kind) }
}

fn tagged(nic: u32, vid: u32) -> LinkKind {
    LinkKind::Vlan(Vlan { nic: Some(nic), vid: vid.try_into().expect("valid"), is_8021ad: false })
}

fn ifb() -> LinkKind {
    LinkKind::Other(LinkKind::IFB.to_owned())
}

fn plan_with(desired: &Desired, host: &Observed, config: &Config) -> (Vec<String>, Vec<String>) {
    let plan = plan::plan(desired, host, config);
    (plan.actions.iter().map(ToString::to_string).collect(), plan.obstacles.iter().map(ToString::to_string).collect())
}

fn lines(host: &Observed) -> (Vec<String>, Vec<String>) {
    plan_with(&desired(), host, &config())
}

/// The one obstacle of the network, and nothing done about it.
fn expect_obstacle(host: &Observed, expected: &str) {
    let (actions, obstacles) = lines(host);
    assert_eq!(obstacles, [format!("network {NETWORK}: {expected}")]);
    assert!(
        !actions.iter().any(|action| action.contains("VLAN device") || action.starts_with("delete")),
        "{actions:?}"
    );
}

#[test]
fn a_bare_host_gets_a_device_of_the_8021q_module_where_there_is_one() {
    let (actions, obstacles) = lines(&host(true));
    assert_eq!(
        actions,
        [
            "create VLAN device ens224.100: VID 100 mtu 1500",
            "create bridge brq971ffda2-e5 for network 971ffda2-e567-40a0-a2c8-b31a577fd4d3",
        ]
    );
    assert_eq!(obstacles, [""; 0]);
}

#[test]
fn without_an_8021q_module_the_programs_tag_for_a_device_of_the_same_name() {
    let (actions, obstacles) = lines(&host(false));
    assert_eq!(
        actions,
        [
            "have ens224 take the frames for all MAC addresses",
            "create VLAN device ens224.100: VID 100 mtu 1500, tagged by eBPF because the kernel has no 8021q module",
            "create bridge brq971ffda2-e5 for network 971ffda2-e567-40a0-a2c8-b31a577fd4d3",
        ]
    );
    assert_eq!(obstacles, [""; 0]);
}

#[test]
fn what_connects_a_vlan_without_8021q_is_attached_before_what_makes_it_faster() {
    let made_for = Some(id(NETWORK));
    let device = Link { made_for, ..device("ens224.100", ifb()) };
    let tap = link(5, "tapb1eaae00-e5", LinkKind::Other("tun".to_owned()));
    let (actions, _) = lines(&with(host(false), [bridge(), device, tap]));
    assert_eq!(
        actions,
        [
            "have ens224 take the frames for all MAC addresses",
            "add ens224.100 to bridge brq971ffda2-e5",
            "set tapb1eaae00-e5 up",
            "add tapb1eaae00-e5 to bridge brq971ffda2-e5",
            "set networks[interface 3]",
            "set networks[interface 4]",
            "set fdb[network 1, fa:16:3e:81:1b:37]",
            "set sources[interface 5, fa:16:3e:81:1b:37, 0.0.0.0/0]",
            "set sources[interface 5, fa:16:3e:81:1b:37, ::/0]",
            "set ports[interface 5]",
            "set vlans[VID 100 on interface 2]",
            "set vlan_devices[interface 4]",
            "attach from_uplink to interface 2",
            "attach to_vlan to interface 4",
            "attach from_port to interface 5",
            "attach to_port to interface 5",
        ]
    );
}

#[test]
fn a_device_of_the_8021q_module_that_fits_is_adopted_whoever_made_it() {
    let (actions, obstacles) = lines(&with(host(false), [bridge(), device("ens224.100", tagged(NIC, 100))]));
    assert_eq!(obstacles, [""; 0]);
    assert!(actions.contains(&"add ens224.100 to bridge brq971ffda2-e5".to_owned()), "{actions:?}");
    assert!(!actions.iter().any(|action| action.contains("to_vlan") || action.contains("create")), "{actions:?}");
}

#[test]
fn a_renamed_nics_vlan_device_goes_on_under_its_old_name() {
    let old = Link { master: Some(3), ..device("eth5.100", tagged(NIC, 100)) };
    let (actions, obstacles) = lines(&with(host(true), [bridge(), old]));
    assert_eq!(obstacles, [""; 0]);
    assert!(actions.contains(&"set vlans[VID 100 on interface 2]".to_owned()), "{actions:?}");
    assert!(!actions.iter().any(|action| action.starts_with("create") || action.starts_with("delete")), "{actions:?}");
}

#[test]
fn a_device_of_the_right_name_that_is_something_else_is_named() {
    let nic = link(9, "ens256", LinkKind::Other(String::new()));
    let of_a_provider = LinkKind::Vlan(Vlan { nic: Some(NIC), vid: 100.try_into().expect("valid"), is_8021ad: true });
    let elsewhere = LinkKind::Vlan(Vlan { nic: None, vid: 100.try_into().expect("valid"), is_8021ad: false });
    let needed = "rename it, the name is needed for VID 100 on ens224";
    for (kind, expected) in [
        (tagged(NIC, 7), format!("ens224.100 has VID 7: {needed}")),
        (tagged(9, 100), format!("ens224.100 is on ens256: {needed}")),
        (elsewhere, format!("ens224.100 is on an interface of another namespace: {needed}")),
        (of_a_provider, format!("ens224.100 has tags of a provider's network (802.1ad): {needed}")),
        (
            LinkKind::Other("veth".to_owned()),
            "ens224.100 is a veth, but the name is needed for the VLAN device: rename or delete it".to_owned(),
        ),
    ] {
        expect_obstacle(&with(host(true), [nic.clone(), device("ens224.100", kind)]), &expected);
    }
}

#[test]
fn a_vid_that_another_device_of_the_nic_has_is_named() {
    let taken = with(host(true), [device("mgmt", tagged(NIC, 100))]);
    expect_obstacle(&taken, "VID 100 is used on ens224 by mgmt: rename it to ens224.100");
}

#[test]
fn without_the_fast_lane_and_without_8021q_there_is_no_vlan_and_a_reason() {
    let without_programs = |has_8021q| Observed { datapath: None, ..host(has_8021q) };
    assert!(lines(&without_programs(true)).0.iter().any(|action| action.starts_with("create VLAN device")));
    let need = "the kernel has no 8021q module, so that VLANs need eBPF, but";
    expect_obstacle(&without_programs(false), &format!("{need} the fast path is unavailable: see the agent's log"));
    let config = Config { fast_path: FastPath::Off, ..config() };
    let (actions, obstacles) = plan_with(&desired(), &without_programs(false), &config);
    assert_eq!(actions, [""; 0]);
    assert_eq!(obstacles, [format!("network {NETWORK}: {need} [overlane] fast_path is off")]);
}

#[test]
fn a_device_that_another_network_has_left_behind_goes_and_one_that_is_in_use_stays() {
    let others = || with(host(true), [Link { made_for: Some(id(OTHER)), ..device("ens224.100", tagged(NIC, 100)) }]);
    let (actions, obstacles) = lines(&others());
    assert_eq!((&actions[0], obstacles.len()), (&"delete ens224.100".to_owned(), 0));
    // Before everything is told, the other network may still be wanted.
    let incomplete = Desired { complete: false, ..desired() };
    let (actions, obstacles) = plan_with(&incomplete, &others(), &config());
    assert_eq!(obstacles, [format!("network {NETWORK}: VID 100 on ens224 belongs to network {OTHER} already")]);
    assert!(!actions.iter().any(|action| action.starts_with("delete")), "{actions:?}");
}

#[test]
fn two_networks_on_one_vlan_do_not_get_connected() {
    let mut desired = desired();
    let twin = desired.networks[&id(NETWORK)].clone();
    desired.networks.insert(id(OTHER), twin);
    let (actions, obstacles) = plan_with(&desired, &host(true), &config());
    assert_eq!(actions.iter().filter(|action| action.contains("VLAN device")).count(), 1, "{actions:?}");
    assert_eq!(obstacles, [format!("network {OTHER}: VID 100 on ens224 belongs to network {NETWORK} already")]);
    // Whose device is there is in the right, whatever the order.
    let made = with(host(true), [Link { made_for: Some(id(OTHER)), ..device("ens224.100", tagged(NIC, 100)) }]);
    let (_, obstacles) = plan_with(&desired, &made, &config());
    assert_eq!(obstacles, [format!("network {NETWORK}: VID 100 on ens224 belongs to network {OTHER} already")]);
}

#[test]
fn what_a_network_was_connected_by_before_its_vid_changed_goes() {
    let old = Link { made_for: Some(id(NETWORK)), master: Some(3), ..device("ens224.7", tagged(NIC, 7)) };
    let (actions, obstacles) = lines(&with(host(true), [bridge(), old]));
    assert_eq!(actions[..2], ["create VLAN device ens224.100: VID 100 mtu 1500", "delete ens224.7"]);
    assert_eq!(obstacles, [""; 0]);
}

#[test]
fn two_networks_can_exchange_their_vids() {
    let mut desired = desired();
    let segment = Segment::Vlan { physical_network: "provider".to_owned(), vid: 7.try_into().expect("valid") };
    let other = Network { segment, ..desired.networks[&id(NETWORK)].clone() };
    desired.networks.insert(id(OTHER), other);
    let mine = Link { made_for: Some(id(NETWORK)), ..device("ens224.7", tagged(NIC, 7)) };
    let theirs = Link { made_for: Some(id(OTHER)), ..link(5, "ens224.100", tagged(NIC, 100)) };
    let (actions, obstacles) = plan_with(&desired, &with(host(true), [mine, theirs]), &config());
    let deleted: Vec<&String> = actions.iter().filter(|action| action.starts_with("delete")).collect();
    assert_eq!(deleted, ["delete ens224.100", "delete ens224.7"]);
    assert_eq!(obstacles, [""; 0]);
}

#[test]
fn a_network_that_is_larger_than_its_nic_gets_what_fits_and_an_obstacle() {
    let (actions, obstacles) = plan_with(&desired_with("mtu = 9000"), &host(true), &config());
    assert_eq!(actions[0], "create VLAN device ens224.100: VID 100 mtu 1500");
    assert!(obstacles[0].contains("ens224 has MTU 1500, less than the network's 9000"), "{obstacles:?}");
    let (actions, obstacles) = plan_with(&desired_with("mtu = 1400"), &host(true), &config());
    assert_eq!((actions[0].as_str(), obstacles.len()), ("create VLAN device ens224.100: VID 100 mtu 1400", 0));
}
