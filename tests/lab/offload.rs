//! Superpackets (GSO) go into a real tap, as QEMU has one, in one piece.

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use overlane_tests::{
    lab::{Agent, BY_INTERFACE, HOSTS, Host, Lanes, NIC, Pair, Port, UPLINK, nothing_to_do},
    packet::{ETHERNET, Ends, Frame, too_big},
    superpacket::{SEGMENT, superpacket},
    tap::{Offload, Tap},
    wait::{wait_for, wait_until},
};
use serde_json::Value;

/// Two hosts, and a real tap on each.
fn taps() -> Result<(Pair, [Tap; 2])> {
    taps_with("")
}

/// As `taps`, with more configuration than usual.
fn taps_with(more_config: &str) -> Result<(Pair, [Tap; 2])> {
    let mut pair = Pair::bare()?;
    for name in ["left", "right"] {
        pair.host(name).add_config(more_config);
        pair.host(name).run(&format!("ethtool --offload {UPLINK} rxvlan off"))?;
        let agent = pair.host(name).start_agent(&pair.topology_file, Lanes::Both)?;
        pair.agents.push(agent);
    }
    let [left, right] = &pair.ports;
    let tap = |port: &Port| Tap::create(&pair.host(&port.host).namespace, &port.tap());
    let taps = [tap(left)?, tap(right)?];
    for name in ["left", "right"] {
        nothing_to_do(pair.host(name))?;
    }
    Ok((pair, taps))
}

fn mac(port: &Port) -> Result<[u8; 6]> {
    let mac: overlane_core::model::Mac = port.mac_address.parse().context("a MAC address")?;
    Ok(mac.0)
}

fn ends(pair: &Pair, is_ipv6: bool) -> Result<Ends> {
    let [left, right] = &pair.ports;
    let address = |port: &Port| if is_ipv6 { port.ipv6().parse() } else { port.ipv4().parse() };
    Ok(Ends {
        source_mac: left.mac(),
        destination_mac: right.mac(),
        source: address(left)?,
        destination: address(right)?,
        traffic_class: 0,
    })
}

/// Sends a superpacket from the left tap and expects it, whole, from the right one.
fn expect_whole(pair: &Pair, taps: &mut [Tap; 2], kind: u8, is_ipv6: bool) -> Result<()> {
    expect_whole_by(pair, ("from_overlay", "vxlan-10", "delivered"), taps, kind, is_ipv6)
}

/// As `expect_whole`, with the program, interface and outcome that bring it past the bridge.
fn expect_whole_by(
    pair: &Pair,
    (program, interface, outcome): (&str, &str, &str),
    taps: &mut [Tap; 2],
    kind: u8,
    is_ipv6: bool,
) -> Result<()> {
    let (offload, frame) = superpacket(&ends(pair, is_ipv6)?, kind);
    let before = pair.host("right").counted(program, interface, outcome)?;
    taps[0].send(offload, &frame)?;
    let is_meant = |received: &Frame| received.0[..ETHERNET] == frame.0[..ETHERNET] && received.0.len() > 200;
    let (received_offload, received) = taps[1].receive(is_meant)?;
    ensure!(received.0.len() == frame.0.len(), "{} bytes arrived of {}", received.0.len(), frame.0.len());
    ensure!(received_offload.is_of(kind), "{received_offload:?}");
    ensure!(received_offload.segment_size == SEGMENT, "{received_offload:?}");
    let payload = usize::from(offload.header_len);
    ensure!(received.0[payload..] == frame.0[payload..], "the payload is another one");
    let delivered = pair.host("right").counted(program, interface, outcome)? - before;
    ensure!(delivered == 1, "{delivered} packets were redirected past the bridge");
    Ok(())
}

#[test]
fn a_tcp_superpacket_that_crosses_the_wire_in_segments_arrives_whole_in_a_tap() -> Result<()> {
    let (pair, mut taps) = taps()?;
    expect_whole(&pair, &mut taps, Offload::TCP_V4, false)?;
    expect_whole(&pair, &mut taps, Offload::TCP_V6, true)
}

