//! The XDP lane with real devices: what it carries arrives, what it does not goes by the TC lane, and both are filtered alike.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use overlane_tests::{
    lab::{HOSTS, Lab, Lanes, Machine, Pair, Rule, Stream, UPLINK, World, nothing_to_do, send_udp},
    wait::wait_until,
};

const PINGS: u32 = 20;
const XDP: &str = "uplink_lane = xdp\n";

/// Two hosts with nothing between them, so that each may send to the other by XDP.
fn pair() -> Result<Pair> {
    Pair::in_lab(Lab::back_to_back(World::private()?, &HOSTS)?)
}

/// The same over IPv6.
fn pair_over_v6() -> Result<Pair> {
    Pair::in_lab(Lab::back_to_back(World::private()?, &[("left", "fd10::11"), ("right", "fd10::12")])?)
}

/// Agents with more configuration than usual, and machines that complete their own checksums and can be sent to by XDP.
fn start(pair: &mut Pair, config: &str) -> Result<()> {
    launch(pair, config)?;
    pair.settle()
}

/// As `start`, for machines that need not reach each other.
fn launch(pair: &mut Pair, config: &str) -> Result<()> {
    for (name, _) in HOSTS {
        pair.host(name).add_config(config);
        leave_tags(pair, name)?;
    }
    pair.boot()?;
    pair.machines.iter().try_for_each(prepare)?;
    for (name, _) in HOSTS {
        let agent = pair.host(name).start_agent(&pair.topology_file, Lanes::Both)?;
        pair.agents.push(agent);
    }
    pair.finish()
}

/// Has the NIC of a host leave tags where programs see them.
fn leave_tags(pair: &Pair, host: &str) -> Result<()> {
    pair.host(host).run(&format!("ethtool --offload {UPLINK} rxvlan off")).map(drop)
}

fn prepare(machine: &Machine) -> Result<()> {
    machine.run("ethtool --offload eth0 tx off gro on").map(drop)
}

/// Has both ports send by XDP.
fn opt_in(pair: &mut Pair) -> Result<()> {
    pair.topology.ports.iter_mut().for_each(|port| port.from_port_xdp = Some(true));
    pair.topology.write(&pair.topology_file)
}

#[test]
fn what_arrives_goes_by_xdp_and_tcp_by_tc() -> Result<()> {
    let mut pair = pair()?;
    start(&mut pair, XDP)?;
    let by = |program| pair.host("right").counted(program, UPLINK, "decapsulated");
    let (xdp, tc) = (by("from_uplink_xdp")?, by("from_uplink")?);
    let admitted = pair.host("right").counted("to_port", "tap", "admitted")?;
    pair.ping_all(PINGS)?;
    let carried = by("from_uplink_xdp")? - xdp;
    ensure!(carried >= u64::from(4 * PINGS), "XDP decapsulated {carried}");
    ensure!(by("from_uplink")? - tc < 4, "the TC lane decapsulated pings");
    ensure!(pair.host("right").counted("to_port", "tap", "admitted")? - admitted >= carried, "they were not admitted");
    // In superpackets, which the wire carries in segments.
    pair.left().run("ethtool --offload eth0 tx on")?;
    let server = pair.right().serve_iperf(pair.folder())?;
    ensure!(pair.left().iperf(pair.ports[1].ipv4(), 1)? > 0.0);
    drop(server);
    let tcp = pair.host("right").counted("from_overlay", "vxlan-10", "delivered")?;
    ensure!(tcp > 100, "only {tcp} superpackets came by the kernel's decapsulation");
    let vteps = pair.host("right").overlane("show vteps")?;
    ensure!(vteps.contains("INCOMING") && vteps.contains("xdp"), "{vteps}");
    Ok(())
}

#[test]
fn what_a_machine_sends_goes_by_xdp_if_its_port_says_so_and_its_checksums_are_complete() -> Result<()> {
    let mut pair = pair()?;
    opt_in(&mut pair)?;
    start(&mut pair, XDP)?;
    let sent = || pair.host("left").counted("from_port_xdp", "tap", "encapsulated");
    let before = sent()?;
    pair.ping_all(PINGS)?;
    let carried = sent()? - before;
    ensure!(carried >= u64::from(4 * PINGS), "XDP encapsulated {carried}");
    // With its checksums left to others, what the machine sends arrives nevertheless.
    pair.left().run("ethtool --offload eth0 tx on")?;
    for address in [pair.ports[1].ipv4(), pair.ports[1].ipv6()] {
        let server = pair.right().serve_iperf(pair.folder())?;
        ensure!(pair.left().iperf(address, 1)? > 0.0);
        drop(server);
    }
    let ports = pair.host("left").show("ports")?;
    ensure!(ports[0]["lane"] == "xdp" && ports[0]["sent_fast"].as_u64() > Some(carried), "{ports:?}");
    Ok(())
}

