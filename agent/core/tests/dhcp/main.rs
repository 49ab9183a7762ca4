//! DHCP servers: what a topology makes of them, and what becomes of leases. What dnsmasq is told is compared with what Neutron's
//! DHCP agent tells it (contract §5.3).

mod ipv6;
mod leases;
mod options;
mod servers;

use std::path::Path;

use overlane_core::{
    config::{Config, SystemDefaults},
    oslo_ini::Settings,
    services::{NamespaceSpec, ProcessSpec, Services},
    topology::Topology,
};

const NETWORK: &str = "971ffda2-e567-40a0-a2c8-b31a577fd4d3";
const NAMESPACE: &str = "qdhcp-971ffda2-e567-40a0-a2c8-b31a577fd4d3";
const FOLDER: &str = "/var/lib/overlane/dhcp/971ffda2-e567-40a0-a2c8-b31a577fd4d3";
const SUBNET: &str = "3d596991-de8f-4ae4-8913-89426a8abbd7";

/// A cloud of two hosts, of which `a` is the network node, and one network of which `of_network` says the rest.
fn cloud(of_network: &str, ports: &[String]) -> String {
    format!(
        "[[hosts]]\nname = \"a\"\nlocal_ip = \"10.1.0.1\"\nnetwork_node = true\n[[hosts]]\nname = \"b\"\nlocal_ip = \"10.1.0.2\"\n\
         [[networks]]\nid = \"{NETWORK}\"\nname = \"n\"\nnetwork_type = \"vxlan\"\nsegmentation_id = 10\n{of_network}\n{}",
        ports.concat()
    )
}

/// `[[networks.subnets]]`
fn subnet(cidr: &str, more: &str) -> String {
    format!("[[networks.subnets]]\ncidr = \"{cidr}\"\n{more}\n")
}

/// `[[ports]]`, of which the number makes id and MAC address.
fn port(number: u8, fixed_ips: &[&str], more: &str) -> String {
    format!(
        "[[ports]]\nid = \"000000{number:02}-0000-4000-8000-000000000000\"\nnetwork_id = \"{NETWORK}\"\n\
         mac_address = \"fa:16:3e:00:00:{number:02}\"\nfixed_ips = {fixed_ips:?}\n{more}\n"
    )
}

fn dhcp_port(fixed_ips: &[&str]) -> String {
    port(10, fixed_ips, "host = \"a\"\ndevice_owner = \"network:dhcp\"")
}

fn router_port(fixed_ips: &[&str]) -> String {
    port(1, fixed_ips, "device_owner = \"network:router_interface\"")
}

fn parse(text: &str) -> Topology {
    Topology::parse(Path::new("t.toml"), text).expect("valid")
}

fn problems(text: &str) -> Vec<String> {
    let problems = Topology::parse(Path::new("t.toml"), text).expect_err("invalid");
    problems.0.iter().map(ToString::to_string).collect()
}

fn config(host: &str, more: &str) -> Config {
    let mut settings = Settings::default();
    let text =
        format!("[DEFAULT]\nhost = {host}\n{more}\n[vxlan]\nlocal_ip = 10.1.0.1\n[overlane]\ntopology = t.toml\n");
    assert_eq!(settings.add_file(Path::new("/etc/o/a.ini"), &text), []);
    let system = SystemDefaults { host_name: "this".to_owned() };
    Config::from_settings(&settings, &system).expect("valid").0
}

fn namespace_with(text: &str, options: &str) -> NamespaceSpec {
    let mut services = Services::of(&parse(text), &config("a", options));
    services.namespaces.remove(NAMESPACE).expect("the network has a DHCP server")
}

fn namespace(text: &str) -> NamespaceSpec {
    namespace_with(text, "")
}

fn process(namespace: &NamespaceSpec) -> &ProcessSpec {
    namespace.processes.values().next().expect("dnsmasq")
}

fn file<'a>(namespace: &'a NamespaceSpec, name: &str) -> &'a str {
    &process(namespace).files[name].text
}

/// The arguments that begin with one of these.
fn arguments<'a>(namespace: &'a NamespaceSpec, beginnings: &[&str]) -> Vec<&'a str> {
    let args = process(namespace).args.iter().map(String::as_str);
    args.filter(|arg| beginnings.iter().any(|beginning| arg.starts_with(beginning))).collect()
}
