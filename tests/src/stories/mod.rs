//! Random ports, rules and packets, for those that are compared with the reference (`overlane_core::security::model`): from domains
//! so small that packets meet rules, answers meet flows, and lies meet the truth.

mod frames;

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use overlane_core::{
    model::{AddressGroupId, Mac, SecurityGroupId},
    security::{
        Direction, Ethertype, Filter, Groups, PortRange, PortSecurity, Protocol, Remote, Rule, SecurityGroup, Traffic,
        model::{Content, Fragment, Ip, Message, Packet, Port, Quoted, Segment, Transport},
        sources,
    },
};
use proptest::{prelude::*, sample::select};
use uuid::Uuid;

pub use frames::frame;

/// The port's MAC address.
pub const OWN_MAC: Mac = Mac([0xfa, 0x16, 0x3e, 0, 0, 1]);
/// That of everybody else.
pub const REMOTE_MAC: Mac = Mac([0xfa, 0x16, 0x3e, 0, 0, 2]);
const PAIR_MAC: Mac = Mac([0xfa, 0x16, 0x3e, 0, 0, 3]);

/// How many groups there are.
const GROUPS: u8 = 3;
/// How often they change.
const VERSIONS: usize = 3;
/// Ports of conversations, those of DHCP included.
const PORTS: [u16; 8] = [22, 80, 443, 67, 68, 546, 547, 40_000];

/// A port, and what happens to it.
#[derive(Clone, Debug)]
pub struct Story {
    /// The port.
    pub port: Port,
    /// What its groups are, one after the other.
    pub groups: Vec<Groups>,
    /// What happens.
    pub steps: Vec<Step>,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    /// From now on these groups hold.
    Change(usize),
    /// A packet is sent or arrives.
    Packet(Direction, Packet),
}

/// Any story.
pub fn any_story() -> impl Strategy<Value = Story> {
    let step = prop_oneof![
        1 => (0..VERSIONS).prop_map(Step::Change),
        20 => (select(Direction::ALL.to_vec()), any_packet()).prop_map(|(direction, packet)| Step::Packet(direction, packet)),
    ];
    let groups = prop::collection::vec(any_groups(), VERSIONS);
    let steps = prop::collection::vec((step, prop::option::weighted(0.5, 1..6_usize)), 1..80);
    (any_port(), groups, steps).prop_map(|(port, groups, steps)| {
        let mut told: Vec<Step> = Vec::new();
        for (mut step, answered) in steps {
            // What arrives has been sent by somebody else, and what is sent mostly goes there.
            if let Step::Packet(Direction::Ingress, packet) = &mut step {
                packet.source_mac = REMOTE_MAC;
                turn_round(packet);
            }
            let earlier = answered.and_then(|before| told.get(told.len().checked_sub(before)?));
            let answer = earlier.and_then(|earlier| answer(earlier, &step));
            told.push(answer.unwrap_or(step));
        }
        Story { port, groups, steps: told }
    })
}

/// What the other side of an earlier packet may say to it; of TCP, what `new` says.
fn answer(earlier: &Step, new: &Step) -> Option<Step> {
    let (Step::Packet(direction, packet), Step::Packet(_, new)) = (earlier, new) else { return None };
    let (direction, source_mac) = match direction {
        Direction::Egress => (Direction::Ingress, REMOTE_MAC),
        Direction::Ingress => (Direction::Egress, OWN_MAC),
    };
    let Content::Ip(mut ip) = packet.content else { return None };
    ip.transport = match (ip.transport, &new.content) {
        (Transport::Tcp { source, destination, segment }, new) => {
            let segment = match new {
                Content::Ip(Ip { transport: Transport::Tcp { segment, .. }, .. }) => *segment,
                _ if segment == Segment::Syn => Segment::SynAck,
                _ => Segment::Ack,
            };
            Transport::Tcp { source: destination, destination: source, segment }
        }
        (Transport::Ports { source, destination }, _) => Transport::Ports { source: destination, destination: source },
        (Transport::Icmp { kind, code, message: Message::Echo { id } }, _) => {
            let kind = match kind {
                0 => 8,
                8 => 0,
                128 => 129,
                _ => 128,
            };
            Transport::Icmp { kind, code, message: Message::Echo { id } }
        }
        (Transport::Icmp { .. }, _) => return None,
        (Transport::Unknown, _) => Transport::Unknown,
    };
    let packet = Packet { source_mac, is_tagged: false, content: Content::Ip(ip) };
    let mut step = Step::Packet(direction, packet);
    if let Step::Packet(_, packet) = &mut step {
        turn_round(packet);
    }
    Some(step)
}

fn turn_round(packet: &mut Packet) {
    if let Content::Ip(ip) = &mut packet.content {
        std::mem::swap(&mut ip.source, &mut ip.destination);
    }
}

fn own(is_v6: bool) -> IpAddr {
    if is_v6 { Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into() } else { Ipv4Addr::new(10, 0, 0, 1).into() }
}

