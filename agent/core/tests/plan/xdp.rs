//! What is planned for XDP: which uplinks and taps take packets by it, and which devices it may send by.

use std::path::Path;

use overlane_abi::Hook;
use overlane_core::{
    config::{Config, UplinkLane, UplinkLanes},
    desired::Desired,
    observed::{DatapathState, LinkKind, Observed},
    plan::{self, Plan},
    topology::Topology,
    xdp::{XdpDevice, XdpFeatures},
};

use crate::simulated::{apply, config, link};

const NIC: u32 = 2;
const TAP: u32 = 5;
const OTHER_TAP: u32 = 6;
const NETWORK: &str = "971ffda2-e567-40a0-a2c8-b31a577fd4d3";

/// Two ports of a VXLAN network, of which the first is so.
fn desired(first: &str) -> Desired {
    let port = |id: &str, mac: &str, more: &str| {
        format!(
            "[[ports]]\nid = \"{id}\"\nnetwork_id = \"{NETWORK}\"\nhost = \"here\"\nmac_address = \"{mac}\"\n{more}\n"
        )
    };
    let text = format!(
        "[[hosts]]\nname = \"here\"\nlocal_ip = \"10.10.10.11\"\n\
         [[networks]]\nid = \"{NETWORK}\"\nnetwork_type = \"vxlan\"\nsegmentation_id = 7\n{}{}\
         [[qos_policies]]\nid = \"{NETWORK}\"\n\
         [[qos_policies.rules]]\ntype = \"bandwidth_limit\"\nmax_kbps = 20000\ndirection = \"ingress\"\n",
        port("b1eaae00-e504-41f8-93a4-643687155bea", "fa:16:3e:81:1b:37", first),
        port("c2eaae00-e504-41f8-93a4-643687155bea", "fa:16:3e:81:1b:38", ""),
    );
    Topology::parse(Path::new("t.toml"), &text).expect("valid").desired_for("here")
}

fn features() -> XdpFeatures {
    XdpFeatures { runs: true, redirects: true, sends: true, hides_tags: false, driver: "veth".to_owned() }
}

/// A host on which everything can do everything.
fn host() -> Observed {
    let mut host = Observed { datapath: Some(DatapathState::default()), ..Observed::default() };
    for (ifindex, name) in [(NIC, "eth0"), (TAP, "tapb1eaae00-e5"), (OTHER_TAP, "tapc2eaae00-e5")] {
        host.kernel.links.insert(ifindex, link(ifindex, name, LinkKind::Other("veth".to_owned())));
        host.kernel.xdp.insert(ifindex, features());
    }
    host.kernel.addresses.insert(NIC, [config().local_ip().expect("tunnels")].into());
    host
}

fn with_lane(lane: UplinkLane) -> Config {
    Config { uplink_lanes: UplinkLanes { default: lane, ..UplinkLanes::default() }, ..config() }
}

/// Plans and applies until nothing is left; the last plan has the detours.
fn settle(desired: &Desired, host: &mut Observed, config: &Config) -> Plan {
    loop {
        let plan = plan::plan(desired, host, config);
        if plan.actions.is_empty() {
            return plan;
        }
        plan.actions.iter().for_each(|action| apply(host, action));
    }
}

fn maps(host: &Observed) -> &DatapathState {
    host.datapath.as_ref().expect("on")
}

#[test]
fn without_asking_nothing_uses_xdp() {
    let mut host = host();
    assert_eq!(settle(&desired(""), &mut host, &config()).detours, []);
    assert!(!maps(&host).attached.iter().any(|(hook, _)| hook.is_xdp()));
    assert!(maps(&host).xdp_devices.is_empty());
}

#[test]
fn an_uplink_takes_packets_by_xdp_and_taps_are_sent_what_is_admitted() {
    let mut host = host();
    settle(&desired(""), &mut host, &with_lane(UplinkLane::Xdp));
    assert!(maps(&host).attached.contains(&(Hook::FromUplinkXdp, NIC)));
    assert!(maps(&host).attached.contains(&(Hook::FromUplink, NIC)), "the TC lane takes the rest");
    let expected = [(NIC, XdpDevice::Open), (TAP, XdpDevice::Admitted), (OTHER_TAP, XdpDevice::Admitted)];
    assert_eq!(maps(&host).xdp_devices, expected.into());
    settle(&desired(""), &mut host, &config());
    assert!(maps(&host).xdp_devices.is_empty() && !maps(&host).attached.contains(&(Hook::FromUplinkXdp, NIC)));
}

#[test]
fn a_nic_without_native_xdp_is_named_with_the_reason_and_the_tc_lane_carries_on() {
    let mut host = host();
    host.kernel.xdp.insert(NIC, XdpFeatures { redirects: false, driver: "e1000e".to_owned(), ..features() });
    let plan = settle(&desired(""), &mut host, &with_lane(UplinkLane::Xdp));
    let detours: Vec<String> = plan.detours.iter().map(ToString::to_string).collect();
    assert_eq!(
        detours,
        ["host: uplink_lane of eth0 cannot be xdp: its driver (e1000e) has no native XDP that redirects"]
    );
    assert!(maps(&host).attached.contains(&(Hook::FromUplink, NIC)));
    assert!(!maps(&host).attached.contains(&(Hook::FromUplinkXdp, NIC)));
}

#[test]
fn a_port_that_asks_for_it_sends_by_xdp_whatever_the_uplink_does() {
    let mut host = host();
    settle(&desired("from_port_xdp = true"), &mut host, &config());
    let attached: Vec<_> = maps(&host).attached.iter().filter(|(hook, _)| hook.is_xdp()).collect();
    assert_eq!(attached, [&(Hook::FromPortXdp, TAP)]);
    assert_eq!(maps(&host).xdp_devices.len(), 3);
    host.kernel.xdp.insert(TAP, XdpFeatures { runs: false, ..features() });
    let plan = plan::plan(&desired("from_port_xdp = true"), &host, &config());
    assert!(plan.detours[0].to_string().contains("from_port_xdp is not possible"), "{:?}", plan.detours);
}

#[test]
fn what_xdp_cannot_reach_or_must_not_pass_by_is_left_to_the_tc_lane() {
    let mut host = host();
    host.kernel.xdp.insert(OTHER_TAP, XdpFeatures { sends: false, ..features() });
    let limited = desired(&format!("qos_policy_id = \"{NETWORK}\""));
    settle(&limited, &mut host, &with_lane(UplinkLane::Xdp));
    assert_eq!(maps(&host).xdp_devices, [(NIC, XdpDevice::Open)].into());
}

#[test]
fn after_a_restart_taps_are_handed_to_the_program_of_the_new_agent() {
    let mut host = host();
    let config = with_lane(UplinkLane::Xdp);
    settle(&desired(""), &mut host, &config);
    host.datapath.as_mut().expect("on").xdp_devices.insert(TAP, XdpDevice::Outdated);
    let steps: Vec<String> = plan::plan(&desired(""), &host, &config).actions.iter().map(ToString::to_string).collect();
    assert_eq!(steps, ["set xdp_devices[interface 5]"]);
}

#[test]
fn before_the_control_plane_has_told_everything_nothing_is_taken_away() {
    let mut host = host();
    let config = with_lane(UplinkLane::Xdp);
    settle(&desired(""), &mut host, &config);
    let unheard = Desired { complete: false, ..Desired::default() };
    assert_eq!(plan::plan(&unheard, &host, &config).actions, []);
}