#[test]
fn both_ends_of_a_tunnel_over_ipv6_are_at_xdp_too() -> Result<()> {
    let mut pair = pair_over_v6()?;
    opt_in(&mut pair)?;
    start(&mut pair, XDP)?;
    let sent = || pair.host("left").counted("from_port_xdp", "tap", "encapsulated");
    let arrived = || pair.host("right").counted("from_uplink_xdp", UPLINK, "decapsulated");
    let before = [sent()?, arrived()?];
    pair.ping_all(PINGS)?;
    let carried = [sent()? - before[0], arrived()? - before[1]];
    ensure!(carried.iter().all(|count| *count >= u64::from(4 * PINGS)), "XDP carried {carried:?}");
    Ok(())
}

#[test]
fn machines_of_one_host_reach_each_other_by_xdp() -> Result<()> {
    let mut pair = pair()?;
    let third = pair.topology.add_port(&pair.network, "left", 3);
    opt_in(&mut pair)?;
    start(&mut pair, "")?;
    let machine = pair.host("left").boot(pair.lab.world(), &third)?;
    prepare(&machine)?;
    nothing_to_do(pair.host("left"))?;
    machine.wait_for(pair.ports[0].ipv4())?;
    let before = pair.host("left").counted("from_port_xdp", "tap", "delivered")?;
    machine.ping(pair.ports[0].ipv4(), PINGS)?;
    let delivered = pair.host("left").counted("from_port_xdp", "tap", "delivered")? - before;
    ensure!(delivered >= u64::from(2 * PINGS), "XDP delivered {delivered}");
    Ok(())
}

#[test]
fn security_groups_hold_in_the_xdp_lane() -> Result<()> {
    let mut pair = pair()?;
    let client = pair.topology.add_group("client", Rule::both("egress", None));
    let dns = Rule::both("ingress", Some("udp")).map(|rule| rule.port(53));
    let served = pair.topology.add_group("served", Rule::both("egress", None).into_iter().chain(dns));
    let [left, right] = pair.ports.clone();
    pair.topology.set_groups(&left.id, &[&client]);
    pair.topology.set_groups(&right.id, &[&served]);
    opt_in(&mut pair)?;
    launch(&mut pair, XDP)?;
    let sends = |port| send_udp(pair.left(), pair.right(), right.ipv4(), port, 100);
    wait_until("what a rule admits arrives", || sends(53))?;
    let carried = || pair.host("right").counted("from_uplink_xdp", UPLINK, "decapsulated");
    let before = carried()?;
    ensure!(sends(53)?, "a datagram was lost");
    ensure!(carried()? > before, "it has come by the TC lane");
    let (before, dropped) = (carried()?, pair.host("right").counted("to_port", "tap", "dropped")?);
    ensure!(!sends(54)?, "what no rule admits has arrived");
    ensure!(carried()? > before && pair.host("right").counted("to_port", "tap", "dropped")? > dropped);
    // What the machine may not send at all is dropped where it begins.
    let dropped = pair.host("left").counted("from_port_xdp", "tap", "dropped")?;
    pair.left().run("ip address add 10.99.99.99/32 dev eth0")?;
    // It fails, as it should.
    let _ = pair.left().run(&format!("ping -c 1 -W 1 -I 10.99.99.99 {}", right.ipv4()));
    wait_until("a spoofed packet is dropped", || {
        Ok(pair.host("left").counted("from_port_xdp", "tap", "dropped")? > dropped)
    })
}

