//! Whole plans, as `overlane plan` prints them.

use std::path::Path;

use overlane_core::{
    desired::Desired,
    model::Mac,
    observed::{DatapathState, KernelState, Link, LinkKind, Observed, Path as UnderlayPath, Vxlan},
    plan,
    topology::Topology,
};

use crate::simulated::{config, link, local_ip};

const TOPOLOGY: &str = r#"
[[hosts]]
name = "here"
local_ip = "10.10.10.11"

[[hosts]]
name = "there"
local_ip = "10.10.10.12"

[[networks]]
id = "971ffda2-e567-40a0-a2c8-b31a577fd4d3"
name = "appnet"
network_type = "vxlan"
segmentation_id = 10

[[ports]]
id = "b1eaae00-e504-41f8-93a4-643687155bea"
network_id = "971ffda2-e567-40a0-a2c8-b31a577fd4d3"
host = "here"
mac_address = "fa:16:3e:81:1b:37"
fixed_ips = ["10.0.0.1"]
device_owner = "network:router_interface"

[[ports]]
id = "f70543dd-0f1b-4e1d-93c7-33f4f3d7a709"
network_id = "971ffda2-e567-40a0-a2c8-b31a577fd4d3"
host = "there"
mac_address = "fa:16:3e:5c:bf:11"
fixed_ips = ["10.0.0.10"]
"#;

fn desired() -> Desired {
    Topology::parse(Path::new("t.toml"), TOPOLOGY).expect("valid").desired_for("here")
}

fn bare_host() -> Observed {
    let mut kernel = KernelState::default();
    kernel.addresses.insert(2, [local_ip()].into());
    kernel.links.insert(2, Link { up: true, ..link(2, "eth1", LinkKind::Other(String::new())) });
    Observed { kernel, datapath: Some(DatapathState::default()), ..Observed::default() }
}

fn add(host: &mut Observed, link: Link) {
    host.kernel.links.insert(link.ifindex, link);
}

fn vxlan(vni: u32, port: u16) -> LinkKind {
    let vni = vni.try_into().expect("small");
    LinkKind::Vxlan(Vxlan { vni, local: None, underlay: Some(2), port, group: None, udp6_zero_checksum_rx: false })
}

fn lines(host: &Observed) -> (Vec<String>, Vec<String>) {
    let plan = plan::plan(&desired(), host, &config());
    (plan.actions.iter().map(ToString::to_string).collect(), plan.obstacles.iter().map(ToString::to_string).collect())
}

#[test]
fn a_bare_host_gets_its_devices_first() {
    let (actions, obstacles) = lines(&bare_host());
    assert_eq!(
        actions,
        [
            "create bridge brq971ffda2-e5 for network 971ffda2-e567-40a0-a2c8-b31a577fd4d3",
            "create vxlan device vxlan-10: local 10.10.10.11 port 4789 mtu 1450",
            "set vteps[10.10.10.12]",
            "set networks[VNI 10]",
            "set fdb[network 1, fa:16:3e:5c:bf:11]",
            "set neighbors[network 1, 10.0.0.1]",
            "set neighbors[network 1, 10.0.0.10]",
        ]
    );
    assert_eq!(obstacles, ["VTEP 10.10.10.12: no route from 10.10.10.11 to 10.10.10.12"]);
}

#[test]
fn once_devices_and_tap_are_there_everything_else_follows_in_order() {
    let mut host = bare_host();
    add(&mut host, Link { up: true, ..link(3, "brq971ffda2-e5", LinkKind::Bridge) });
    add(&mut host, Link { up: true, mtu: 1450, ..link(4, "vxlan-10", vxlan(10, 4789)) });
    add(&mut host, link(5, "tapb1eaae00-e5", LinkKind::Other("tun".to_owned())));
    let (actions, _) = lines(&host);
    assert_eq!(
        actions,
        [
            "add vxlan-10 to bridge brq971ffda2-e5",
            "set the MTU of tapb1eaae00-e5 to 1450",
            "set tapb1eaae00-e5 up",
            "add tapb1eaae00-e5 to bridge brq971ffda2-e5",
            "set vteps[10.10.10.12]",
            "set networks[VNI 10]",
            "set networks[interface 3]",
            "set networks[interface 4]",
            "add FDB entry 00:00:00:00:00:00 on interface 4 to 10.10.10.12",
            "add FDB entry fa:16:3e:5c:bf:11 on interface 4 to 10.10.10.12",
            "set fdb[network 1, fa:16:3e:5c:bf:11]",
            "set fdb[network 1, fa:16:3e:81:1b:37]",
            "set neighbors[network 1, 10.0.0.1]",
            "set neighbors[network 1, 10.0.0.10]",
            "set ports[interface 5]",
            "attach from_port to interface 5",
            "attach to_port to interface 5",
            "attach from_uplink to interface 2",
            "attach from_overlay to interface 4",
        ]
    );
}

#[test]
fn a_vxlan_device_of_another_port_or_vni_is_an_obstacle_and_stays() {
    let mut host = bare_host();
    add(&mut host, link(4, "vxlan-10", vxlan(10, 8472)));
    let (actions, obstacles) = lines(&host);
    assert!(!actions.iter().any(|action| action.contains("vxlan-10")), "{actions:?}");
    assert_eq!(
        obstacles[0],
        "network 971ffda2-e567-40a0-a2c8-b31a577fd4d3: vxlan-10 uses UDP port 8472, the configuration says 4789: set \
         [vxlan] udp_dstport = 8472 on every host"
    );
}

#[test]
fn without_the_underlay_address_the_host_says_so() {
    let mut host = bare_host();
    host.kernel.addresses.clear();
    let (_, obstacles) = lines(&host);
    assert_eq!(obstacles[0], "host: no interface has the address 10.10.10.11, which [vxlan] local_ip names");
}

#[test]
fn without_the_fast_lane_only_the_kernel_is_touched() {
    let host = Observed { datapath: None, ..bare_host() };
    let (actions, _) = lines(&host);
    assert!(actions.iter().all(|action| action.starts_with("create ")), "{actions:?}");
}

#[test]
fn a_next_hop_that_is_known_but_not_kept_is_used_and_kept_from_then_on() {
    let mut host = bare_host();
    let address = "10.10.10.12".parse().expect("valid");
    let mac = Some(Mac([2, 0, 0, 0, 0, 0x12]));
    let path = UnderlayPath { uplink: 2, next_hop: address, next_hop_mac: mac, is_kept: false, mtu: 1500 };
    host.kernel.paths.insert(address, path);
    let (actions, obstacles) = lines(&host);
    assert!(actions.contains(&"resolve next hop 10.10.10.12 on interface 2".to_owned()), "{actions:?}");
    assert_eq!(obstacles, [""; 0]);
}
