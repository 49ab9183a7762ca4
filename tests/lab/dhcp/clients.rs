//! What a client is told.

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use overlane_tests::{
    lab::{DhcpOption, Lanes, Route, Rule, Subnet},
    wait::wait_until,
};

use super::{Cloud, said, same};

fn machines_get_their_addresses(lanes: Lanes) -> Result<()> {
    let cloud = Cloud::running(lanes)?;
    let machines = cloud.boot_both()?;
    for machine in &machines {
        let lease = cloud.lease(machine)?;
        let name = format!("host-{}", machine.port.ipv4().replace('.', "-"));
        for (what, expected) in [
            ("ip", machine.port.ipv4()),
            ("mask", "24"),
            ("serverid", cloud.server.ipv4()),
            ("dns", cloud.server.ipv4()),
            ("mtu", "1450"),
            ("domain", "openstacklocal"),
            ("hostname", &name),
            ("lease", "86400"),
        ] {
            same(what, said(&lease, what), expected)?;
        }
    }
    machines[0].ping(machines[1].port.ipv4(), 3)?;
    // Names as well: of the other machine, from the server.
    let name = format!("host-{}.openstacklocal", machines[1].port.ipv4().replace('.', "-"));
    let answer = machines[0].run(&format!("busybox nslookup -type=a {name} {}", cloud.server.ipv4()))?;
    ensure!(answer.contains(machines[1].port.ipv4()), "{answer}");
    cloud.pair.finish()
}

#[test]
fn machines_on_every_host_get_their_addresses_by_the_fast_lane() -> Result<()> {
    machines_get_their_addresses(Lanes::Both)
}

#[test]
fn machines_on_every_host_get_their_addresses_by_the_kernel_lane() -> Result<()> {
    machines_get_their_addresses(Lanes::KernelOnly)
}

#[test]
fn a_machine_whose_groups_admit_nothing_gets_its_address_all_the_same() -> Result<()> {
    let cloud = Cloud::with(Lanes::Both, |topology, _| {
        let nothing = topology.add_group("nothing", Vec::<Rule>::new());
        let ids: Vec<String> = topology.ports.iter().map(|port| port.id.clone()).collect();
        for id in &ids[..2] {
            topology.set_groups(id, &[&nothing]);
        }
    })?;
    for machine in cloud.boot_both()? {
        same("ip", said(&cloud.lease(&machine)?, "ip"), machine.port.ipv4())?;
    }
    Ok(())
}

#[test]
fn a_lease_is_renewed() -> Result<()> {
    let cloud = Cloud::running(Lanes::Both)?;
    let machine = cloud.boot(&cloud.pair.ports[1])?;
    let client = machine.start_dhcp_client(cloud.pair.lab.world())?;
    let obtained =
        |times: usize| wait_until("a lease is obtained", || Ok(client.output()?.matches("lease of ").count() >= times));
    obtained(1)?;
    kill(Pid::from_raw(i32::try_from(client.pid())?), Signal::SIGUSR1).context("asking for a renewal")?;
    obtained(2)?;
    let output = client.output()?;
    ensure!(output.matches("broadcasting discover").count() <= output.matches("renew").count() + 20, "{output}");
    let address = format!("lease of {} obtained", machine.port.ipv4());
    same("the same address", output.matches(&address).count() >= 2, true)
}

