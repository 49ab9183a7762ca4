//! An example of each difference: what both say about it, and that the comparison leaves it, or what leads to it, out for this
//! reason.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};
use overlane_core::{
    model::{Mac, SecurityGroupId},
    security::{
        Direction, Ethertype, Filter, Groups, PortRange, PortSecurity, Protocol, Remote, Rule, SecurityGroup, Traffic,
        model::{self, Content, Fragment, Ip, Memory, Message, Packet, Segment, Transport},
        sources,
    },
};
use overlane_tests::stories::{OWN_MAC, REMOTE_MAC};

use super::{Difference, OldHost, Spoken, difference};

/// The port's addresses: one of each family, and a range that it may use as well. A port that has no IPv6 has the first.
const OWN: &str = "10.0.0.1";
const OWN_V6: &str = "fd00::1";
const PAIR: &str = "10.2.0.1";
const REST: &str = "10.1.0.1";
const REST_V6: &str = "fd00:1::1";
/// A service that a rule admits, by TCP and UDP.
const SERVICE: u16 = 80;
const CLIENT: u16 = 40_000;

struct Example {
    difference: Difference,
    /// What both admit before.
    before: Vec<(Direction, Packet)>,
    packet: (Direction, Packet),
    /// Whether iptables admits it; we say the opposite.
    theirs: bool,
}

fn example(difference: Difference, theirs: bool, packet: (Direction, Packet)) -> Example {
    Example { difference, before: Vec::new(), packet, theirs }
}

fn after<const N: usize>(before: [(Direction, Packet); N], example: Example) -> Example {
    Example { before: before.into(), ..example }
}

fn frame_of(source_mac: Mac, content: Content) -> Packet {
    Packet { source_mac, is_tagged: false, content }
}

fn sent(content: Content) -> (Direction, Packet) {
    (Direction::Egress, frame_of(OWN_MAC, content))
}

fn received(content: Content) -> (Direction, Packet) {
    (Direction::Ingress, frame_of(REMOTE_MAC, content))
}

fn ip(source: &str, destination: &str, protocol: u8, transport: Transport) -> Content {
    let address = |text: &str| text.parse::<IpAddr>().expect("the test has addresses");
    let (source, destination) = (address(source), address(destination));
    Content::Ip(Ip { source, destination, protocol, transport, fragment: Fragment::Whole })
}

fn udp(source: &str, destination: &str, ports: [u16; 2]) -> Content {
    ip(source, destination, 17, Transport::Ports { source: ports[0], destination: ports[1] })
}

fn tcp(source: &str, destination: &str, ports: [u16; 2], segment: Segment) -> Content {
    ip(source, destination, 6, Transport::Tcp { source: ports[0], destination: ports[1], segment })
}

fn icmp(source: &str, destination: &str, kind: u8, code: u8, message: Message) -> Content {
    let protocol = if source.contains(':') { 58 } else { 1 };
    ip(source, destination, protocol, Transport::Icmp { kind, code, message })
}

