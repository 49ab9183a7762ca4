//! Routers and floating IPs that do not fit together: each is told with its line and what is in the way.

use std::path::Path;

use overlane_core::topology::{HA_OWNER, Topology};

const GOOD: &str = include_str!("routers/reference.toml");
const ROUTER: &str = "39a77439-8a28-49c1-bf97-ac931510631b";
const FIRST_FLOATING_IP: &str = "floating_ip_address = \"10.62.227.160\"\n";

fn problems(text: &str) -> Vec<String> {
    let parsed = Topology::parse(Path::new("t.toml"), text);
    parsed.map_or_else(|problems| problems.0.iter().map(ToString::to_string).collect(), |_| Vec::new())
}

/// The line of the table that has `part` in it.
fn line_of(text: &str, part: &str) -> usize {
    let at = text.find(part).expect("the part is there");
    let begin = text[..at].rfind("\n[[").expect("the part is in a table") + 1;
    text[..begin].matches('\n').count() + 1
}

/// Expects one problem, in the table that has `part` in it.
fn expect(text: &str, part: &str, message: &str) {
    let problems = problems(text);
    let prefix = format!("t.toml:{}: ", line_of(text, part));
    assert!(problems.len() == 1, "{problems:#?}");
    assert!(problems[0].starts_with(&prefix) && problems[0].contains(message), "{prefix}{message}: {problems:#?}");
}