#[test]
fn a_subnet_tells_its_routes_name_servers_and_gateway_and_a_port_its_own_options() -> Result<()> {
    let cloud = Cloud::with(Lanes::Both, |topology, _| {
        let subnet = &mut topology.networks[0].subnets[0];
        subnet.gateway_ip = Some("10.0.10.254".to_owned());
        subnet.dns_nameservers = vec!["192.0.2.53".to_owned(), "192.0.2.54".to_owned()];
        let route = Route { destination: "198.51.100.0/24".to_owned(), nexthop: "10.0.10.7".to_owned() };
        subnet.host_routes.push(route);
        let option = |name: &str, value: &str| DhcpOption {
            opt_name: name.to_owned(),
            opt_value: value.to_owned(),
            ip_version: 4,
        };
        topology.ports[0].extra_dhcp_opts = vec![option("domain-name", "of.its.own"), option("42", "192.0.2.123")];
        topology.ports[1].dns_name = Some("web".to_owned());
        topology.networks[0].mtu = Some(1400);
    })?;
    let [left, right] = cloud.boot_both()?;
    let (of_left, of_right) = (cloud.lease(&left)?, cloud.lease(&right)?);
    // The metadata route leads to the server: nobody has the gateway's address.
    let routes = "198.51.100.0/24 10.0.10.7 169.254.169.254/32 10.0.10.3 0.0.0.0/0 10.0.10.254";
    for lease in [&of_left, &of_right] {
        same("staticroutes", said(lease, "staticroutes"), routes)?;
        same("router", said(lease, "router"), "10.0.10.254")?;
        same("dns", said(lease, "dns"), "192.0.2.53 192.0.2.54")?;
        same("mtu", said(lease, "mtu"), "1400")?;
    }
    same("domain", said(&of_left, "domain"), "of.its.own")?;
    same("domain", said(&of_right, "domain"), "openstacklocal")?;
    same("hostname", said(&of_right, "hostname"), "web")?;
    let addresses = cloud.inside("ip -o address show")?;
    ensure!(addresses.contains("169.254.169.254/32") && addresses.contains("fe80::a9fe:a9fe/64"), "{addresses}");
    Ok(())
}

#[test]
fn one_server_serves_all_subnets_even_those_in_which_it_has_no_address() -> Result<()> {
    let cloud = Cloud::with(Lanes::Both, |topology, _| {
        topology.networks[0].subnets.push(Subnet::of("11.0.0.0/24"));
        topology.networks[0].subnets.push(Subnet::of("12.0.0.0/24"));
        topology.ports[1].fixed_ips = vec!["11.0.0.7".to_owned()];
        let server = topology.ports.last_mut().expect("the server's port");
        server.fixed_ips.push("12.0.0.3".to_owned());
    })?;
    let [left, right] = cloud.boot_both()?;
    let (of_left, of_right) = (cloud.lease(&left)?, cloud.lease(&right)?);
    same("ip", said(&of_left, "ip"), "10.0.10.1")?;
    same("ip", said(&of_right, "ip"), "11.0.0.7")?;
    // The other subnets are on the link.
    same("staticroutes", said(&of_right, "staticroutes"), "10.0.10.0/24 0.0.0.0 12.0.0.0/24 0.0.0.0")?;
    same("one server", cloud.node().show("dhcp")?.len(), 1)?;
    left.wait_for("11.0.0.7")?;
    right.wait_for(cloud.server.ipv4())
}

#[test]
fn several_network_nodes_give_the_same_address() -> Result<()> {
    let mut cloud = Cloud::prepare(|topology, network| {
        topology.make_network_node("right");
        topology.add_dhcp(network, "right", 4);
    })?;
    // Both have a namespace of the same name.
    cloud.pair.host("right").keep_names_apart()?;
    cloud.start(Lanes::Both)?;
    let [left, right] = cloud.boot_both()?;
    for machine in [&left, &right] {
        let lease = cloud.lease(machine)?;
        same("ip", said(&lease, "ip"), machine.port.ipv4())?;
        let mut servers: Vec<&str> = said(&lease, "dns").split(' ').collect();
        servers.sort_unstable();
        same("name servers", &servers[..], &["10.0.10.3", "10.0.10.4"][..])?;
    }
    // One of them is lost.
    cloud.pair.agents.remove(0).stop(Signal::SIGKILL)?;
    let _ = cloud.node().run(&format!("ip link delete {}", cloud.server.tap()));
    let lease = cloud.lease(&left)?;
    same("ip", said(&lease, "ip"), left.port.ipv4())?;
    same("serverid", said(&lease, "serverid"), "10.0.10.4")
}

#[test]
fn answers_leave_the_server_with_complete_checksums() -> Result<()> {
    let cloud = Cloud::running(Lanes::Both)?;
    let machine = cloud.boot(&cloud.pair.ports[0])?;
    cloud.lease(&machine)?;
    let offloads = cloud.inside(&format!("ethtool --show-offload {}", cloud.link()))?;
    ensure!(offloads.contains("tx-checksumming: off"), "{offloads}");
    Ok(())
}
