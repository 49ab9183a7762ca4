//! Asking the rules. That is done for the first packet of a flow, and again when something has changed.

use overlane_abi::{Address, Direction, Match, MemberKey, RULE_FIXED, RuleKey};

use crate::{
    buffer::Buffer,
    maps,
    maps::Lookup,
    parse::{ICMPV6, octets},
    security::{
        Case,
        kind::{ECHO_REQUEST_V4, ECHO_REQUEST_V6, Kind},
        log,
        packet::Packet,
    },
};

/// What the rules are asked: may this port begin a flow to (egress), or be reached by one from (ingress), `remote`?
pub struct Question<'a> {
    pub remote: &'a [u32; 4],
    pub direction: Direction,
    pub protocol: u8,
    /// Destination port, or ICMP type and code, of the flow's first packet.
    pub service: u16,
    pub is_v6: bool,
}

impl<'a> Question<'a> {
    /// About the flow of `packet`: it may have come from the end that began the flow, or be the other one's answer.
    #[inline(always)]
    pub fn about(packet: &Packet, direction: Direction, remote: &'a [u32; 4], is_from_opener: bool) -> Self {
        let service = match packet.kind {
            _ if is_from_opener => packet.service,
            Kind::EchoReply if packet.is_v6 => u16::from_be_bytes([ECHO_REQUEST_V6, 0]),
            Kind::EchoReply => u16::from_be_bytes([ECHO_REQUEST_V4, 0]),
            _ => packet.ports[0],
        };
        Self { remote, direction, protocol: packet.protocol, service, is_v6: packet.is_v6 }
    }

    /// A port may ask whom it likes whether they are there, over IPv6.
    #[inline(always)]
    fn is_fixed(&self) -> bool {
        self.direction == Direction::Egress
            && self.is_v6
            && self.protocol == ICMPV6
            && self.service == u16::from_be_bytes([ECHO_REQUEST_V6, 0])
    }
}

/// The rule that has admitted something, or none: its index in the high half, flags of its [`Match`] in the low one.
///
/// One register, which is what a function of its own can return.
#[derive(Clone, Copy)]
pub struct Grant(u32);

impl Grant {
    /// Flag, next to those of [`Match`]: a member of a set took part.
    const BY_MEMBER: u16 = 1 << 15;
    const NONE: Self = Self(0);
    const FIXED: Self = Self::new(RULE_FIXED, Match::USED);

    const fn new(rule: u16, flags: u16) -> Self {
        Self((rule as u32) << 16 | flags as u32)
    }

    pub const fn rule(self) -> u16 {
        (self.0 >> 16) as u16
    }

    const fn has(self, flag: u16) -> bool {
        self.0 & flag as u32 != 0
    }

    /// Whether there is a rule.
    pub const fn is_some(self) -> bool {
        self.has(Match::USED)
    }

    /// The rule if it keeps flows, or else none.
    pub const fn if_stateful(self) -> Self {
        if self.is_stateful() { self } else { Self::NONE }
    }

    /// Whether there is a rule that keeps flows.
    pub const fn is_stateful(self) -> bool {
        self.has(Match::USED) && !self.has(Match::STATELESS)
    }

    pub const fn is_by_member(self) -> bool {
        self.has(Self::BY_MEMBER)
    }
}

/// Asks the rules of the port's groups. What they admit is counted, and logged if the rule says so.
#[inline(always)]
pub fn ask(case: &Case<impl Buffer>, question: &Question) -> Grant {
    let grant = find(case, question);
    if grant.has(Match::LOGGED) {
        log::admitted(case, grant.rule());
    }
    grant
}

#[inline(never)]
fn find(case: &Case<impl Buffer>, question: &Question) -> Grant {
    let grant = decide(case.port.policy, question);
    if grant.is_some() && grant.rule() != RULE_FIXED {
        maps::count_hit(case.port.policy, grant.rule(), case.buffer.len() as u64);
    }
    grant
}

#[inline(always)]
fn decide(policy: u32, question: &Question) -> Grant {
    if question.is_fixed() {
        return Grant::FIXED;
    }
    let key = RuleKey {
        policy,
        scope: RuleKey::scope(question.direction, question.is_v6),
        protocol: question.protocol,
        service_be: question.service.to_be_bytes(),
    };
    let Some(rules) = maps::rules(key) else {
        return Grant::NONE;
    };
    let address = Address { octets: octets(*question.remote) };
    let mut remote = Lookup::of(MemberKey { set: Match::ANY, address });
    for candidate in &rules.matches {
        if candidate.flags & Match::USED == 0 {
            return Grant::NONE;
        }
        if candidate.set == Match::ANY {
            return Grant::new(candidate.rule, candidate.flags);
        }
        remote.key.set = candidate.set;
        if let Some(member) = maps::member(&remote) {
            let is_members = candidate.flags & Match::RULE_OF_MEMBER != 0;
            let rule = if is_members { member.rule as u16 } else { candidate.rule };
            return Grant::new(rule, candidate.flags | Grant::BY_MEMBER);
        }
    }
    Grant::NONE
}
