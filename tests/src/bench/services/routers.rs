//! `routers_100_cold`, `floating_ip_add`, `ha_failover` and `router_tcp_vs_iptables`.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use overlane_tests::{
    lab::{
        Agent, BY_INTERFACE, Lab, Lanes, Machine, Network, Port, Replicated, Routed, Router, Stream, Subnet, Topology,
        first_answer, nothing_to_do, now,
    },
    wait::{wait_at_most, wait_until},
};

use crate::figures::Figures;

/// Routers, and the networks inside each.
const ROUTERS: u16 = 100;
const NETWORKS: u16 = 3;
/// Long enough for a machine that misses its figure by far.
const COLD_LIMIT: std::time::Duration = std::time::Duration::from_secs(300);

/// A hundred routers with three networks and a gateway each, from the start of the agent until every link is in its bridge and
/// everything else is as it should be.
pub(crate) fn measure_cold(figures: &mut Figures) -> Result<()> {
    let lab = Lab::new(&[("node", "10.10.10.10")])?;
    lab.wire()?;
    let node = lab.host("node");
    let topology_file = lab.world().folder().join("topology.toml");
    many_routers(&lab).write(&topology_file)?;
    node.add_config(BY_INTERFACE);
    node.configure(&topology_file, Lanes::Both)?;
    let begun = now()?;
    let agent = Agent::launch(node)?;
    wait_at_most(COLD_LIMIT, "all routers are up", || {
        let is_ready = agent.log()?.contains("services ready");
        let connected = || -> Result<usize> {
            let ports = node.run("bridge link show")?;
            Ok(ports.lines().filter(|line| line.contains(": tap")).count())
        };
        Ok((is_ready && connected()? == usize::from(ROUTERS * (NETWORKS + 1))).then_some(()))
    })?;
    figures.add("routers_100_cold", "s", vec![(now()? - begun) / 1000.0]);
    nothing_to_do(node)
}

fn many_routers(lab: &Lab) -> Topology {
    let mut topology = Topology::of(lab.hosts());
    topology.make_network_node("node");
    let external = Network {
        id: "ffffffff-0000-4000-8000-000000000000".to_owned(),
        name: "external".to_owned(),
        network_type: "flat".to_owned(),
        physical_network: Some("provider".to_owned()),
        is_external: true,
        subnets: vec![Subnet { gateway_ip: Some("172.20.0.1".to_owned()), ..Subnet::of("172.20.0.0/16") }],
        ..Network::default()
    };
    topology.networks.push(external.clone());
    for number in 1..=ROUTERS {
        let router = Router {
            id: format!("{number:08x}-5555-4000-8000-000000000000"),
            name: format!("router{number}"),
            hosts: vec!["node".to_owned()],
            ..Router::default()
        };
        let port = |kind: u16, network: &Network, address: String, owner: &str| Port {
            id: format!("{kind:04x}{number:04x}-1111-4000-8000-000000000000"),
            network_id: network.id.clone(),
            host: "node".to_owned(),
            mac_address: format!("fa:16:3e:{kind:02x}:{:02x}:{:02x}", number >> 8, number & 0xff),
            fixed_ips: vec![address],
            device_owner: owner.to_owned(),
            device_id: router.id.clone(),
            ..Port::default()
        };
        for inside in 1..=NETWORKS {
            let network = Network {
                id: format!("{inside:04x}{number:04x}-0000-4000-8000-000000000000"),
                name: format!("net{number}-{inside}"),
                network_type: "vxlan".to_owned(),
                segmentation_id: Some(u32::from(inside) * 1000 + u32::from(number)),
                subnets: vec![Subnet {
                    gateway_ip: Some(format!("10.0.{inside}.1")),
                    ..Subnet::of(&format!("10.0.{inside}.0/24"))
                }],
                ..Network::default()
            };
            topology.ports.push(port(inside, &network, format!("10.0.{inside}.1"), "network:router_interface"));
            topology.networks.push(network);
        }
        topology.ports.push(port(0xff, &external, format!("172.20.1.{number}"), "network:router_gateway"));
        topology.routers.push(router);
    }
    topology
}

/// Floating IPs that are there already, and how often one is added.
const FLOATING_IPS: u8 = 100;
const ROUNDS: u8 = 20;

/// From the moment that the file has one floating IP more until its machine has answered somebody outside who has been asking
/// all the time.
pub(crate) fn measure_floating_ip(figures: &mut Figures) -> Result<()> {
    let mut routed = Routed::running_with(|routed| {
        let ids: Vec<Port> = (0..FLOATING_IPS)
            .map(|number| routed.topology.add_port(&routed.inside[0], "compute", 30 + number))
            .collect();
        for (number, port) in (1..).zip(&ids) {
            routed.topology.add_floating_ip(&routed.external, number, Some(port));
        }
        Ok(())
    })?;
    for (parameter, value) in [("retrans_time_ms", "2"), ("mcast_solicit", "10000")] {
        routed.internet.set_parameter(&format!("net/ipv4/neigh/eth0/{parameter}"), value)?;
    }
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let (number, port) = (200 + round, routed.ports[0].clone());
        let address = format!("10.0.50.{number}");
        let log = routed.folder().join(format!("floating-{number}.log"));
        // With -w, -c counts answers: the first one ends it.
        let mut ping = routed.internet.start(&format!("ping -n -D -i 0.002 -w 20 -c 1 {address}"), &log)?;
        wait_until("somebody asks", || {
            Ok(!routed.internet.run(&format!("ip neighbour show to {address}"))?.is_empty())
        })?;
        routed.topology.add_floating_ip(&routed.external.clone(), number, Some(&port));
        let begun = now()?;
        routed.topology.write(&routed.topology_file)?;
        ping.wait()?;
        times.push(first_answer(&ping.output()?)? - begun);
        routed.change(|topology| drop(topology.floating_ips.pop()))?;
    }
    figures.add("floating_ip_add", "ms", times);
    Ok(())
}

