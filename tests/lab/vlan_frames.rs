//! VLAN networks frame by frame: what is on the wire, and what of it reaches a machine.

use anyhow::{Result, ensure};
use overlane_tests::{
    lab::{BY_INTERFACE, Machine, NIC, Network, OUTSIDE, Pair, Port, nothing_to_do},
    packet::{BROADCAST, Ends, Frame, arp},
    tap::{Offload, Tap},
};

const VID: u16 = 100;
/// Somebody on the physical network whose frames the test makes.
const PEER: [u8; 6] = [0xfa, 0x16, 0x3e, 0xff, 0xff, 0xfe];

/// One host on a physical network of which the test sees, and can send, every frame.
struct Wire {
    pair: Pair,
    network: Network,
    port: Port,
    /// The frames of the physical network, with their tags.
    probe: Tap,
}

impl Wire {
    fn new() -> Result<Self> {
        let mut pair = Pair::wired()?;
        let fabric = pair.lab.fabric();
        let probe = Tap::create(fabric, "probe")?;
        fabric.run(&format!("ip link set probe master {OUTSIDE}"))?;
        // A hub rather than a switch.
        fabric.run(&format!("ip link set {OUTSIDE} type bridge ageing_time 0"))?;
        let network = pair.topology.add_vlan_network(20, "provider", VID);
        let port = pair.topology.add_port(&network, "left", 1);
        pair.topology.write(&pair.topology_file)?;
        pair.start_with("left", BY_INTERFACE)?;
        Ok(Self { pair, network, port, probe })
    }

    fn boot(&self) -> Result<Machine> {
        let machine = self.pair.host("left").boot(self.pair.lab.world(), &self.port)?;
        nothing_to_do(self.pair.host("left"))?;
        Ok(machine)
    }

    /// A tap of the port's whose frames the test makes.
    fn tap(&self) -> Result<Tap> {
        let tap = Tap::create(&self.pair.host("left").namespace, &self.port.tap())?;
        nothing_to_do(self.pair.host("left"))?;
        Ok(tap)
    }

    /// From the peer to the port.
    fn inbound(&self) -> Ends {
        Ends {
            source_mac: PEER,
            destination_mac: self.port.mac(),
            source: [10, 0, 20, 254].into(),
            destination: [10, 0, 20, 1].into(),
            traffic_class: 0,
        }
    }

    fn send(&mut self, frame: &Frame) -> Result<()> {
        self.probe.send(Offload::default(), frame)
    }

    /// The next frame on the wire from the port, whatever its tag.
    fn receive_from_port(&mut self) -> Result<Frame> {
        let mac = self.port.mac();
        Ok(self.probe.receive(|frame| frame.0[6..12] == mac)?.1)
    }
}

#[test]
fn a_peer_that_tags_its_frames_itself_talks_to_a_machine() -> Result<()> {
    let mut wire = Wire::new()?;
    let machine = wire.boot()?;
    let question = Ends { destination_mac: BROADCAST, ..wire.inbound() };
    wire.send(&arp(&question, 1, [0; 6]).tagged(VID))?;
    let expected = arp(&wire.inbound().reversed(), 2, PEER).tagged(VID);
    let (_, answer) = wire.probe.receive(|frame| frame.0[..12] == expected.0[..12])?;
    // An answer may be padded.
    ensure!(answer.0.starts_with(&expected.0), "{answer:?}");
    drop(machine);
    Ok(())
}

#[test]
fn whatever_a_machine_sends_is_on_the_wire_with_the_tag_of_its_vlan_only() -> Result<()> {
    let mut wire = Wire::new()?;
    let machine = wire.boot()?;
    machine.run(&format!("ip neighbour add 10.0.20.254 lladdr {} dev eth0", overlane_core::model::Mac(PEER)))?;
    for line in ["ping -c 1 -W 1 10.0.20.254", "ping -c 1 -W 1 10.0.20.253", "ping -c 1 -W 1 fd00:20::99"] {
        // Nobody answers.
        let _ = machine.run(line);
    }
    for _ in 0..3 {
        let frame = wire.receive_from_port()?;
        ensure!(frame.tags() == [VID], "{:?}", frame.tags());
    }
    Ok(())
}

#[test]
fn a_tagged_frame_never_gets_into_the_flat_network_of_the_same_nic() -> Result<()> {
    let mut wire = Wire::new()?;
    let flat = wire.pair.topology.add_flat_network(30, "provider");
    let port = wire.pair.topology.add_port(&flat, "left", 3);
    wire.pair.topology.write(&wire.pair.topology_file)?;
    let mut flat_tap = Tap::create(&wire.pair.host("left").namespace, &port.tap())?;
    let mut vlan_tap = wire.tap()?;
    let broadcast = Ends { destination_mac: BROADCAST, ..wire.inbound() };
    let (tagged, untagged) = (broadcast.udp(100), broadcast.udp(200));
    wire.send(&tagged.clone().tagged(VID))?;
    wire.send(&untagged)?;
    // In the order in which they were sent: the first frame of the peer that gets into each network is its own one.
    let from_peer = |frame: &Frame| frame.0[6..12] == PEER;
    ensure!(flat_tap.receive(from_peer)?.1 == untagged);
    ensure!(vlan_tap.receive(from_peer)?.1 == tagged);
    Ok(())
}

#[test]
fn tags_of_guests_and_double_tags_pass_unchanged_inside_the_vlan() -> Result<()> {
    let mut wire = Wire::new()?;
    // Of a port with port security only IPv4, IPv6 and ARP pass.
    wire.pair.topology.ports.iter_mut().for_each(|port| port.port_security_enabled = Some(false));
    wire.pair.topology.write(&wire.pair.topology_file)?;
    let mut tap = wire.tap()?;
    let inbound = wire.inbound();
    for tag in [7, 0x6000 | 9] {
        let frame = inbound.udp(100).tagged(tag);
        wire.send(&frame.clone().tagged(VID))?;
        let (_, received) = tap.receive(|received| received.0[..12] == frame.0[..12])?;
        ensure!(received == frame, "{received:?}");
        let frame = inbound.reversed().udp(100).tagged(tag);
        tap.send(Offload::default(), &frame)?;
        let sent = wire.receive_from_port()?;
        ensure!(sent == frame.clone().tagged(VID), "{sent:?}");
    }
    Ok(())
}

#[test]
fn the_priority_of_a_packet_is_in_its_tag() -> Result<()> {
    let mut wire = Wire::new()?;
    let (host, bridge) = (wire.pair.host("left"), wire.network.bridge());
    nothing_to_do(host)?;
    host.run(&format!("ip address add 10.0.20.99/24 dev {bridge}"))?;
    let peer = overlane_core::model::Mac(PEER);
    host.run(&format!("ip neighbour add 10.0.20.254 lladdr {peer} dev {bridge}"))?;
    // The kernel gives packets with this TOS the priority 6 (`TC_PRIO_INTERACTIVE`).
    let _ = host.run("ping -c 1 -W 1 -Q 0x10 10.0.20.254");
    let (_, frame) = wire.probe.receive(|frame| frame.0[..6] == PEER)?;
    ensure!(frame.tags() == [6 << 13 | VID], "{:x?}", frame.tags());
    Ok(())
}

#[test]
fn the_nic_takes_frames_for_the_ports_of_its_vlans() -> Result<()> {
    let wire = Wire::new()?;
    let host = wire.pair.host("left");
    nothing_to_do(host)?;
    let promiscuity = host.run(&format!("ip -d -o link show {NIC}"))?;
    ensure!(!promiscuity.contains("promiscuity 0"), "{promiscuity}");
    Ok(())
}