fn changed(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

fn without(part: &str) -> String {
    let kept: Vec<&str> = GOOD.split("\n\n").filter(|table| !table.contains(part)).collect();
    assert_ne!(kept.len(), GOOD.split("\n\n").count(), "{part}");
    kept.join("\n\n")
}

#[test]
fn the_reference_deployment_is_good() {
    assert_eq!(problems(GOOD), Vec::<String>::new());
}

#[test]
fn two_interfaces_of_a_router_with_overlapping_subnets_are_refused() {
    let text = changed("cidr = \"20.0.0.0/24\"", "cidr = \"10.0.0.0/16\"")
        .replace("gateway_ip = \"20.0.0.1\"", "gateway_ip = \"10.0.9.1\"")
        .replace("fixed_ips = [\"20.0.0.1\"", "fixed_ips = [\"10.0.9.1\"")
        .replace("fixed_ips = [\"20.0.0.22\"", "fixed_ips = [\"10.0.9.22\"")
        .replace("nexthop = \"20.0.0.7\"", "nexthop = \"10.0.9.7\"");
    let other = line_of(&text, "b1eaae00-e504");
    let message = format!(
        "10.0.0.0/16 overlaps with 10.0.0.0/24 of port b1eaae00-e504-41f8-93a4-643687155bea (line {other}): both are \
         interfaces of router router"
    );
    expect(&text, "0bb8efeb-108f", &message);
}

#[test]
fn a_gateway_outside_its_subnet_is_refused() {
    let text = changed("gateway_ip = \"10.62.227.1\"", "gateway_ip = \"10.62.229.1\"");
    let problems = problems(&text);
    assert!(
        problems.len() == 1 && problems[0].contains("gateway_ip 10.62.229.1 is not in 10.62.227.0/24"),
        "{problems:?}"
    );
}

#[test]
fn an_address_that_is_used_twice_is_refused() {
    let of_port = changed(FIRST_FLOATING_IP, "floating_ip_address = \"10.62.227.151\"\n");
    expect(&of_port, "f1000000-0000-4000-8000-000000000001", "10.62.227.151 is in use by port e09fce07-cd6e");
    let of_another = changed(FIRST_FLOATING_IP, "floating_ip_address = \"10.62.227.162\"\n");
    expect(&of_another, "f1000000-0000-4000-8000-000000000003", "10.62.227.162 is in use by floating IP f1000000");
    let of_the_outside = changed(FIRST_FLOATING_IP, "floating_ip_address = \"10.62.227.1\"\n");
    expect(&of_the_outside, "f1000000-0000-4000-8000-000000000001", "10.62.227.1 is the gateway_ip of the subnet");
}

#[test]
fn a_floating_ip_outside_its_network_or_in_one_that_is_not_external_is_refused() {
    let outside = changed(FIRST_FLOATING_IP, "floating_ip_address = \"10.99.0.1\"\n");
    expect(&outside, "f1000000-0000-4000-8000-000000000001", "10.99.0.1 is in no subnet of network extnet");
    let inside = changed("\"router:external\" = true\n", "");
    let found = problems(&inside);
    let count = |part: &str| found.iter().filter(|problem| problem.contains(part)).count();
    assert_eq!(
        (count("network extnet of floating IP"), count("network extnet of the gateway of router")),
        (3, 1),
        "{found:#?}"
    );
}

#[test]
fn a_port_that_is_forwarded_twice_is_refused() {
    let text = changed("protocol = \"udp\"\nexternal_port = 53\n", "protocol = \"tcp\"\nexternal_port = 2222\n");
    let problems = problems(&text);
    assert!(
        problems.len() == 1 && problems[0].contains("tcp port 2222 of 10.62.228.161 is forwarded in line"),
        "{problems:?}"
    );
}

#[test]
fn a_floating_ip_that_both_belongs_to_a_port_and_forwards_some_is_refused() {
    let text = changed(
        "floating_ip_address = \"10.62.228.161\"\n",
        "floating_ip_address = \"10.62.228.161\"\nport_id = \"a1b6a1c2-5d00-4000-8000-000000000001\"\n",
    );
    let problems = problems(&text);
    assert!(problems.len() == 1 && problems[0].contains("one port, or forwards ports, but not both"), "{problems:?}");
}

#[test]
fn a_machine_with_two_floating_ips_is_refused() {
    let text = changed(
        "floating_ip_address = \"10.62.227.162\"\n",
        "floating_ip_address = \"10.62.227.162\"\nport_id = \"a1b6a1c2-5d00-4000-8000-000000000001\"\n",
    );
    let message = "floating IP 10.62.227.162 leads to 10.0.0.21, which has 10.62.227.160 already";
    expect(&text, "f1000000-0000-4000-8000-000000000003", message);
}

#[test]
fn a_floating_ip_that_no_router_can_carry_out_is_refused() {
    let port = "a1b6a1c2-5d00-4000-8000-000000000001";
    let (id, table) =
        ("f1000000-0000-4000-8000-000000000001", "[[floating_ips]]\nid = \"f1000000-0000-4000-8000-000000000001\"");
    let gone = changed(&format!("port_id = \"{port}\""), "port_id = \"00000000-5d00-4000-8000-000000000001\"");
    expect(&gone, id, "port 00000000-5d00-4000-8000-000000000001 of floating IP 10.62.227.160 is not among the ports");
    let foreign = changed(table, &format!("{table}\nfixed_ip_address = \"10.0.0.99\""));
    expect(&foreign, id, "10.0.0.99 is no address of port a1b6a1c2-5d00");
    let elsewhere = changed("fixed_ips = [\"10.0.0.21\"]", "fixed_ips = [\"12.0.0.21\"]");
    expect(&elsewhere, id, "no router joins network extnet of floating IP 10.62.227.160 and the subnet of 12.0.0.21");
}

#[test]
fn a_router_must_be_on_network_nodes_and_its_ports_with_it() {
    let text = changed("hosts = [\"controller\"]", "hosts = [\"compute1\"]");
    let problems = problems(&text);
    let message = "host \"compute1\" of router router is not among the hosts with network_node = true: controller";
    assert!(problems.iter().any(|problem| problem.contains(message)), "{problems:#?}");
    assert!(problems.iter().any(|problem| problem.contains("but its router router is on compute1")), "{problems:#?}");
}

/// The file with a second network node, on which the router is as well.
fn replicated(hosts: &str) -> String {
    let node = "local_ip = \"10.10.10.11\"";
    changed("hosts = [\"controller\"]", hosts).replacen(node, &format!("{node}\nnetwork_node = true"), 1)
}

#[test]
fn a_router_of_several_hosts_has_its_ports_on_each_of_them_and_one_more_to_the_others() {
    let text = replicated("hosts = [\"controller\", \"compute1\"]");
    let topology = Topology::parse(Path::new("t.toml"), &text).expect("valid");
    let id = topology.routers[0].id;
    let ports: Vec<_> = topology.ports_of(id).collect();
    assert_eq!(ports.len(), 5);
    for host in ["controller", "compute1"] {
        assert!(ports.iter().all(|port| port.is_on(host)));
        let desired = topology.desired_for(host);
        let taps: Vec<_> = desired.networks.values().flat_map(|network| network.local_ports.keys()).collect();
        assert!(ports.iter().all(|port| taps.contains(&&port.id)), "{taps:?}");
    }
    let to_others: Vec<_> = topology.ports.iter().filter(|port| port.device_owner == HA_OWNER).collect();
    let [one, other] = to_others.as_slice() else { panic!("{to_others:#?}") };
    assert_eq!([one, other].map(|port| port.host.as_deref()), [Some("controller"), Some("compute1")]);
    assert!(one.id != other.id && one.mac_address != other.mac_address && one.fixed_ips != other.fixed_ips);
    // As long as a host is there, its port is the same.
    let text = text.replace("\"controller\", \"compute1\"", "\"compute1\", \"controller\"");
    let turned = Topology::parse(Path::new("t.toml"), &text).expect("valid");
    assert!(to_others.iter().all(|port| turned.ports.contains(port)), "{:#?}", turned.ports);
}

#[test]
fn nobody_is_told_where_a_router_of_several_hosts_is_and_all_flood_to_its_hosts() {
    let text = replicated("hosts = [\"controller\", \"compute1\"]");
    let topology = Topology::parse(Path::new("t.toml"), &text).expect("valid");
    let vteps = |host: &str| -> Vec<std::net::IpAddr> {
        let others = topology.hosts.iter().filter(|other| ["controller", "compute1"].contains(&other.name.as_str()));
        others.filter(|other| other.name != host).map(|other| other.local_ip).collect()
    };
    for host in topology.hosts.iter().map(|host| host.name.as_str()) {
        for port in topology.ports_of(topology.routers[0].id) {
            let desired = topology.desired_for(host);
            let Some(network) = desired.networks.get(&port.network_id) else { continue };
            assert!(network.moving_macs.contains(&port.mac_address));
            assert!(!network.remote_macs.contains_key(&port.mac_address));
            assert!(port.fixed_ips.iter().all(|address| !network.neighbors.contains_key(address)));
            let is_tunnelled = network.segment.vni().is_some();
            assert!(!is_tunnelled || vteps(host).iter().all(|vtep| network.flood.contains(vtep)), "{network:#?}");
        }
    }
}

#[test]
fn a_router_names_each_of_its_hosts_once_and_leaves_their_network_alone() {
    let twice = replicated("hosts = [\"controller\", \"compute1\", \"controller\"]");
    expect(&twice, &format!("id = \"{ROUTER}\""), "host \"controller\" of router router is named twice");
    let elsewhere = replicated("hosts = [\"compute1\", \"compute9\"]");
    let found = problems(&elsewhere);
    let message = "host \"controller\", but its router router is on compute1, compute9";
    assert!(found.iter().any(|problem| problem.contains(message)), "{found:#?}");
    let text = replicated("hosts = [\"controller\", \"compute1\"]").replacen(
        "segmentation_id = 10\n",
        "segmentation_id = 16777215\n",
        1,
    );
    let found = problems(&text);
    let message =
        "segmentation_id 16777215 of network appnet is that of the network by which the hosts of router router";
    assert!(found.iter().any(|problem| problem.contains(message)), "{found:#?}");
}

#[test]
fn a_router_has_one_gateway() {
    let second = "\n[[ports]]\nid = \"e2222222-cd6e-4b1c-8a53-2b8a6f0f1c11\"\n\
                  network_id = \"96609bfa-0e22-4bb7-8dba-6ef532ea6076\"\ndevice_owner = \"network:router_gateway\"\n\
                  device_id = \"39a77439-8a28-49c1-bf97-ac931510631b\"\nmac_address = \"fa:16:3e:77:78:99\"\n\
                  fixed_ips = [\"2001:db8:62::77\"]\nhost = \"controller\"\n";
    let found = problems(&(GOOD.to_owned() + second));
    assert!(found.iter().any(|problem| problem.contains("router router has its gateway in line")), "{found:#?}");
}

#[test]
fn routes_lead_to_neighbours_and_not_to_what_is_connected() {
    let far = changed("nexthop = \"20.0.0.7\"", "nexthop = \"20.0.9.7\"");
    expect(
        &far,
        &format!("id = \"{ROUTER}\""),
        "nexthop 20.0.9.7 of the route to 172.16.0.0/16 is in no network of router router",
    );
    let connected = changed("destination = \"172.17.0.0/16\"", "destination = \"20.0.0.0/24\"");
    expect(
        &connected,
        &format!("id = \"{ROUTER}\""),
        "a route to 20.0.0.0/24 of router router, which has an interface there",
    );
}

#[test]
fn a_network_that_still_has_ports_cannot_go() {
    let found = problems(&without("name = \"appnet2\""));
    for port in ["0bb8efeb-108f-409a-82e7-c4c20f0d4f69", "b2b6a1c2-5d00-4000-8000-000000000002"] {
        let message = format!(
            "network_id 85925305-b477-4cc6-9654-67d9bf1e7cd8 is not among the networks, but port {port} is in it"
        );
        assert!(found.iter().any(|problem| problem.contains(&message)), "{found:#?}");
    }
}

#[test]
fn an_external_network_with_a_floating_ip_in_use_cannot_go() {
    let found = problems(&without("name = \"extnet\""));
    let message = "floating_network_id 96609bfa-0e22-4bb7-8dba-6ef532ea6076 is not among the networks, but floating IP \
                   f1000000-0000-4000-8000-000000000001 (10.62.227.160) is in use";
    assert!(found.iter().any(|problem| problem.contains(message)), "{found:#?}");
}

#[test]
fn a_router_that_goes_leaves_no_ports_and_floating_ips_behind() {
    let found = problems(&without("name = \"router\""));
    let ports = found.iter().filter(|problem| problem.contains("is not among the routers")).count();
    assert_eq!(ports, 5, "{found:#?}");
}

#[test]
fn a_subnet_of_the_external_network_that_overlaps_with_one_inside_is_refused_although_the_router_has_no_address_there()
{
    let text = changed(
        "cidr = \"10.62.228.0/24\"\n",
        "cidr = \"10.62.228.0/24\"\n[[networks.subnets]]\ncidr = \"11.0.0.0/16\"\n",
    );
    let problems = problems(&text);
    let line = text[..text.find("cidr = \"11.0.0.0/16\"").expect("just added")].matches('\n').count();
    let other = line_of(&text, "16d9b0cc-38b4");
    let message = format!(
        "t.toml:{line}: 11.0.0.0/16 of the external network extnet overlaps with 11.0.0.0/24 of port \
         16d9b0cc-38b4-4b3a-8d5f-1d4f7f1c2a3b (line {other}): router router leads to both"
    );
    assert_eq!(problems, [message]);
}

#[test]
fn addresses_that_stand_for_a_whole_subnet_are_nobodys() {
    for (last, what) in [("0", "network"), ("255", "broadcast")] {
        let of_port = changed("fixed_ips = [\"20.0.0.22\"", &format!("fixed_ips = [\"20.0.0.{last}\""));
        let message = format!("fixed IP 20.0.0.{last} is the {what} address of subnet 20.0.0.0/24");
        expect(&of_port, "b2b6a1c2-5d00", &message);
        let floating = format!("floating_ip_address = \"10.62.227.{last}\"\n");
        let message = format!("floating IP 10.62.227.{last} is the {what} address of subnet 10.62.227.0/24");
        expect(&changed(FIRST_FLOATING_IP, &floating), "f1000000-0000-4000-8000-000000000001", &message);
    }
    // Where there are only two of them (RFC 3021), and in IPv6, they are like any other.
    let of_two = changed("cidr = \"12.0.0.0/24\"", "cidr = \"12.0.0.0/31\"");
    let of_two = of_two.replacen("fixed_ips = [\"10.0.0.21\"]", "fixed_ips = [\"10.0.0.21\", \"12.0.0.1\"]", 1);
    assert_eq!(problems(&of_two), Vec::<String>::new());
}

#[test]
fn user_data_is_a_text_or_any_bytes_in_base64_but_not_both() {
    let with = |lines: &str| format!("{GOOD}\n[[instances]]\nid = \"1a000000-0000-4000-8000-000000000021\"\n{lines}");
    let user_data = |lines: &str| {
        let topology = Topology::parse(Path::new("t.toml"), &with(lines)).expect("valid");
        topology.instances[0].user_data.clone()
    };
    assert_eq!(user_data(""), None);
    assert_eq!(user_data("user_data = \"#!/bin/sh\\n\"\n"), Some(b"#!/bin/sh\n".to_vec()));
    assert_eq!(user_data("user_data_base64 = \"\"\"\nH4sI\nAP8=\n\"\"\"\n"), Some(vec![0x1f, 0x8b, 0x08, 0x00, 0xff]));
    let both = with("user_data = \"x\"\nuser_data_base64 = \"eA==\"\n");
    let line = both.matches('\n').count();
    assert_eq!(
        problems(&both),
        [format!("t.toml:{line}: user_data and user_data_base64 are both given: leave one of them out")]
    );
    let found = problems(&with("user_data_base64 = \"H4sI!\"\n"));
    let prefix = format!("t.toml:{}: user_data_base64: expected base64: ", line - 1);
    assert!(found.len() == 1 && found[0].starts_with(&prefix), "{found:?}");
}
