//! Flat and local networks: NICs and bridges of the host, and what is on them.

use anyhow::{Context as _, Result, ensure};
use overlane_tests::{
    lab::{
        BY_INTERFACE, HOSTS, Host, Lanes, NIC, Namespace, Network, OUTSIDE, Pair, Port, Stream, UPLINK, nothing_to_do,
    },
    wait::wait_until,
};

/// A pair on whose physical network the fabric is somebody as well.
fn wired() -> Result<Pair> {
    let pair = Pair::wired()?;
    for address in ["192.0.2.254/24", "2001:db8::fe/64", "10.0.20.254/24"] {
        pair.lab.fabric().run(&format!("ip address add {address} dev {OUTSIDE} nodad"))?;
    }
    Ok(pair)
}

const BY_BRIDGE: &str = "[linux_bridge]\nbridge_mappings = provider:br-ex\n";

/// A flat network with a port on each host.
fn add_flat(pair: &mut Pair) -> Result<(Network, [Port; 2])> {
    let network = pair.topology.add_flat_network(20, "provider");
    let ports = HOSTS.map(|(name, _)| name).map(|name| {
        let number = if name == "left" { 1 } else { 2 };
        pair.topology.add_port(&network, name, number)
    });
    pair.topology.write(&pair.topology_file)?;
    Ok((network, ports))
}

#[test]
fn machines_on_a_flat_network_reach_each_other_and_the_outside() -> Result<()> {
    let mut pair = wired()?;
    let (network, ports) = add_flat(&mut pair)?;
    for (name, _) in HOSTS {
        pair.start_with(name, BY_INTERFACE)?;
    }
    let machines = [&ports[0], &ports[1]].map(|port| pair.host(&port.host).boot(pair.lab.world(), port));
    let [left, right] = machines;
    let (left, right) = (left?, right?);
    left.wait_for(ports[1].ipv4())?;
    for (name, _) in HOSTS {
        nothing_to_do(pair.host(name))?;
    }
    left.ping(ports[1].ipv4(), 20)?;
    right.ping(ports[0].ipv6(), 20)?;
    left.ping("10.0.20.254", 20)?;
    let host = pair.host("left");
    let delivered = host.counted("from_uplink", NIC, "delivered")?;
    ensure!(delivered >= 40, "only {delivered} frames went from the NIC straight to the tap");
    let mac = |device: &str| -> Result<String> {
        let line = host.run(&format!("ip -o link show {device}"))?;
        Ok(line.split("link/ether ").nth(1).context("a MAC address")?[..17].to_owned())
    };
    ensure!(mac(&network.bridge())? == mac(NIC)?, "the bridge has another MAC address than its NIC");
    ensure!(host.run(&format!("ip -o link show {NIC}"))?.contains(&format!("master {}", network.bridge())));
    let server = right.serve_iperf(pair.lab.world().folder())?;
    ensure!(left.iperf(ports[1].ipv4(), 1)? > 1e8);
    drop(server);
    Ok(())
}