/// How often the active node is lost.
const FAILOVERS: usize = 5;

/// For how long somebody outside has no answer from a floating IP when the active node of its router is lost, with its wires, its agent and
/// keepalived; and when only keepalived is.
pub(crate) fn measure_failover(figures: &mut Figures) -> Result<()> {
    let mut cloud = Replicated::running()?;
    let millis = |pause: std::time::Duration| pause.as_secs_f64() * 1000.0;
    let stream = |cloud: &Replicated| {
        let routed = &cloud.routed;
        Stream::start(routed.folder(), &routed.internet, Replicated::FLOATING)
    };
    let (mut of_node, mut of_program) = (Vec::new(), Vec::new());
    for _ in 0..FAILOVERS {
        let [active, other] = cloud.roles()?;
        let pings = stream(&cloud)?;
        cloud.lose(active)?;
        cloud.wait_until_active(other)?;
        of_node.push(millis(pings.longest_pause()?));
        cloud.boot(active)?;
        let [active, other] = cloud.roles()?;
        let pings = stream(&cloud)?;
        let [watcher, _] = cloud.keepalived(active)?;
        kill(watcher, Signal::SIGKILL).context("killing keepalived")?;
        cloud.wait_until_active(other)?;
        of_program.push(millis(pings.longest_pause()?));
    }
    figures.add("ha_failover", "ms", of_node);
    figures.add("ha_keepalived_killed", "ms", of_program);
    Ok(())
}

const TCP_ROUNDS: usize = 7;
const TCP_SECS: u32 = 2;

/// TCP from a machine of the network node to the outside, in frames of wire size, through the same namespace twice: with Overlane's
/// table, and with the rules of Neutron's L3 agent. Everything else is the same.
pub(crate) fn measure_tcp(figures: &mut Figures) -> Result<()> {
    let mut routed = Routed::running_with(|routed| {
        routed.topology.add_port(&routed.inside[0], "node", 24);
        Ok(())
    })?;
    let port = routed.topology.ports.last().context("a port")?.clone();
    let machine = routed.boot(&port)?;
    machine.wait_for(routed.outside())?;
    routed.settle()?;
    machine.run("ethtool --offload eth0 tx off")?;
    routed.internet.run("ethtool --offload eth0 gro on")?;
    // It would put its table back.
    routed.agents.remove(0).stop(Signal::SIGTERM)?;
    let own = routed.folder().join("overlane.nft");
    std::fs::write(&own, routed.in_router("nft list table inet overlane")?).context("keeping the table")?;
    let other = routed.folder().join("neutron.iptables");
    std::fs::write(&other, neutron_rules(&routed)?).context("writing rules")?;
    let (mut with_own, mut with_other, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TCP_ROUNDS {
        routed.in_router("nft flush ruleset")?;
        routed.in_router(&format!("nft -f {}", own.display()))?;
        let ours = throughput(&routed, &machine)?;
        routed.in_router("nft flush ruleset")?;
        routed.in_router(&format!("iptables-restore {}", other.display()))?;
        let theirs = throughput(&routed, &machine)?;
        with_own.push(ours / 1e9);
        with_other.push(theirs / 1e9);
        ratios.push(ours / theirs);
    }
    figures.add("router_tcp", "Gbit/s", with_own);
    figures.add("router_tcp_iptables", "Gbit/s", with_other);
    figures.add("router_tcp_vs_iptables", "ratio", ratios);
    Ok(())
}

fn throughput(routed: &Routed, machine: &Machine) -> Result<f64> {
    let log = routed.folder().join("iperf3-internet.log");
    let mut server = routed.internet.start("iperf3 --server --one-off --forceflush", &log)?;
    wait_until("iperf3 listens", || {
        anyhow::ensure!(server.ended()?.is_none(), "iperf3 has ended: {}", server.output()?);
        Ok(server.output()?.contains("Server listening"))
    })?;
    // The table was exchanged a moment ago.
    machine.wait_for(routed.outside())?;
    machine.iperf(routed.outside(), TCP_SECS)
}

/// The rules of Neutron's L3 agent for this router (contract §5.2), as `iptables-save` prints them.
fn neutron_rules(routed: &Routed) -> Result<String> {
    let links = routed.in_router("ip -br link")?;
    let names = links.lines().filter_map(|line| line.split(['@', ' ']).next());
    let (gateways, inside): (Vec<&str>, Vec<&str>) =
        names.filter(|name| *name != "lo").partition(|name| name.starts_with("qg-"));
    let (gateway, address) = (gateways.first().context("a gateway")?, routed.gateway());
    let mut mangle = String::new();
    let mut filter = String::new();
    for link in inside.iter().chain([gateway]) {
        writeln!(mangle, "-A neutron-l3-agent-scope -i {link} -j MARK --set-xmark 0x4000000/0xffff0000")?;
    }
    for link in &inside {
        writeln!(filter, "-A neutron-l3-agent-scope -o {link} -m mark ! --mark 0x4000000/0xffff0000 -j DROP")?;
    }
    let template = include_str!("neutron_router.iptables");
    Ok(template
        .replace("@GATEWAY@", gateway)
        .replace("@ADDRESS@", address)
        .replace("@MANGLE@\n", &mangle)
        .replace("@FILTER@\n", &filter))
}
