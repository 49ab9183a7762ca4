//! The reference: what becomes of a packet at a port, in plain words of Rust, one packet at a time.
//!
//! It decides in the order of the Linux bridge agent's chains, with the differences that `docs/security.md` names, and asks the
//! rules for every packet. The programs remember what the rules have said and must come to the same verdicts; they are
//! tested against this. Nothing else uses it.

mod flows;
mod packet;
mod rules;

use std::net::{IpAddr, Ipv4Addr};

use overlane_abi::DropReason;

use super::{Direction, Filter, Groups, PortSecurity};
use crate::model::Mac;

pub use flows::Memory;
pub use packet::{Content, Fragment, Ip, Message, Packet, Quoted, Segment, Transport};

use flows::{Flow, State, Step, ends};
use packet::is_echo_request;
use rules::Question;

/// A port of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Tells it from the host's other ports.
    pub number: usize,
    /// Its MAC address.
    pub mac: Mac,
    /// What it is held to.
    pub security: PortSecurity,
    /// Whether connections are taken up in mid-stream, because the host has come from another filter.
    pub takes_up: bool,
}

/// Admitted, or why not.
pub type Verdict = Result<(), DropReason>;

/// DHCP and DHCPv6: server and client.
const DHCP: (u16, u16) = (67, 68);
const DHCPV6: (u16, u16) = (547, 546);

/// ICMPv6 types (RFC 4443, RFC 4861, RFC 2710, RFC 3810).
const LISTENER_QUERY: u8 = 130;
const LISTENER_REPORT: u8 = 131;
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
const LISTENER_REPORT_V2: u8 = 143;

/// Decides about a packet that `port` sends (egress) or is to receive (ingress), and remembers what comes of it.
pub fn admit(port: &Port, groups: &Groups, memory: &mut Memory, direction: Direction, packet: &Packet) -> Verdict {
    let PortSecurity::Enforced(filter) = &port.security else { return Ok(()) };
    let mut case = Case { port, filter, groups, memory, direction };
    match direction {
        Direction::Egress => case.sent(packet),
        // Without groups, whatever comes is let in.
        Direction::Ingress if filter.groups.is_none() => Ok(()),
        Direction::Ingress => case.received(packet),
    }
}

struct Case<'a> {
    port: &'a Port,
    filter: &'a Filter,
    groups: &'a Groups,
    memory: &'a mut Memory,
    direction: Direction,
}