/// Addresses and routes, without what ticks and without the interface's own link-local ones.
fn layer3(host: &Host, device: &str) -> Result<String> {
    let addresses = host.run(&format!("ip -o address show dev {device} scope global"))?;
    let addresses: String =
        addresses.lines().map(|line| line.split_once("inet").map_or("", |(_, rest)| rest)).collect();
    let mut routes = String::new();
    for line in ["-4 route show table main", "-6 route show table main", "-4 route show table 77"] {
        routes += &host.run(&format!("ip {line} dev {device}"))?;
    }
    let routes: Vec<&str> = routes.lines().filter(|line| !line.starts_with("fe80::")).collect();
    let text = format!("{addresses}\n{}", routes.join("\n"));
    Ok(text.replace(device, "DEVICE").split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Gives the NIC of the left host addresses and routes of every kind.
fn number_the_nic(host: &Host) -> Result<()> {
    for address in ["192.0.2.1/24", "198.51.100.1/24", "2001:db8::1/64"] {
        host.run(&format!("ip address add {address} dev {NIC} nodad"))?;
    }
    for route in [
        "default via 192.0.2.254 metric 50",
        "203.0.113.0/24 via 192.0.2.254 metric 7 mtu 1400",
        "203.0.113.128/25 via 192.0.2.254 src 198.51.100.1 table 77",
        "192.0.2.200/32 scope link",
    ] {
        host.run(&format!("ip route add {route} dev {NIC}"))?;
    }
    host.run(&format!("ip -6 route add default via 2001:db8::fe dev {NIC} metric 99"))?;
    Ok(())
}

#[test]
fn a_nics_addresses_and_routes_move_to_the_bridge_and_back_while_packets_flow() -> Result<()> {
    let mut pair = wired()?;
    let (network, _) = add_flat(&mut pair)?;
    number_the_nic(pair.host("left"))?;
    let before = layer3(pair.host("left"), NIC)?;
    let outside: &Namespace = pair.lab.fabric();
    outside.ping("192.0.2.1", 1)?;
    let streams = [
        Stream::start(pair.folder(), outside, "192.0.2.1")?,
        Stream::start(pair.folder(), outside, "2001:db8::1")?,
        Stream::start(pair.folder(), &pair.host("left").namespace, "192.0.2.254")?,
    ];
    pair.start_with("left", BY_INTERFACE)?;
    nothing_to_do(pair.host("left"))?;
    let moved = layer3(pair.host("left"), &network.bridge())?;
    ensure!(moved == before, "on the NIC:\n{before}\non the bridge:\n{moved}");
    ensure!(pair.host("left").run(&format!("ip -o address show dev {NIC} scope global"))?.is_empty());

    pair.topology.networks.pop();
    pair.topology.ports.retain(|port| port.network_id != network.id);
    pair.topology.write(&pair.topology_file)?;
    wait_until("the bridge is gone", || {
        Ok(pair.host("left").run(&format!("ip link show {}", network.bridge())).is_err())
    })?;
    let back = layer3(pair.host("left"), NIC)?;
    ensure!(back == before, "before:\n{before}\nafter:\n{back}");
    for stream in streams {
        // The NIC has changed hands twice, and each time the kernel drops what arrives for some microseconds.
        stream.expect_loss_of_at_most(2)?;
    }
    Ok(())
}

#[test]
fn a_move_that_fails_half_way_is_rolled_back_and_holds_back_nothing_else() -> Result<()> {
    let mut pair = wired()?;
    add_flat(&mut pair)?;
    number_the_nic(pair.host("left"))?;
    let host = pair.host("left");
    // A next-hop object is bound to its interface: the route that uses it cannot go elsewhere.
    host.run(&format!("ip nexthop add id 7 via 192.0.2.254 dev {NIC}"))?;
    host.run("ip route add 203.0.113.64/26 nhid 7")?;
    let before = layer3(host, NIC)?;
    pair.start_with("left", BY_INTERFACE)?;
    pair.agents[0].wait_for_log("could not move phys0 with its addresses and routes into bridge")?;
    let after = layer3(pair.host("left"), NIC)?;
    ensure!(after == before, "before:\n{before}\nafter:\n{after}");
    ensure!(!pair.host("left").run(&format!("ip -o link show {NIC}"))?.contains("master"));
    pair.lab.fabric().ping("192.0.2.1", 1)?;
    // The VXLAN network of the same host works.
    pair.start_with("right", BY_INTERFACE)?;
    pair.boot()?;
    pair.left().wait_for(pair.ports[1].ipv4())
}

#[test]
fn a_bridge_that_nova_made_without_ipv6_does_not_cut_the_host_off() -> Result<()> {
    let mut pair = wired()?;
    let (network, _) = add_flat(&mut pair)?;
    number_the_nic(pair.host("left"))?;
    let host = pair.host("left");
    host.run(&format!("ip link add name {} up type bridge", network.bridge()))?;
    host.namespace.set_parameter(&format!("net/ipv6/conf/{}/disable_ipv6", network.bridge()), "1")?;
    pair.start_with("left", BY_INTERFACE)?;
    nothing_to_do(pair.host("left"))?;
    for address in ["192.0.2.1", "2001:db8::1"] {
        pair.lab.fabric().ping(address, 2)?;
    }
    Ok(())
}

#[test]
fn tunnels_and_management_survive_when_their_nic_joins_a_flat_network() -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    // Who manages the host does so by the same NIC.
    pair.lab.fabric().run("ip address add 10.10.10.1/24 dev segment")?;
    let management = Stream::start(pair.folder(), pair.lab.fabric(), HOSTS[0].1)?;
    let config = format!("[linux_bridge]\nphysical_interface_mappings = provider:{UPLINK}\n");
    let stream = Stream::start(pair.folder(), &pair.left().namespace, pair.ports[1].ipv4())?;
    let (network, _) = add_flat(&mut pair)?;
    pair.agents.remove(0).stop(nix::sys::signal::Signal::SIGTERM)?;
    pair.start_with("left", &config)?;
    nothing_to_do(pair.host("left"))?;
    ensure!(pair.host("left").run(&format!("ip -o link show {UPLINK}"))?.contains(&network.bridge()));
    pair.ping_all(20)?;
    stream.expect_no_loss()?;
    management.expect_no_loss()?;
    let vteps = pair.host("left").show("vteps")?;
    ensure!(vteps[0]["uplink"] == network.bridge().as_str() && vteps[0]["lane"] == "fast", "{vteps:?}");
    Ok(())
}

#[test]
fn a_mapped_bridge_is_used_as_it_is() -> Result<()> {
    let mut pair = wired()?;
    let (network, ports) = add_flat(&mut pair)?;
    let host = pair.host("left");
    host.run("ip link add name br-ex up type bridge")?;
    host.run(&format!("ip link set {NIC} master br-ex"))?;
    pair.start_with("left", BY_BRIDGE)?;
    let machine = pair.host("left").boot(pair.lab.world(), &ports[0])?;
    machine.wait_for("10.0.20.254")?;
    nothing_to_do(pair.host("left"))?;
    let links = pair.host("left").run("ip -o link")?;
    ensure!(!links.contains(&network.bridge()), "{links}");
    ensure!(pair.host("left").show("networks")?[1]["bridge"] == "br-ex");
    Ok(())
}

#[test]
fn a_missing_device_or_mapping_is_named_and_holds_back_nothing_else() -> Result<()> {
    for (more, expected) in [
        ("", "physical network \"provider\" is neither in [linux_bridge] physical_interface_mappings"),
        (BY_BRIDGE, "there is no bridge br-ex, which bridge_mappings names"),
        (BY_INTERFACE, "there is no interface phys0, which physical_interface_mappings names"),
    ] {
        let mut pair = Pair::bare()?;
        let (_, ports) = add_flat(&mut pair)?;
        pair.expect_only_blocked(&ports[0], more, expected)?;
        // What no look at the host can mend is an error of the configuration as well.
        ensure!(pair.host("left").overlane("config check").is_err() == more.is_empty());
    }
    Ok(())
}

#[test]
fn a_local_network_connects_the_machines_of_one_host() -> Result<()> {
    let mut pair = Pair::bare()?;
    let network = pair.topology.add_local_network(30);
    let ports = [("left", 1), ("left", 2), ("right", 3)];
    let ports = ports.map(|(host, number)| pair.topology.add_port(&network, host, number));
    pair.topology.write(&pair.topology_file)?;
    for (name, _) in HOSTS {
        pair.start_with(name, "")?;
    }
    let machines = [&ports[0], &ports[1], &ports[2]].map(|port| pair.host(&port.host).boot(pair.lab.world(), port));
    let [first, second, elsewhere] = machines;
    let (first, _second, _elsewhere) = (first?, second?, elsewhere?);
    first.wait_for(ports[1].ipv4())?;
    nothing_to_do(pair.host("left"))?;
    first.ping(ports[1].ipv6(), 10)?;
    ensure!(
        first.run(&format!("ping -c 2 -i 0.1 -W 1 {}", ports[2].ipv4())).is_err(),
        "a local network has left its host"
    );
    ensure!(pair.host("left").counted("from_port", "tap", "delivered")? >= 20);
    Ok(())
}