fn remote(is_v6: bool, number: u8) -> IpAddr {
    if is_v6 {
        Ipv6Addr::new(0xfd00, 0, 0, u16::from(number), 0, 0, 0, 1).into()
    } else {
        Ipv4Addr::new(10, number, 0, 1).into()
    }
}

/// A prefix around some of the remote addresses.
fn any_net(is_v6: bool) -> impl Strategy<Value = IpNet> {
    (1..5_u8, 0..3_u8).prop_map(move |(number, width)| {
        let bits = if is_v6 { 64 - width } else { 16 - width };
        let length = if width == 2 { bits + 2 + if is_v6 { 64 } else { 16 } } else { bits };
        IpNet::new(remote(is_v6, number), length).expect("a valid length").trunc()
    })
}

fn any_port() -> impl Strategy<Value = Port> {
    let fixed = select(vec![vec![false], vec![true], vec![false, true], vec![]]);
    let pair = prop::option::of((select(vec![OWN_MAC, PAIR_MAC]), any::<bool>().prop_flat_map(any_net)));
    let groups = prop::option::weighted(0.9, prop::collection::btree_set(0..GROUPS, 0..3));
    (fixed, pair, groups, any::<bool>()).prop_map(|(fixed, pair, groups, takes_up)| {
        let fixed: Vec<IpAddr> = fixed.into_iter().map(own).collect();
        let groups = groups.map(|groups| groups.into_iter().map(group_id).collect::<BTreeSet<_>>());
        // Without rules there is nothing to take up.
        let takes_up = takes_up && groups.is_some();
        let filter = Filter { sources: sources(OWN_MAC, &fixed, pair), groups };
        Port { number: 1, mac: OWN_MAC, security: PortSecurity::Enforced(filter), takes_up }
    })
}

fn group_id(number: u8) -> SecurityGroupId {
    SecurityGroupId(Uuid::from_bytes([number + 1; 16]))
}

fn address_group_id() -> AddressGroupId {
    AddressGroupId(Uuid::from_bytes([9; 16]))
}

fn any_groups() -> impl Strategy<Value = Groups> {
    let nets = || prop::collection::btree_set(any::<bool>().prop_flat_map(any_net), 0..3);
    let group = (prop::collection::btree_set(any_rule(), 0..6), nets(), prop::bool::weighted(0.8));
    (prop::collection::vec(group, usize::from(GROUPS)), nets()).prop_map(|(groups, addresses)| {
        let groups = (0..).zip(groups).map(|(number, (rules, members, is_stateful))| {
            (group_id(number), SecurityGroup { rules, members, is_stateful, ..SecurityGroup::default() })
        });
        Groups { security: groups.collect(), address: [(address_group_id(), addresses)].into() }
    })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let protocol = select(vec![1_u8, 6, 17, 47, 58, 132]).prop_map(|number| Protocol::new(number).expect("not zero"));
    let range =
        (select(PORTS.to_vec()), 0..500_u16).prop_map(|(min, more)| PortRange::new(min, min + more).expect("ordered"));
    let traffic = prop_oneof![
        2 => Just(Traffic::Any),
        3 => protocol.prop_map(Traffic::Protocol),
        4 => (select(vec![Protocol::TCP, Protocol::UDP]), range).prop_map(|(protocol, range)| Traffic::Ports(protocol, range)),
        2 => (select(vec![0_u8, 3, 8, 128, 134, 138]), prop::option::of(0..2_u8)).prop_map(|(kind, code)| Traffic::Icmp { kind, code }),
    ];
    (select(Direction::ALL.to_vec()), any::<bool>(), traffic).prop_flat_map(|(direction, is_v6, traffic)| {
        let ethertype = if is_v6 { Ethertype::IPv6 } else { Ethertype::IPv4 };
        let remote = prop_oneof![
            3 => Just(Remote::Any),
            2 => any_net(is_v6).prop_map(Remote::Prefix),
            2 => (0..GROUPS).prop_map(|number| Remote::Group(group_id(number))),
            1 => Just(Remote::AddressGroup(address_group_id())),
        ];
        remote.prop_map(move |remote| Rule { direction, ethertype, traffic, remote })
    })
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let content = prop_oneof![
        40 => any_ip().prop_map(Content::Ip),
        2 => any_arp(),
        1 => Just(Content::MalformedIp),
        1 => Just(Content::LinkControl),
        1 => Just(Content::Other),
    ];
    let mac = prop_oneof![12 => Just(OWN_MAC), 1 => Just(PAIR_MAC), 1 => Just(REMOTE_MAC)];
    (mac, prop::bool::weighted(0.02), content).prop_map(|(source_mac, is_tagged, content)| Packet {
        source_mac,
        is_tagged,
        content,
    })
}

fn any_arp() -> impl Strategy<Value = Content> {
    let address = || select(vec![Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 2, 0, 1)]);
    let mac = select(vec![OWN_MAC, PAIR_MAC, REMOTE_MAC]);
    (mac, address(), address()).prop_map(|(sender_mac, sender, target)| Content::Arp { sender_mac, sender, target })
}

