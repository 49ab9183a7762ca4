//! Machines reach each other, and the lane that was meant to carry their packets did.

use anyhow::{Result, ensure};
use overlane_tests::{
    lab::{AddressPair, Lanes, Pair, UPLINK, nothing_to_do},
    wait::wait_until,
};

const PINGS: u32 = 20;

#[test]
fn machines_on_two_hosts_reach_each_other_by_the_fast_lane() -> Result<()> {
    let pair = Pair::running(Lanes::Both)?;
    let count = || {
        let (left, right) = (pair.host("left"), pair.host("right"));
        anyhow::Ok((
            left.counted("from_port", "tap", "encapsulated")?,
            right.counted("from_uplink", UPLINK, "decapsulated")?,
        ))
    };
    let before = count()?;
    pair.ping_all(PINGS)?;
    let after = count()?;
    // Requests one way and answers to requests the other way, for two families.
    let expected = u64::from(4 * PINGS);
    ensure!(after.0 - before.0 >= expected, "left encapsulated {} of {expected}", after.0 - before.0);
    ensure!(after.1 - before.1 >= expected, "right decapsulated {} of {expected}", after.1 - before.1);
    Ok(())
}

#[test]
fn machines_reach_each_other_over_an_ipv6_underlay() -> Result<()> {
    let mut pair = Pair::of(&[("left", "fd10::11"), ("right", "fd10::12")])?;
    pair.start(Lanes::Both)?;
    pair.ping_all(PINGS)?;
    ensure!(pair.host("left").counted("from_port", "tap", "encapsulated")? >= u64::from(4 * PINGS));
    ensure!(pair.host("left").counted("from_uplink", UPLINK, "decapsulated")? >= u64::from(4 * PINGS));
    let server = pair.right().serve_iperf(pair.lab.world().folder())?;
    ensure!(pair.left().iperf(pair.ports[1].ipv4(), 1)? > 0.0);
    drop(server);
    Ok(())
}

#[test]
fn bulk_tcp_arrives_through_the_kernels_decapsulation_and_past_the_bridge() -> Result<()> {
    let pair = Pair::running(Lanes::Both)?;
    for address in [pair.ports[1].ipv4(), pair.ports[1].ipv6()] {
        let before = pair.host("right").counted("from_overlay", "vxlan-10", "delivered")?;
        let server = pair.right().serve_iperf(pair.lab.world().folder())?;
        ensure!(pair.left().iperf(address, 1)? > 0.0);
        drop(server);
        let delivered = pair.host("right").counted("from_overlay", "vxlan-10", "delivered")? - before;
        ensure!(delivered > 100, "only {delivered} superpackets were redirected past the bridge");
    }
    Ok(())
}

#[test]
fn machines_on_one_host_are_switched_without_a_tunnel() -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    let port = pair.topology.add_port(&pair.network, "left", 3);
    pair.topology.write(&pair.topology_file)?;
    let third = pair.host("left").boot(pair.lab.world(), &port)?;
    third.wait_for(pair.ports[0].ipv4())?;
    nothing_to_do(pair.host("left"))?;
    let before = pair.host("left").counted("from_port", "tap", "delivered")?;
    third.ping(pair.ports[0].ipv4(), PINGS)?;
    third.ping(pair.ports[0].ipv6(), PINGS)?;
    let delivered = pair.host("left").counted("from_port", "tap", "delivered")? - before;
    ensure!(delivered >= u64::from(4 * PINGS), "{delivered}");
    // The third machine's port is known to the other host as well.
    third.ping(pair.ports[1].ipv4(), PINGS)
}

#[test]
fn networks_with_the_same_addresses_do_not_see_each_other() -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    let other = pair.topology.add_network(11);
    let mut twin = pair.topology.add_port(&other, "right", 3);
    // As if it were on the first network.
    twin.fixed_ips = vec!["10.0.10.77".to_owned()];
    let network = pair.topology.networks.last_mut().expect("just added");
    network.subnets[0].cidr = "10.0.10.0/24".to_owned();
    *pair.topology.ports.last_mut().expect("just added") = twin.clone();
    pair.topology.write(&pair.topology_file)?;
    let machine = pair.host("right").boot(pair.lab.world(), &twin)?;
    nothing_to_do(pair.host("right"))?;
    for (from, to) in [(&machine, pair.ports[0].ipv4()), (pair.left(), twin.ipv4())] {
        let ping = from.run(&format!("ping -c 2 -i 0.1 -W 1 {to}"));
        ensure!(ping.is_err(), "{to} answered across networks");
    }
    Ok(())
}

#[test]
fn questions_that_the_responder_answers_are_not_flooded() -> Result<()> {
    let pair = Pair::running(Lanes::Both)?;
    let machine = pair.left();
    let count = || {
        let answered = pair.host("left").counted("from_port", "tap", "answered")?;
        anyhow::Ok((answered, pair.host("right").counted("from_overlay", "vxlan-10", "flood")?))
    };
    // Machines flood things of their own now and then (router solicitations, multicast reports): not in every round.
    wait_until("two questions are answered, and nothing is flooded", || {
        let before = count()?;
        for address in [pair.ports[1].ipv4(), pair.ports[1].ipv6()] {
            machine.run(&format!("ip neighbour flush to {address} dev eth0"))?;
            machine.ping(address, 1)?;
        }
        let after = count()?;
        let (answered, flooded) = (after.0 - before.0, after.1 - before.1);
        ensure!(answered == 2 && flooded == 0, "{answered} of 2 questions were answered, {flooded} frames flooded");
        Ok(true)
    })
}

#[test]
fn an_address_that_several_ports_may_use_is_found_by_flooding() -> Result<()> {
    let mut pair = Pair::bare()?;
    // A virtual address, as keepalived moves between machines: allowed on the right port, owned by nobody.
    let shared = "10.0.10.200";
    pair.topology.ports[1].allowed_address_pairs.push(AddressPair { ip_address: shared.to_owned() });
    pair.topology.write(&pair.topology_file)?;
    pair.start(Lanes::Both)?;
    pair.right().run(&format!("ip address add {shared}/24 dev eth0"))?;
    pair.left().ping(shared, PINGS)?;
    let neighbors = pair.host("left").show("neighbors")?;
    ensure!(neighbors.iter().all(|row| row["address"] != shared), "{neighbors:?}");
    Ok(())
}

#[test]
fn without_the_fast_path_the_kernel_lane_carries_everything() -> Result<()> {
    let pair = Pair::running(Lanes::KernelOnly)?;
    pair.ping_all(PINGS)?;
    let server = pair.right().serve_iperf(pair.lab.world().folder())?;
    ensure!(pair.left().iperf(pair.ports[1].ipv4(), 1)? > 0.0);
    drop(server);
    ensure!(pair.host("left").show("counters")?.is_empty());
    ensure!(!pair.host("left").bpffs().exists(), "something is pinned");
    Ok(())
}

#[test]
fn taps_and_vxlan_devices_follow_the_mtu_of_their_network() -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    pair.topology.networks[0].mtu = Some(1300);
    pair.topology.write(&pair.topology_file)?;
    let tap = pair.ports[0].tap();
    wait_until("the new MTU is set", || {
        let links =
            [tap.as_str(), "vxlan-10"].map(|device| pair.host("left").run(&format!("ip -o link show {device}")));
        let links = links.into_iter().collect::<Result<Vec<String>>>()?;
        Ok(links.iter().all(|link| link.contains("mtu 1300")))
    })
}
