//! Our reference next to the Linux bridge agent's iptables: the same ports, the same rules, the same packets, the same verdicts,
//! but for the differences of `docs/security.md`, each of which is named and shown here.

mod examples;

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Result, ensure};
use overlane_core::security::{
    Direction, Filter, Groups, PortSecurity,
    model::{self, Content, Fragment, Ip, Memory, Message, Packet, Segment, Transport},
};
use overlane_tests::{
    lab::{
        Namespace, World,
        linux_bridge::{FIRST_ZONE, FilteredTap, install},
    },
    packet::Frame,
    stories::{OWN_MAC, REMOTE_MAC, Step, Story, any_story, frame},
    tap::{Offload, Tap},
};
use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::TestRunner,
};

const BRIDGE: &str = "brq00000000-00";
const TAP: &str = "tap00000000-00";
/// Where everybody else is.
const REST: &str = "rest";

/// A host of the Linux bridge agent with one port.
struct OldHost {
    namespace: Namespace,
    world: World,
    port: Tap,
    rest: Tap,
    /// The zone of connections; every story has its own, so that none knows another one's.
    zone: u16,
}

/// In what the two differ on purpose, as `docs/security.md` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    /// The old agent lets tagged frames pass: bridges do not show them to iptables.
    VlanTag,
    /// It has no rules about protocols between bridges; what becomes of them is the bridge's business.
    LinkControl,
    /// It drops ARP probes.
    ArpProbe,
    /// It looks at the sender's IP address in ARP, not at whose MAC address stands next to it.
    ArpSenderMac,
    /// It does not look into neighbour discovery.
    NeighborDiscovery,
    /// It does not hold a port without addresses of a family to having none.
    NoAddress,
    /// Its kernel puts fragments together first.
    Fragment,
    /// It lets TCP flags pass that nobody sends, if a rule admits the ports.
    Nonsense,
    /// DHCP makes a flow there, by which answers reach other addresses than fixed ones, and errors the machine.
    DhcpFlow,
    /// ICMP echo with another code than 0 makes a flow there.
    EchoCode,
    /// A connection that is reset before there was another answer is forgotten there at once.
    ResetAtOnce,
    /// SCTP and UDP-Lite are looked into there: what our test sends is not whole.
    OtherTransport,
}

impl OldHost {
    fn new() -> Result<Self> {
        let world = World::private()?;
        let namespace = world.namespace("old")?;
        namespace
            .run(&format!("ip link add name {BRIDGE} type bridge forward_delay 0 stp_state 0 mcast_snooping 0"))?;
        namespace.run(&format!("ip link set {BRIDGE} up"))?;
        let [port, rest] = [TAP, REST].map(|name| Tap::create(&namespace, name));
        for name in [TAP, REST] {
            namespace.run(&format!("ip link set {name} master {BRIDGE}"))?;
            // Who has sent what must not decide where something goes.
            namespace.run(&format!("bridge link set dev {name} learning off"))?;
        }
        // Connection tracking without windows, as ours (`docs/security.md`).
        namespace.set_parameter("net/netfilter/nf_conntrack_tcp_be_liberal", "1")?;
        Ok(Self { namespace, world, port: port?, rest: rest?, zone: FIRST_ZONE })
    }

    /// Begins a story: its port, and rules.
    fn begin(&mut self, filter: &Filter, groups: &Groups) -> Result<()> {
        self.zone += 1;
        let tap = FilteredTap { tap: TAP, bridge: BRIDGE, mac: OWN_MAC, filter, zone: self.zone };
        install(&self.namespace, self.world.folder(), &[tap], groups)
    }

    /// Whether a packet gets through.
    fn admits(&mut self, direction: Direction, packet: &Packet) -> Result<bool> {
        let (from, to, macs) = match direction {
            Direction::Egress => (&mut self.port, &mut self.rest, [OWN_MAC, REMOTE_MAC]),
            Direction::Ingress => (&mut self.rest, &mut self.port, [REMOTE_MAC, OWN_MAC]),
        };
        let (sent, marker) = (frame(packet, direction), marker(macs.map(|mac| mac.0)));
        from.send(Offload::default(), &sent)?;
        // What passes in any case comes after it.
        from.send(Offload::default(), &marker)?;
        let (_, first) = to.receive(|frame| *frame == sent || *frame == marker)?;
        let is_admitted = first == sent;
        if is_admitted && sent != marker {
            to.receive(|frame| *frame == marker)?;
        }
        Ok(is_admitted)
    }
}

/// A frame that no rule is about, of an ethertype for experiments (IEEE 802), and that is like no other.
fn marker([source, destination]: [[u8; 6]; 2]) -> Frame {
    Frame([&destination[..], &source, &[0x88, 0xb6], &[0xee; 46]].concat())
}

#[test]
fn iptables_and_the_reference_come_to_the_same_verdict_but_for_the_named_differences() -> Result<()> {
    const STORIES: usize = 50;
    let mut host = OldHost::new()?;
    let mut runner = TestRunner::deterministic();
    let (mut compared, mut admitted) = (0, 0);
    for number in 0..STORIES {
        let story = any_story().new_tree(&mut runner).map_err(|reason| anyhow::anyhow!("{reason}"))?.current();
        let Some((port, filter, groups)) = of_the_old_agent(story.clone()) else { continue };
        host.begin(&filter, &groups)?;
        let mut memory = Memory::default();
        let (mut told, mut spoken) = (Vec::new(), Spoken::default());
        for (direction, packet) in packets(&story) {
            let mut after = memory.clone();
            let ours = model::admit(&port, &groups, &mut after, direction, packet);
            let difference = difference(&filter, direction, packet, ours);
            if difference.or_else(|| spoken.difference(packet)).is_some() {
                continue;
            }
            memory = after;
            let theirs = host.admits(direction, packet)?;
            told.push(format!("{direction:?} {packet:?}: {ours:?}"));
            ensure!(
                theirs == ours.is_ok(),
                "story {number}: iptables {} the last of these packets:\n{}\nThe rules are:\n{}",
                if theirs { "admits" } else { "drops" },
                told.join("\n"),
                rules(&filter, &groups)
            );
            if theirs {
                spoken.note(packet);
            }
            compared += 1;
            admitted += usize::from(theirs);
        }
    }
    // Neither side may have an easy life.
    ensure!(compared > 500 && admitted * 10 > compared, "{admitted} of {compared}");
    Ok(())
}