/// As the port would send it.
fn any_ip() -> impl Strategy<Value = Ip> {
    (any::<bool>(), 0..12_u8, 0..12_u8).prop_flat_map(|(is_v6, from, to)| {
        let source = match from {
            0 => remote(is_v6, 2),
            1 if is_v6 => OWN_MAC.link_local().into(),
            2 if is_v6 => Ipv6Addr::UNSPECIFIED.into(),
            2 => Ipv4Addr::UNSPECIFIED.into(),
            _ => own(is_v6),
        };
        let destination = match to {
            0 if is_v6 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16).into(),
            0 => Ipv4Addr::BROADCAST.into(),
            1 if is_v6 => REMOTE_MAC.link_local().into(),
            number => remote(is_v6, 1 + number % 4),
        };
        let fragment = any_fragment();
        (any_transport(is_v6, source, destination), fragment).prop_map(move |((protocol, transport), fragment)| {
            // Only what is long enough is cut in pieces, and what is no first piece has no transport header to know.
            let is_long = matches!(transport, Transport::Ports { .. } | Transport::Unknown);
            let fragment = if is_long { fragment } else { Fragment::Whole };
            let transport = if matches!(fragment, Fragment::Later { .. }) { Transport::Unknown } else { transport };
            Ip { source, destination, protocol, transport, fragment }
        })
    })
}

fn any_fragment() -> impl Strategy<Value = Fragment> {
    prop_oneof![
        8 => Just(Fragment::Whole),
        1 => (0..3_u32, select(vec![24, 32])).prop_map(|(id, end)| Fragment::First { id, end }),
        1 => (0..3_u32, select(vec![16, 24, 32])).prop_map(|(id, offset)| Fragment::Later { id, offset }),
    ]
}

fn any_transport(is_v6: bool, source: IpAddr, destination: IpAddr) -> impl Strategy<Value = (u8, Transport)> {
    let port = || select(PORTS.to_vec());
    let segments =
        [Segment::Syn, Segment::SynAck, Segment::Ack, Segment::Ack, Segment::Fin, Segment::Rst, Segment::Nonsense];
    let tcp = (port(), port(), select(segments.to_vec()))
        .prop_map(|(source, destination, segment)| (6, Transport::Tcp { source, destination, segment }));
    let datagram = (select(vec![17_u8, 17, 17, 132, 136]), port(), port())
        .prop_map(|(protocol, source, destination)| (protocol, Transport::Ports { source, destination }));
    let other = Just((47_u8, Transport::Unknown));
    prop_oneof![5 => tcp, 5 => datagram, 1 => other, 4 => any_icmp(is_v6, source, destination)]
}

fn any_icmp(is_v6: bool, source: IpAddr, destination: IpAddr) -> impl Strategy<Value = (u8, Transport)> {
    let protocol = if is_v6 { 58 } else { 1 };
    let echo = (select(if is_v6 { vec![128_u8, 129] } else { vec![8_u8, 0] }), 1..3_u16)
        .prop_map(|(kind, id)| (kind, Message::Echo { id }));
    // The quoted packet went the other way, mostly.
    let quoted = (any::<bool>(), select(vec![6_u8, 17, protocol]), select(PORTS.to_vec()), select(PORTS.to_vec()))
        .prop_map(move |(is_about_us, protocol, from, to)| {
            let ports = if matches!(protocol, 1 | 58) { [1, 0] } else { [from, to] };
            let (source, destination) = if is_about_us { (destination, source) } else { (source, destination) };
            Quoted { source, destination, protocol, ports }
        });
    let error = (select(if is_v6 { vec![1_u8, 2, 3] } else { vec![3_u8, 11, 12] }), prop::option::of(quoted))
        .prop_map(|(kind, quoted)| (kind, Message::Quote(quoted)));
    let other = select(if is_v6 { vec![130_u8, 131, 134, 143] } else { vec![13_u8, 17] })
        .prop_map(|kind| (kind, Message::Other));
    let message = prop_oneof![4 => echo, 2 => error, 1 => other, u32::from(is_v6) * 2 => any_discovery()];
    (message, prop_oneof![9 => Just(0_u8), 1 => Just(1_u8)]).prop_map(move |((kind, message), code)| {
        let message = if code != 0 && matches!(message, Message::Echo { .. }) { Message::Other } else { message };
        (protocol, Transport::Icmp { kind, code, message })
    })
}

fn any_discovery() -> impl Strategy<Value = (u8, Message)> {
    let target =
        select(vec![own(true), remote(true, 2), OWN_MAC.link_local().into()]).prop_map(|address| match address {
            IpAddr::V6(address) => address,
            IpAddr::V4(address) => address.to_ipv6_mapped(),
        });
    let mac = prop::option::of(select(vec![OWN_MAC, PAIR_MAC, REMOTE_MAC]));
    (select(vec![133_u8, 135, 136]), mac, target).prop_map(|(kind, link_layer, target)| {
        let target = (kind != 133).then_some(target);
        (kind, Message::Discovery { link_layer, target })
    })
}
