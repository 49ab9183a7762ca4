//! What the demo's topology asks of its network node, in one piece.

use std::{net::IpAddr, path::Path};

use overlane_core::{
    config::{Config, SystemDefaults},
    oslo_ini::Settings,
    services::{
        Services,
        metadata::{Answer, Directory, SocketKey, State},
    },
    topology::Topology,
};

const REFERENCE: &str = include_str!("../../../tests/src/demo/reference.toml");

fn services(host: &str) -> Services {
    let mut settings = Settings::default();
    let text = format!("[DEFAULT]\nhost = {host}\n[vxlan]\nlocal_ip = 10.10.10.10\n[overlane]\ntopology = t.toml\n");
    assert!(settings.add_file(Path::new("overlane.conf"), &text).is_empty());
    let (config, _) = Config::from_settings(&settings, &SystemDefaults::default()).expect("valid");
    let topology = Topology::parse(Path::new("reference.toml"), REFERENCE).expect("valid");
    Services::of(&topology, &config)
}

fn metadata() -> Directory {
    let services = services("controller");
    let process = services.processes.values().next().expect("a metadata service");
    let text = &process.files["state.json"].text;
    Directory::new(State::from_json(text.as_bytes()).expect("what was written can be read"))
}

fn router_socket() -> SocketKey {
    SocketKey {
        namespace: "qrouter-39a77439-8a28-49c1-bf97-ac931510631b".to_owned(),
        address: IpAddr::from([0; 4]),
        port: 9697,
        interface: None,
    }
}

#[test]
fn only_the_network_node_has_services() {
    assert_eq!(services("compute1"), Services::default());
    let names: Vec<String> = services("controller").namespaces.into_keys().collect();
    assert_eq!(names.len(), 4, "{names:?}");
}

#[test]
fn a_machine_behind_the_router_is_told_about_itself() {
    let directory = metadata();
    let guest = directory.guest(&router_socket(), "10.0.0.21".parse().expect("valid")).expect("app1 is known");
    let answer = |path: &str| String::from_utf8(Answer::to("GET", path, guest).body).expect("text");
    assert_eq!(answer("/latest/meta-data/hostname"), "app1");
    assert_eq!(answer("/latest/meta-data/public-ipv4"), "10.62.227.160");
    assert!(answer("/latest/user-data").contains("#cloud-config"));
}
