//! Taps that libvirt may be about to put into their bridge.

use overlane_core::{
    config::{ComputeTaps, Config},
    desired::{Desired, LocalPort, Network},
    model::{Mac, NetworkId, PortId, Segment},
    observed::{KernelState, Link, LinkKind, Observed},
    plan::{self, Plan},
    qos::Qos,
    security::PortSecurity,
};
use uuid::Uuid;

use crate::simulated::{config, link};

const BRIDGE: u32 = 3;
const TAP: u32 = 4;

fn desired(device_owner: &str) -> Desired {
    let port = LocalPort {
        mac: Mac([2; 6]),
        addresses: Vec::new(),
        admin_state_up: true,
        device_owner: device_owner.to_owned(),
        security: PortSecurity::Open,
        qos: Qos::default(),
        from_port_xdp: false,
    };
    let network = Network {
        name: "net".to_owned(),
        segment: Segment::Local,
        mtu: None,
        local_ports: [(PortId(Uuid::nil()), port)].into(),
        remote_macs: [].into(),
        moving_macs: [].into(),
        has_unknown_members: false,
        flood: [].into(),
        neighbors: [].into(),
    };
    Desired { complete: true, networks: [(NetworkId(Uuid::nil()), network)].into(), ..Desired::default() }
}

fn host(up: bool, master: Option<u32>) -> Observed {
    let bridge = Link { up: true, ..link(BRIDGE, &NetworkId(Uuid::nil()).bridge_name(), LinkKind::Bridge) };
    let tap = link(TAP, &PortId(Uuid::nil()).tap_name(), LinkKind::Other("tun".to_owned()));
    let links = [(BRIDGE, bridge), (TAP, Link { up, master, ..tap })];
    Observed { kernel: KernelState { links: links.into(), ..KernelState::default() }, ..Observed::default() }
}

const CONNECT: &[&str] = &["add tap00000000-00 to bridge brq00000000-00"];
const SET_UP_AND_CONNECT: &[&str] = &["set tap00000000-00 up", "add tap00000000-00 to bridge brq00000000-00"];
const NOTHING: &[&str] = &[];

#[test]
fn whether_a_tap_is_connected_depends_on_its_owner_its_state_and_the_configuration() {
    use ComputeTaps::{Auto, Connect, Leave};
    let (nova, dhcp) = ("compute:nova", "network:dhcp");
    for (compute_taps, owner, up, abandoned, expected, waits) in [
        (Auto, nova, false, false, NOTHING, true),
        (Auto, nova, false, true, SET_UP_AND_CONNECT, false),
        (Auto, nova, true, false, CONNECT, false),
        (Auto, dhcp, false, false, SET_UP_AND_CONNECT, false),
        (Connect, nova, false, false, SET_UP_AND_CONNECT, false),
        (Leave, nova, false, true, NOTHING, true),
        (Leave, nova, true, false, NOTHING, true),
        (Leave, dhcp, false, false, SET_UP_AND_CONNECT, false),
    ] {
        let case = format!("{compute_taps}, {owner}, up {up}, abandoned {abandoned}");
        let config = Config { compute_taps, ..config() };
        let mut host = host(up, None);
        host.abandoned.extend(abandoned.then_some(TAP));
        let Plan { actions, waiting, .. } = plan::plan(&desired(owner), &host, &config);
        let actions: Vec<String> = actions.iter().map(ToString::to_string).collect();
        assert_eq!(actions, expected, "{case}");
        assert_eq!(waiting.len(), usize::from(waits), "{case}: {waiting:?}");
        let is_watched = compute_taps == Auto && owner == nova && !up;
        assert_eq!(
            plan::taps_in_the_making(&desired(owner), &host.kernel, &config).contains(&TAP),
            is_watched,
            "{case}"
        );
    }
}

#[test]
fn a_tap_that_libvirt_has_connected_is_treated_like_any_other() {
    for compute_taps in [ComputeTaps::Auto, ComputeTaps::Connect, ComputeTaps::Leave] {
        let config = Config { compute_taps, ..config() };
        let Plan { actions, waiting, .. } = plan::plan(&desired("compute:nova"), &host(false, Some(BRIDGE)), &config);
        let actions: Vec<String> = actions.iter().map(ToString::to_string).collect();
        assert_eq!(actions, ["set tap00000000-00 up", "add FDB entry 02:02:02:02:02:02 on interface 4 (bridge)"]);
        assert_eq!(waiting, []);
    }
}