fn arp(sender_mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Content {
    Content::Arp { sender_mac, sender, target }
}

fn examples() -> Vec<Example> {
    const SCTP: u8 = 132;
    let own = Ipv4Addr::new(10, 0, 0, 1);
    let tagged = |(direction, packet)| (direction, Packet { is_tagged: true, ..packet });
    let first = |content| match content {
        Content::Ip(ip) => Content::Ip(Ip { fragment: Fragment::First { id: 1, end: 24 }, ..ip }),
        other => other,
    };
    let stranger = "fd00:9::9".parse().expect("an address");
    let claim = Message::Discovery { link_layer: Some(OWN_MAC), target: Some(stranger) };
    let sctp = |source, destination, ports: [u16; 2]| {
        ip(source, destination, SCTP, Transport::Ports { source: ports[0], destination: ports[1] })
    };
    let syn = sent(tcp(OWN, REST, [CLIENT, SERVICE], Segment::Syn));
    let reset = received(tcp(REST, OWN, [SERVICE, CLIENT], Segment::Rst));
    vec![
        example(Difference::VlanTag, true, tagged(sent(udp(REST, OWN, [CLIENT, SERVICE])))),
        example(Difference::LinkControl, true, sent(Content::LinkControl)),
        example(Difference::ArpProbe, false, sent(arp(OWN_MAC, Ipv4Addr::UNSPECIFIED, own))),
        example(Difference::ArpSenderMac, true, sent(arp(REMOTE_MAC, own, own))),
        example(Difference::NeighborDiscovery, true, sent(icmp(OWN_V6, REST_V6, 136, 0, claim))),
        example(Difference::Fragment, false, received(first(udp(REST, OWN, [CLIENT, SERVICE])))),
        example(Difference::Nonsense, true, received(tcp(REST, OWN, [CLIENT, SERVICE], Segment::Nonsense))),
        after(
            [sent(udp(PAIR, REST, [68, 67]))],
            example(Difference::DhcpFlow, true, received(udp(REST, PAIR, [67, 68]))),
        ),
        after(
            [sent(icmp(OWN, REST, 8, 1, Message::Other))],
            example(Difference::EchoCode, true, received(icmp(REST, OWN, 0, 1, Message::Other))),
        ),
        after(
            [syn, reset],
            example(Difference::ResetAtOnce, false, received(tcp(REST, OWN, [SERVICE, CLIENT], Segment::Ack))),
        ),
        after(
            [sent(sctp(OWN, REST, [CLIENT, SERVICE]))],
            example(Difference::OtherTransport, false, received(sctp(REST, OWN, [SERVICE, CLIENT]))),
        ),
    ]
}

/// Everything may leave; the service may be reached.
fn groups(id: SecurityGroupId) -> Groups {
    let leaving = Ethertype::ALL.map(|ethertype| Rule {
        direction: Direction::Egress,
        ethertype,
        traffic: Traffic::Any,
        remote: Remote::Any,
    });
    let range = PortRange::new(SERVICE, SERVICE).expect("a range");
    let arriving = [Protocol::TCP, Protocol::UDP].map(|protocol| Rule {
        direction: Direction::Ingress,
        ethertype: Ethertype::IPv4,
        traffic: Traffic::Ports(protocol, range),
        remote: Remote::Any,
    });
    let rules = leaving.into_iter().chain(arriving).collect();
    Groups {
        security: [(id, SecurityGroup { rules, is_stateful: true, ..SecurityGroup::default() })].into(),
        ..Groups::default()
    }
}

fn check(host: &mut OldHost, fixed: &[&str], examples: Vec<Example>) -> Result<()> {
    let id = SecurityGroupId("00000000-0000-4000-8000-000000000000".parse()?);
    let fixed: Vec<IpAddr> = fixed.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    let pair = (OWN_MAC, "10.2.0.0/16".parse()?);
    let filter = Filter { sources: sources(OWN_MAC, &fixed, [pair]), groups: Some([id].into()) };
    let security = PortSecurity::Enforced(filter.clone());
    let port = model::Port { number: 1, mac: OWN_MAC, security, takes_up: false };
    let groups = groups(id);
    for Example { difference: expected, before, packet: (direction, packet), theirs } in examples {
        host.begin(&filter, &groups)?;
        let (mut memory, mut spoken, mut found) = (Memory::default(), Spoken::default(), Vec::new());
        for (direction, packet) in &before {
            let ours = model::admit(&port, &groups, &mut memory, *direction, packet);
            ensure!(host.admits(*direction, packet)? && ours.is_ok(), "{expected:?}, before: {ours:?}");
            found.extend(difference(&filter, *direction, packet, ours).or_else(|| spoken.difference(packet)));
            spoken.note(packet);
        }
        let ours = model::admit(&port, &groups, &mut memory, direction, &packet);
        found.extend(difference(&filter, direction, &packet, ours));
        ensure!(found.contains(&expected), "{expected:?} would be compared, or left out as {found:?}: {ours:?}");
        ensure!(ours.is_ok() != theirs, "{expected:?}: we say {ours:?}");
        ensure!(host.admits(direction, &packet)? == theirs, "{expected:?}: iptables says the same as we, {ours:?}");
    }
    Ok(())
}

#[test]
fn each_difference_is_one() -> Result<()> {
    let mut host = OldHost::new()?;
    check(&mut host, &[OWN, OWN_V6], examples())?;
    // Without IPv6 addresses.
    let asked = icmp(OWN_V6, REST_V6, 128, 0, Message::Echo { id: 1 });
    check(&mut host, &[OWN], vec![example(Difference::NoAddress, true, sent(asked))])
}