/// Who has said something to whom, by TCP: addresses and ports of the segments that were admitted.
#[derive(Default)]
struct Spoken(BTreeSet<[(IpAddr, u16); 2]>);

impl Spoken {
    fn ends(packet: &Packet) -> Option<([(IpAddr, u16); 2], Segment)> {
        let Content::Ip(ip) = packet.content else { return None };
        let Transport::Tcp { source, destination, segment } = ip.transport else { return None };
        Some(([(ip.source, source), (ip.destination, destination)], segment))
    }

    fn note(&mut self, packet: &Packet) {
        self.0.extend(Self::ends(packet).map(|(ends, _)| ends));
    }

    fn difference(&self, packet: &Packet) -> Option<Difference> {
        let (ends, segment) = Self::ends(packet)?;
        let is_first_answer = !self.0.contains(&ends) && self.0.contains(&[ends[1], ends[0]]);
        (is_first_answer && segment == Segment::Rst).then_some(Difference::ResetAtOnce)
    }
}

fn packets(story: &Story) -> impl Iterator<Item = (Direction, &Packet)> {
    story.steps.iter().filter_map(|step| match step {
        Step::Packet(direction, packet) => Some((*direction, packet)),
        // The old agent ends some flows, some time later.
        Step::Change(_) => None,
    })
}

fn rules(filter: &Filter, groups: &Groups) -> String {
    let of_port = filter.groups.iter().flatten().filter_map(|id| groups.security.get(id));
    of_port.flat_map(|group| &group.rules).map(|rule| format!("{rule}\n")).collect()
}

/// A story as the old agent can tell it: a port that has groups, all of which are stateful, as one decides for all of them there.
/// It takes up what it meets where a rule admits it.
fn of_the_old_agent(story: Story) -> Option<(model::Port, Filter, Groups)> {
    let filter = story.port.security.filter().filter(|filter| filter.groups.is_some())?.clone();
    let mut groups = story.groups.into_iter().next()?;
    for group in groups.security.values_mut() {
        group.is_stateful = true;
    }
    let security = PortSecurity::Enforced(filter.clone());
    Some((model::Port { takes_up: false, security, ..story.port }, filter, groups))
}

/// Why the two may differ about a packet, if they may.
fn difference(filter: &Filter, direction: Direction, packet: &Packet, ours: model::Verdict) -> Option<Difference> {
    let egress = direction == Direction::Egress;
    if packet.is_tagged {
        return Some(Difference::VlanTag);
    }
    match &packet.content {
        Content::LinkControl => Some(Difference::LinkControl),
        Content::Arp { sender, .. } if egress && sender.is_unspecified() => Some(Difference::ArpProbe),
        Content::Arp { sender, .. } => {
            let is_own = filter.sources.iter().any(|source| source.net.contains(&IpAddr::V4(*sender)));
            (egress && is_own && ours.is_err()).then_some(Difference::ArpSenderMac)
        }
        Content::Ip(ip) if egress && !has_addresses_like(filter, ip) => Some(Difference::NoAddress),
        Content::Ip(ip) => difference_about_ip(filter, direction, ip, ours),
        Content::MalformedIp | Content::Other => None,
    }
}

fn has_addresses_like(filter: &Filter, ip: &Ip) -> bool {
    filter.sources.iter().any(|source| source.net.addr().is_ipv6() == ip.is_v6())
}

fn difference_about_ip(filter: &Filter, direction: Direction, ip: &Ip, ours: model::Verdict) -> Option<Difference> {
    const DHCP: [u16; 4] = [67, 68, 546, 547];
    let is_dhcp = |ports: [u16; 2]| ports.iter().all(|port| DHCP.contains(port));
    if ip.fragment != Fragment::Whole {
        return Some(Difference::Fragment);
    }
    match ip.transport {
        Transport::Tcp { segment: Segment::Nonsense, .. } => Some(Difference::Nonsense),
        Transport::Ports { source, destination } if ip.protocol == 17 => {
            let is_fixed = filter.sources.iter().any(|own| own.is_fixed && own.net.addr() == ip.destination);
            let may_be_answer = direction == Direction::Ingress && is_dhcp([source, destination]) && !is_fixed;
            (may_be_answer && ours.is_err()).then_some(Difference::DhcpFlow)
        }
        Transport::Ports { .. } => Some(Difference::OtherTransport),
        Transport::Icmp { message: Message::Quote(Some(quoted)), .. } if is_dhcp(quoted.ports) => {
            Some(Difference::DhcpFlow)
        }
        Transport::Icmp { message: Message::Discovery { .. }, .. }
            if ours == Err(overlane_abi::DropReason::SpoofedNd) =>
        {
            Some(Difference::NeighborDiscovery)
        }
        Transport::Icmp { kind: 0 | 8 | 128 | 129, code: 1.., .. } => Some(Difference::EchoCode),
        _ => None,
    }
}