impl Case<'_> {
    fn sent(&mut self, packet: &Packet) -> Verdict {
        if packet.is_tagged {
            return Err(DropReason::VlanTagged);
        }
        if !self.may_use_mac(packet.source_mac) {
            return Err(DropReason::SpoofedMac);
        }
        let ip = match &packet.content {
            Content::Arp { sender_mac, sender, target } => return self.sent_arp(*sender_mac, *sender, *target),
            Content::LinkControl => return Err(DropReason::LinkControl),
            Content::MalformedIp => return Err(DropReason::MalformedIp),
            Content::Other => return Ok(()),
            Content::Ip(ip) => ip,
        };
        if !is_sent_without_address(ip) && !self.may_use(packet.source_mac, ip.source) {
            return Err(DropReason::SpoofedIp);
        }
        self.sent_discovery(packet.source_mac, ip)?;
        let (server, client) = if ip.is_v6() { DHCPV6 } else { DHCP };
        if ip.is_udp(server, client) {
            return Err(DropReason::RogueDhcpServer);
        }
        if ip.icmpv6() == Some(ROUTER_ADVERTISEMENT) {
            return Err(DropReason::RogueRa);
        }
        if self.filter.groups.is_none() || ip.is_udp(client, server) {
            return Ok(());
        }
        // A machine may send any ICMPv6; echo requests are remembered, so that the answers come back.
        match ip.icmpv6() {
            Some(kind) if !is_echo_request(true, kind) => Ok(()),
            _ => self.judge(ip),
        }
    }

    fn received(&mut self, packet: &Packet) -> Verdict {
        if packet.is_tagged {
            return Err(DropReason::VlanTagged);
        }
        let ip = match &packet.content {
            Content::MalformedIp => return Err(DropReason::MalformedIp),
            Content::Ip(ip) => ip,
            Content::Arp { .. } | Content::LinkControl | Content::Other => return Ok(()),
        };
        if self.may_always_arrive(ip) { Ok(()) } else { self.judge(ip) }
    }

    fn may_use_mac(&self, mac: Mac) -> bool {
        mac == self.port.mac || self.filter.sources.iter().any(|source| source.mac == mac)
    }

    fn may_use(&self, mac: Mac, address: IpAddr) -> bool {
        self.filter.sources.iter().any(|source| source.mac == mac && source.net.contains(&address))
    }

    /// ARP may only say what is true; a probe asks for an address that is to be the port's.
    fn sent_arp(&self, sender_mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Verdict {
        let claimed = if sender.is_unspecified() { target } else { sender };
        let is_honest = self.may_use_mac(sender_mac) && self.may_use(sender_mac, claimed.into());
        is_honest.then_some(()).ok_or(DropReason::SpoofedArp)
    }

    /// So may neighbour discovery, in one piece.
    fn sent_discovery(&self, source_mac: Mac, ip: &Ip) -> Verdict {
        let Some(kind) = ip.icmpv6() else { return Ok(()) };
        if !matches!(kind, ROUTER_SOLICITATION | NEIGHBOR_SOLICITATION | NEIGHBOR_ADVERTISEMENT) {
            return Ok(());
        }
        let Transport::Icmp { message: Message::Discovery { link_layer, target }, .. } = ip.transport else {
            return Err(DropReason::SpoofedNd);
        };
        let mac = link_layer.unwrap_or(source_mac);
        let claims = kind == NEIGHBOR_ADVERTISEMENT || (kind == NEIGHBOR_SOLICITATION && ip.source.is_unspecified());
        let is_true = match target {
            Some(target) if claims => self.may_use(mac, target.into()),
            _ => !claims,
        };
        let is_honest = self.may_use_mac(mac) && is_true && ip.fragment == Fragment::Whole;
        is_honest.then_some(()).ok_or(DropReason::SpoofedNd)
    }

    /// What the network itself sends to every port.
    fn may_always_arrive(&self, ip: &Ip) -> bool {
        let fixed = || self.filter.sources.iter().filter(|source| source.is_fixed).map(|source| source.net.addr());
        let (server, client) = if ip.is_v6() { DHCPV6 } else { DHCP };
        let answers_dhcp = ip.is_udp(server, client)
            && match ip.destination {
                IpAddr::V4(address) if address.is_broadcast() => true,
                IpAddr::V6(address) if address.segments()[..4] == [0xfe80, 0, 0, 0] => true,
                address => fixed().any(|own| own == address),
            };
        answers_dhcp
            || match ip.icmpv6() {
                Some(LISTENER_QUERY | NEIGHBOR_SOLICITATION | NEIGHBOR_ADVERTISEMENT) => true,
                Some(ROUTER_ADVERTISEMENT) => fixed().any(|own| own.is_ipv6()),
                _ => false,
            }
    }

    /// Decides by flows and rules.
    fn judge(&mut self, ip: &Ip) -> Verdict {
        let key = |id| (self.port.number, self.direction, ip.protocol, ip.source, ip.destination, id);
        if let Fragment::Later { id, offset } = ip.fragment {
            return match self.memory.fragments.get(&key(id)) {
                Some(end) if offset >= *end => Ok(()),
                Some(_) => Err(DropReason::OverlappingFragment),
                None => Err(DropReason::UnknownFragment),
            };
        }
        let first = if let Fragment::First { id, end } = ip.fragment { Some((key(id), end)) } else { None };
        let verdict = self.judge_transport(ip);
        match first {
            Some((key, end)) if verdict.is_ok() => drop(self.memory.fragments.insert(key, end)),
            Some((key, _)) => drop(self.memory.fragments.remove(&key)),
            None => (),
        }
        verdict
    }

    fn judge_transport(&mut self, ip: &Ip) -> Verdict {
        match ip.transport {
            Transport::Tcp { segment: Segment::Nonsense, .. } => Err(DropReason::InvalidState),
            Transport::Icmp { message: Message::Quote(quoted), .. } => {
                if quoted.is_some_and(|quoted| self.is_about_a_flow(ip, &quoted)) {
                    Ok(())
                } else {
                    self.judge_alone(ip)
                }
            }
            Transport::Icmp { message: Message::Discovery { .. } | Message::Other, .. } => self.judge_alone(ip),
            _ => self.judge_flow(ip),
        }
    }

    /// Decides by the rules, and remembers nothing.
    fn judge_alone(&self, ip: &Ip) -> Verdict {
        let question = Question::of_packet(self.direction, ip);
        if rules::ask(self.filter, self.groups, &question).is_some() { Ok(()) } else { Err(self.refusal(ip)) }
    }

    fn judge_flow(&mut self, ip: &Ip) -> Verdict {
        let (from, to) = ends(ip);
        let Some(flow) = self.memory.flow(ip.protocol, from, to) else { return self.begin(ip) };
        let is_from_opener = flow.opener == from;
        let step = match ip.transport {
            Transport::Tcp { segment, .. } => flow.state.step(segment, is_from_opener),
            _ => Step::To(flow.state),
        };
        let state = match step {
            Step::To(state) => state,
            Step::Reopen => return self.begin(ip),
            Step::OutOfPlace => return self.judge_alone(ip).map_err(|_| DropReason::InvalidState),
        };
        if !self.admits_flow(self.question(ip, is_from_opener)) {
            self.memory.forget(ip.protocol, from, to);
            return self.begin(ip);
        }
        self.memory.set(ip.protocol, from, to, Flow { state, ..flow });
        Ok(())
    }

    /// What the rules are to be asked about the flow of a packet: may the port begin it, or be reached by it?
    fn question(&self, ip: &Ip, is_from_opener: bool) -> Question {
        if is_from_opener { Question::of_packet(self.direction, ip) } else { Question::of_answer(self.direction, ip) }
    }

    fn admits_flow(&self, question: Question) -> bool {
        rules::ask(self.filter, self.groups, &question) == Some(rules::Grant::Flow)
    }

    fn begin(&mut self, ip: &Ip) -> Verdict {
        let (from, to) = ends(ip);
        let first_state = match ip.transport {
            Transport::Tcp { segment: Segment::Syn, .. } => Some(State::SynSent),
            // A connection that was there before.
            Transport::Tcp { segment: Segment::Ack, .. } => Some(State::Established),
            Transport::Tcp { .. } => None,
            Transport::Icmp { kind, .. } => is_echo_request(ip.is_v6(), kind).then_some(State::None),
            Transport::Ports { .. } | Transport::Unknown => Some(State::None),
        };
        let question = Question::of_packet(self.direction, ip);
        match (rules::ask(self.filter, self.groups, &question), first_state) {
            (Some(rules::Grant::Flow), Some(state)) => {
                self.memory.set(ip.protocol, from, to, Flow { opener: from, state });
                return Ok(());
            }
            (Some(_), _) => return Ok(()),
            (None, _) => (),
        }
        let is_in_midstream = matches!(ip.transport, Transport::Tcp { segment: Segment::Ack | Segment::Fin, .. });
        if self.port.takes_up && is_in_midstream && self.admits_flow(Question::of_answer(self.direction, ip)) {
            self.memory.set(ip.protocol, from, to, Flow { opener: to, state: State::Established });
            return Ok(());
        }
        Err(self.refusal(ip))
    }

    /// Whether an ICMP error is about a flow that the port takes part in. It goes to whoever has sent the quoted packet.
    fn is_about_a_flow(&mut self, ip: &Ip, quoted: &Quoted) -> bool {
        let (from, to) = ((quoted.source, quoted.ports[0]), (quoted.destination, quoted.ports[1]));
        let Some(flow) = self.memory.flow(quoted.protocol, from, to).filter(|_| quoted.source == ip.destination) else {
            return false;
        };
        let opposite = if self.direction == Direction::Egress { Direction::Ingress } else { Direction::Egress };
        self.admits_flow(Question::of_quoted(opposite, quoted, flow.opener == from))
    }

    /// Why a packet that no rule admits is dropped.
    fn refusal(&self, ip: &Ip) -> DropReason {
        let is_answer = match ip.transport {
            Transport::Tcp { segment, .. } => matches!(segment, Segment::SynAck | Segment::Fin | Segment::Rst),
            Transport::Icmp { kind, message: Message::Echo { .. }, .. } => !is_echo_request(ip.is_v6(), kind),
            Transport::Icmp { message: Message::Quote(_), .. } => true,
            _ => false,
        };
        match self.direction {
            _ if is_answer => DropReason::InvalidState,
            Direction::Egress => DropReason::NoRuleEgress,
            Direction::Ingress => DropReason::NoRuleIngress,
        }
    }
}

/// A machine that has no address yet: it asks for one by DHCP, or whether somebody else has it, or joins groups.
fn is_sent_without_address(ip: &Ip) -> bool {
    let is_without = ip.source.is_unspecified();
    match ip.destination {
        IpAddr::V4(destination) => is_without && destination.is_broadcast() && ip.is_udp(DHCP.1, DHCP.0),
        IpAddr::V6(destination) => {
            let may_ask = matches!(ip.icmpv6(), Some(LISTENER_REPORT | NEIGHBOR_SOLICITATION | LISTENER_REPORT_V2));
            is_without && destination.segments()[0] == 0xff02 && may_ask
        }
    }
}