#[test]
fn superpackets_arrive_whole_in_a_tap_and_datagrams_by_xdp_where_xdp_takes_up_what_arrives() -> Result<()> {
    let (pair, mut taps) = taps_with("uplink_lane = xdp\n")?;
    expect_whole(&pair, &mut taps, Offload::TCP_V4, false)?;
    expect_whole(&pair, &mut taps, Offload::TCP_V6, true)?;
    let frame = ends(&pair, false)?.udp(100);
    let before = pair.host("right").counted("from_uplink_xdp", UPLINK, "decapsulated")?;
    taps[0].send(Offload::default(), &frame)?;
    let (_, received) =
        taps[1].receive(|received| received.0[..ETHERNET] == frame.0[..ETHERNET] && received.0.len() < 200)?;
    ensure!(received == frame, "{received:?}");
    let carried = pair.host("right").counted("from_uplink_xdp", UPLINK, "decapsulated")? - before;
    ensure!(carried == 1, "XDP has carried {carried}");
    Ok(())
}

#[test]
fn xdp_sends_to_a_tap_of_several_queues() -> Result<()> {
    let (mut pair, mut taps) = taps_with("uplink_lane = xdp\n")?;
    let port = pair.topology.add_port(&pair.network, "right", 3);
    pair.topology.write(&pair.topology_file)?;
    let host = pair.host("right");
    let mut queues = Tap::with_queues(&host.namespace, &port.tap(), 2)?;
    nothing_to_do(host)?;
    nothing_to_do(pair.host("left"))?;
    pair.ports[1] = port;
    let frame = ends(&pair, false)?.udp(100);
    taps[0].send(Offload::default(), &frame)?;
    let mut buffer = vec![0; 2000];
    // Hosts speak of their own accord as well.
    wait_until("the datagram has come by a queue", || {
        for queue in &mut queues {
            while let Some((_, received)) = queue.take_ready(&mut buffer)? {
                if received == frame {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    })
}

#[test]
fn a_tcp_superpacket_that_crosses_the_wire_whole_arrives_whole_in_a_tap() -> Result<()> {
    let (pair, mut taps) = taps()?;
    pair.lab.carry_superpackets()?;
    expect_whole(&pair, &mut taps, Offload::TCP_V4, false)?;
    expect_whole(&pair, &mut taps, Offload::TCP_V6, true)
}

#[test]
fn a_udp_superpacket_arrives_whole_in_a_tap() -> Result<()> {
    let (pair, mut taps) = taps()?;
    // Unlike TCP segments, UDP datagrams are not put together again on the way: the wire must carry the superpacket.
    pair.lab.carry_superpackets()?;
    expect_whole(&pair, &mut taps, Offload::UDP, false)?;
    expect_whole(&pair, &mut taps, Offload::UDP, true)
}

/// Waits until `overlane show vteps` says who sends superpackets to the other host.
fn wait_for_sender(host: &Host, lane: &str) -> Result<Value> {
    wait_for(&format!("superpackets are sent by the {lane} lane"), || {
        let superpackets = host.show("vteps")?[0]["superpackets"].clone();
        Ok((superpackets["sent"]["lane"] == lane).then_some(superpackets))
    })
}

/// What the log of an agent says about who carries superpackets, from the first time on.
fn said(agent: &Agent) -> Result<Vec<String>> {
    let log = agent.log()?;
    Ok(log.lines().filter(|line| line.contains("superpackets uplink=")).map(str::to_owned).collect())
}

#[test]
fn superpackets_leave_by_the_vxlan_device_while_the_nic_does_not_segment_tunnels() -> Result<()> {
    let (pair, mut taps) = taps()?;
    let left = pair.host("left");
    let sent = |outcome| left.counted("from_port", "tap", outcome);
    for (switch, lane, outcome, reason) in [
        ("on", "fast", "encapsulated", "tx-tcp-segmentation is off"),
        ("off", "kernel", "gso", "tx-udp_tnl-segmentation is off"),
        ("on", "fast", "encapsulated", "tx-tcp-segmentation is off"),
    ] {
        left.run(&format!("ethtool --offload {UPLINK} tx-udp_tnl-segmentation {switch}"))?;
        let superpackets = wait_for_sender(left, lane)?;
        ensure!(superpackets["sent"]["reason"].as_str().is_some_and(|said| said.contains(reason)), "{superpackets}");
        nothing_to_do(left)?;
        let before = sent(outcome)?;
        expect_whole(&pair, &mut taps, Offload::TCP_V4, false)?;
        ensure!(sent(outcome)? == before + 1, "the superpacket took another lane");
        // Single packets are the fast lane's in any case.
        let (before, ends) = (sent("encapsulated")?, ends(&pair, false)?);
        taps[0].send(Offload::default(), &ends.udp(300))?;
        taps[1].receive(|received| received.0.len() == ends.udp(300).0.len())?;
        ensure!(sent("encapsulated")? == before + 1, "a single packet took another lane");
    }
    let said = said(&pair.agents[0])?;
    let lanes: Vec<bool> = said.iter().map(|line| line.contains("sent=fast lane: ")).collect();
    ensure!(lanes == [true, false, true] && said.iter().all(|line| line.contains(UPLINK)), "{said:?}");
    Ok(())
}

#[test]
fn who_carries_superpackets_is_shown_with_what_nic_and_kernel_can_do() -> Result<()> {
    let (pair, _taps) = taps()?;
    let left = pair.host("left");
    pair.lab.carry_superpackets()?;
    wait_until("the NIC segments", || {
        let superpackets = left.show("vteps")?[0]["superpackets"].clone();
        Ok(superpackets["sent"]["reason"] == "the NIC cuts them (tx-udp_tnl-segmentation is on)")
    })?;
    // The kernel's own description of its types knows every flag of the helper.
    let types = std::fs::read("/sys/kernel/btf/vmlinux").context("reading the kernel's types")?;
    let has = |name: &str| types.windows(name.len()).any(|window| window == name.as_bytes());
    ensure!(has("BPF_F_ADJ_ROOM_DECAP_L3_IPV4"), "the names of flags are not where they are looked for");
    let reason = if has("BPF_F_ADJ_ROOM_DECAP_L4_UDP") {
        "this version does not use the kernel's BPF_F_ADJ_ROOM_DECAP_L4_UDP yet"
    } else {
        "this kernel has no BPF_F_ADJ_ROOM_DECAP_L4_UDP"
    };
    let received = left.show("vteps")?[0]["superpackets"]["received"].clone();
    ensure!(received["lane"] == "kernel" && received["reason"] == reason, "{received}");
    let table = left.overlane("show vteps")?;
    for part in ["GSO OUT", "GSO IN", "WHY", "out: the NIC cuts them", "in: this"] {
        ensure!(table.contains(part), "{part}: {table}");
    }
    left.run(&format!("ethtool --offload {UPLINK} generic-receive-offload off"))?;
    wait_until("it is known that nothing is put together", || {
        let received = left.show("vteps")?[0]["superpackets"]["received"].clone();
        Ok(received["reason"].as_str().is_some_and(|reason| reason.contains("rx-gro is off")))
    })
}

#[test]
fn without_an_agent_it_is_still_shown_who_carries_superpackets() -> Result<()> {
    let (mut pair, _taps) = taps()?;
    let before = pair.host("left").show("vteps")?[0]["superpackets"].clone();
    pair.agents.remove(0).stop(Signal::SIGKILL)?;
    let after = pair.host("left").show("vteps")?[0]["superpackets"].clone();
    ensure!(before == after && after["received"]["reason"] != Value::Null, "{before}, then {after}");
    Ok(())
}

#[test]
fn a_superpacket_of_a_vlan_arrives_whole_in_a_tap() -> Result<()> {
    let mut pair = Pair::wired()?;
    let network = pair.topology.add_vlan_network(20, "provider", 100);
    pair.ports = [("left", 1), ("right", 2)].map(|(host, number)| pair.topology.add_port(&network, host, number));
    pair.topology.write(&pair.topology_file)?;
    for (name, _) in HOSTS {
        pair.start_with(name, BY_INTERFACE)?;
    }
    let [left, right] = &pair.ports;
    let tap = |port: &Port| Tap::create(&pair.host(&port.host).namespace, &port.tap());
    let mut taps = [tap(left)?, tap(right)?];
    for (name, _) in HOSTS {
        nothing_to_do(pair.host(name))?;
    }
    let by = ("from_uplink", NIC, "decapsulated");
    let all = [(Offload::TCP_V4, false), (Offload::TCP_V6, true), (Offload::UDP, false), (Offload::UDP, true)];
    for (kind, is_ipv6) in all {
        expect_whole_by(&pair, by, &mut taps, kind, is_ipv6)?;
    }
    // In segments of wire size, which the NIC puts together again.
    pair.host("left").run(&format!("ethtool --offload {NIC} tx off"))?;
    pair.lab.fabric().run("ethtool --offload phys-right tx off")?;
    pair.host("right").run(&format!("ethtool --offload {NIC} gro on"))?;
    expect_whole_by(&pair, by, &mut taps, Offload::TCP_V4, false)?;
    expect_whole_by(&pair, by, &mut taps, Offload::TCP_V6, true)
}

#[test]
fn a_superpacket_between_taps_of_one_host_stays_whole() -> Result<()> {
    let (mut pair, taps) = taps()?;
    let port = pair.topology.add_port(&pair.network, "left", 3);
    pair.topology.write(&pair.topology_file)?;
    let third = Tap::create(&pair.host("left").namespace, &port.tap())?;
    nothing_to_do(pair.host("left"))?;
    pair.ports[1] = port;
    let mut taps = taps;
    taps[1] = third;
    let (offload, frame) = superpacket(&ends(&pair, false)?, Offload::TCP_V4);
    taps[0].send(offload, &frame)?;
    let (received_offload, received) = taps[1].receive(|received| received.0.len() > 200)?;
    ensure!(received == frame && received_offload.kind == Offload::TCP_V4, "{received_offload:?}");
    Ok(())
}

/// The left tap sends datagrams of 1500 bytes, and superpackets with such segments, to `destination_mac`, and is told that
/// 1450 bytes fit: what the tunnel leaves room for.
fn expect_to_be_told_the_mtu(pair: &Pair, tap: &mut Tap, destination_mac: [u8; 6]) -> Result<()> {
    for is_ipv6 in [false, true] {
        let ends = Ends { destination_mac, ..ends(pair, is_ipv6)? };
        let headers = if is_ipv6 { 48 } else { 28 };
        let datagram = (Offload::default(), ends.udp(1500 - headers));
        let kind = if is_ipv6 { Offload::TCP_V6 } else { Offload::TCP_V4 };
        let (offload, frame) = superpacket(&ends, kind);
        let superpacket = (Offload { segment_size: 1460, ..offload }, frame);
        for (offload, frame) in [datagram, superpacket] {
            tap.send(offload, &frame)?;
            let expected = too_big(&ends.reversed(), 1450, &frame);
            let to_us = |received: &Frame| received.0[..ETHERNET] == expected.0[..ETHERNET] && received.0.len() < 200;
            let (_, received) = tap.receive(to_us)?;
            ensure!(received == expected, "{received:?}");
        }
    }
    Ok(())
}

#[test]
fn a_guest_whose_packets_are_too_big_is_told_the_mtu_wherever_they_go() -> Result<()> {
    let (mut pair, mut taps) = taps()?;
    let port = pair.topology.add_port(&pair.network, "left", 3);
    pair.topology.write(&pair.topology_file)?;
    let _third = Tap::create(&pair.host("left").namespace, &port.tap())?;
    nothing_to_do(pair.host("left"))?;
    let nobody = [0xfa, 0x16, 0x3e, 0, 0, 0x99];
    for destination in [mac(&pair.ports[1])?, mac(&port)?, nobody] {
        expect_to_be_told_the_mtu(&pair, &mut taps[0], destination)?;
    }
    Ok(())
}

#[test]
fn a_guest_is_told_the_mtu_while_the_other_host_is_not_to_be_reached() -> Result<()> {
    let mut pair = Pair::bare()?;
    pair.host("right").run(&format!("ip link set {UPLINK} down"))?;
    let agent = pair.host("left").start_agent(&pair.topology_file, Lanes::Both)?;
    pair.agents.push(agent);
    let mut tap = Tap::create(&pair.host("left").namespace, &pair.ports[0].tap())?;
    wait_until("the tap is connected", || Ok(pair.host("left").show("ports")?[0]["lane"] == "fast"))?;
    ensure!(pair.host("left").show("vteps")?[0]["state"] == "unresolved");
    expect_to_be_told_the_mtu(&pair, &mut tap, mac(&pair.ports[1])?)
}

#[test]
fn a_guest_on_a_flat_network_is_told_the_mtu_of_the_physical_network() -> Result<()> {
    let mut pair = Pair::bare()?;
    let network = pair.topology.add_flat_network(20, "provider");
    let port = pair.topology.add_port(&network, "left", 1);
    pair.topology.write(&pair.topology_file)?;
    let host = pair.host("left");
    host.run("ip link add phys0 mtu 1450 type veth peer name far")?;
    host.add_config("[linux_bridge]\nphysical_interface_mappings = provider:phys0\n");
    let _agent = host.start_agent(&pair.topology_file, Lanes::Both)?;
    let mut tap = Tap::create(&host.namespace, &port.tap())?;
    nothing_to_do(host)?;
    pair.ports[0] = port;
    expect_to_be_told_the_mtu(&pair, &mut tap, [0xfa, 0x16, 0x3e, 0, 0, 0x99])
}