#[test]
fn a_machine_that_xdp_cannot_reach_is_reached_by_tc_and_by_xdp_once_it_can() -> Result<()> {
    let mut pair = pair()?;
    start(&mut pair, XDP)?;
    let by = |program| pair.host("right").counted(program, UPLINK, "decapsulated");
    // A veth without NAPI at its other end drops what XDP sends by it.
    pair.right().run("ethtool --offload eth0 gro off")?;
    wait_until("what arrives goes by the TC lane", || {
        let before = by("from_uplink")?;
        pair.left().ping(pair.ports[1].ipv4(), 2)?;
        Ok(by("from_uplink")? >= before + 2)
    })?;
    pair.right().run("ethtool --offload eth0 gro on")?;
    wait_until("what arrives goes by XDP", || {
        let before = by("from_uplink_xdp")?;
        pair.left().ping(pair.ports[1].ipv4(), 2)?;
        Ok(by("from_uplink_xdp")? >= before + 2)
    })
}

#[test]
fn nothing_is_lost_while_the_agent_is_killed_and_replaced() -> Result<()> {
    let mut pair = pair()?;
    opt_in(&mut pair)?;
    start(&mut pair, XDP)?;
    let before = pair.host("left").counted("from_uplink_xdp", UPLINK, "decapsulated")?;
    let stream = Stream::start(pair.folder(), &pair.right().namespace, pair.ports[0].ipv4())?;
    pair.replace_agent(Signal::SIGKILL, Lanes::Both, |_| Ok(()))?;
    wait_until("XDP has carried 300 of them", || {
        Ok(pair.host("left").counted("from_uplink_xdp", UPLINK, "decapsulated")? >= before + 300)
    })?;
    stream.expect_no_loss()
}

#[test]
fn a_nic_without_native_xdp_is_named_and_the_tc_lane_carries_on() -> Result<()> {
    let mut pair = pair()?;
    let host = pair.host("left");
    // A bridge has none.
    host.run("ip link add name br-underlay type bridge")?;
    host.run("ip link set br-underlay up")?;
    host.run(&format!("ip address del {}/24 dev {UPLINK}", host.local_ip))?;
    host.run(&format!("ip link set {UPLINK} master br-underlay"))?;
    host.run(&format!("ip address add {}/24 dev br-underlay", host.local_ip))?;
    start(&mut pair, XDP)?;
    let reason = "uplink_lane of br-underlay cannot be xdp: its driver (bridge) has no native XDP that redirects";
    pair.agents[0].wait_for_log(reason)?;
    let verified = pair.host("left").overlane("verify")?;
    ensure!(verified.contains("agree") && verified.contains(reason), "{verified}");
    pair.ping_all(PINGS)
}

#[test]
fn a_nic_that_takes_tags_off_is_named_until_it_leaves_them() -> Result<()> {
    let mut pair = pair()?;
    start(&mut pair, XDP)?;
    let incoming = || Ok::<_, anyhow::Error>(pair.host("left").show("vteps")?[0].clone());
    ensure!(incoming()?["incoming"] == "xdp");
    pair.host("left").run(&format!("ethtool --offload {UPLINK} rxvlan on"))?;
    wait_until("the TC lane takes up what arrives", || {
        let row = incoming()?;
        let says_why = row["incoming_reason"].as_str().is_some_and(|reason| reason.contains("rxvlan off"));
        Ok(row["incoming"] == "tc" && says_why)
    })?;
    pair.ping_all(PINGS)?;
    leave_tags(&pair, "left")?;
    wait_until("XDP takes up what arrives", || Ok(incoming()?["incoming"] == "xdp"))
}

#[test]
fn xdp_is_gone_once_nobody_asks_for_it_and_after_detach() -> Result<()> {
    let mut pair = pair()?;
    opt_in(&mut pair)?;
    start(&mut pair, XDP)?;
    let programs = |pair: &Pair, device: &str| pair.host("left").run(&format!("ip -details link show {device}"));
    let tap = pair.ports[0].tap();
    ensure!(programs(&pair, &tap)?.contains("prog/xdp") && programs(&pair, UPLINK)?.contains("prog/xdp"));
    pair.change(|topology| topology.ports.iter_mut().for_each(|port| port.from_port_xdp = None))?;
    wait_until("the tap has no XDP program", || Ok(!programs(&pair, &tap)?.contains("prog/xdp")))?;
    pair.agents.remove(0).stop(Signal::SIGTERM)?;
    pair.host("left").overlane("detach")?;
    wait_until("the uplink has no XDP program", || Ok(!programs(&pair, UPLINK)?.contains("prog/xdp")))?;
    pair.ping_all(PINGS)
}
