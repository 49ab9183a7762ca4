//! Trunks in a topology file: what they ask of a host, and what is wrong with them.

use std::path::Path;

use overlane_core::{
    model::PortId,
    problem::Problems,
    topology::{Topology, Trunk},
};

const HOSTS: &str = "[[hosts]]\nname = \"left\"\nlocal_ip = \"10.10.10.11\"\n\
                     [[hosts]]\nname = \"right\"\nlocal_ip = \"10.10.10.12\"\n\
                     [[networks]]\nid = \"a0000000-0000-4000-8000-000000000000\"\nnetwork_type = \"vxlan\"\nsegmentation_id = 10\n\
                     [[networks]]\nid = \"b0000000-0000-4000-8000-000000000000\"\nnetwork_type = \"vxlan\"\nsegmentation_id = 20\n";

fn id(number: u8) -> String {
    format!("{number:02x}000000-0000-4000-8000-000000000000")
}

fn port(number: u8, network: char, more: &str) -> String {
    format!(
        "[[ports]]\nid = \"{}\"\nnetwork_id = \"{network}0000000-0000-4000-8000-000000000000\"\n\
         mac_address = \"fa:16:3e:00:00:{number:02x}\"\nfixed_ips = [\"10.0.0.{number}\"]\n{more}\n",
        id(number)
    )
}

/// Port 1 is on the left host, ports 2 and 3 say nothing of where they are.
fn ports() -> String {
    [port(1, 'a', "host = \"left\""), port(2, 'b', ""), port(3, 'b', "")].concat()
}

fn sub_port(port: u8, vid: &str) -> String {
    format!("[[trunks.sub_ports]]\nport_id = \"{}\"\nsegmentation_type = \"vlan\"\nsegmentation_id = {vid}\n", id(port))
}

fn trunk(number: u8, port: u8, sub_ports: &[String]) -> String {
    format!("[[trunks]]\nid = \"{}\"\nport_id = \"{}\"\n{}", id(number), id(port), sub_ports.concat())
}

fn parse(ports: &str, trunks: &str) -> Result<Topology, Problems> {
    Topology::parse(Path::new("t.toml"), &format!("{HOSTS}{ports}{trunks}"))
}

fn problem(ports: &str, trunks: &str) -> String {
    let Problems(problems) = parse(ports, trunks).expect_err("invalid");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].line.is_some(), "{problems:?}");
    problems[0].message.clone()
}

#[test]
fn subports_are_where_their_trunk_is() {
    let topology = parse(&ports(), &trunk(9, 1, &[sub_port(2, "101"), sub_port(3, "102")])).expect("valid");
    let desired = topology.desired_for("left");
    let sub_ports: Vec<_> = desired.sub_ports.values().map(|sub_port| (sub_port.parent, sub_port.vid.get())).collect();
    let parent = PortId(id(1).parse().expect("valid"));
    assert_eq!(sub_ports, [(parent, 101), (parent, 102)]);
    assert_eq!(desired.networks.values().map(|network| network.local_ports.len()).collect::<Vec<_>>(), [1, 2]);
    // To other hosts they are ports like all others.
    let right = parse(&[ports(), port(4, 'b', "host = \"right\"")].concat(), &trunk(9, 1, &[sub_port(2, "101")]));
    let desired = right.expect("valid").desired_for("right");
    assert!(desired.sub_ports.is_empty());
    let remote: Vec<_> = desired.networks.values().flat_map(|network| network.remote_macs.values()).collect();
    assert_eq!(remote, [&"10.10.10.11".parse::<std::net::IpAddr>().expect("valid")]);
}

#[test]
fn the_trunk_of_a_port_that_is_on_no_host_asks_nothing_of_any() {
    let topology = parse(&[port(1, 'a', ""), port(2, 'b', "")].concat(), &trunk(9, 1, &[sub_port(2, "101")]));
    let desired = topology.expect("valid").desired_for("left");
    assert!(desired.sub_ports.is_empty() && desired.networks.is_empty());
}

#[test]
fn a_trunk_may_be_without_subports() {
    let topology = parse(&ports(), &trunk(9, 1, &[])).expect("valid");
    assert!(matches!(&topology.trunks[..], [Trunk { sub_ports, .. }] if sub_ports.is_empty()));
}

#[test]
fn what_does_not_fit_together_is_named_with_its_line() {
    let two = |first: &str, second: &str| trunk(9, 1, &[sub_port(2, first), sub_port(3, second)]);
    let of_port_1 = format!("101 of the trunk of port {} is used in line", id(1));
    let others = format!("{}{}", ports(), port(5, 'a', "host = \"left\""));
    for (ports, trunks, expected) in [
        (ports(), two("101", "101"), of_port_1),
        (ports(), two("101", "4095"), "segmentation_id: expected a number from 1 to 4094".to_owned()),
        (ports(), trunk(9, 7, &[]), format!("port_id {} is not among the ports", id(7))),
        (ports(), trunk(9, 1, &[sub_port(7, "101")]), format!("subport {} is not among the ports", id(7))),
        (ports(), trunk(9, 1, &[sub_port(1, "101")]), format!("subport {} is the port of the trunk in line", id(1))),
        (
            others.clone(),
            [trunk(9, 1, &[sub_port(2, "101")]), trunk(8, 5, &[sub_port(2, "102")])].concat(),
            format!("subport {} is used in line", id(2)),
        ),
        (
            others.clone(),
            [trunk(9, 1, &[sub_port(5, "101")]), trunk(8, 5, &[])].concat(),
            format!("subport {} is the port of the trunk in line", id(5)),
        ),
        (others, [trunk(9, 1, &[]), trunk(9, 5, &[])].concat(), format!("trunk id {} is used in line", id(9))),
        (
            ports(),
            [trunk(9, 1, &[]), trunk(8, 1, &[])].concat(),
            format!("port_id of a trunk, {} is used in line", id(1)),
        ),
        (
            ports(),
            trunk(9, 1, &[sub_port(2, "101").replace("\"vlan\"", "\"inherit\"")]),
            "segmentation_type \"inherit\": expected vlan".to_owned(),
        ),
        (
            [port(1, 'a', "host = \"left\""), port(2, 'b', "host = \"right\"")].concat(),
            trunk(9, 1, &[sub_port(2, "101")]),
            format!("subport {} is on host \"right\", the port of its trunk on \"left\"", id(2)),
        ),
    ] {
        let found = problem(&ports, &trunks);
        assert!(found.contains(&expected), "{found}");
    }
}
