//! A port with port security and security groups, and a conversation that it has with a port elsewhere.

use overlane_abi::{
    Direction, DropReason, Flow, FlowKey4, FlowKey6, Hook, MATCHES_MAX, Match, Member, MemberKey, Outcome, Port,
    RuleKey, RuleSet, Source, SourceKey, names,
};
use overlane_tests::packet::{Ends, Frame};

use crate::{
    harness::{Datapath, IFINDEX, Load, Verdict},
    network::{Family, HERE, INDEX, VNI, outbound, v4, v6},
};

pub(crate) const POLICY: u32 = 7;
pub(crate) const REVISION: u32 = 100;
pub(crate) const GENERATION: u32 = 3;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;

/// Flags of TCP.
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// Ports of the conversation: the guest's and the other one.
pub(crate) const HERE_PORT: u16 = 40_000;
pub(crate) const THERE_PORT: u16 = 443;

/// Every remote address, by a stateful rule.
pub(crate) const ANYBODY: Match = Match { set: Match::ANY, rule: 1, flags: Match::USED };

/// A host whose port may use its fixed IPs only, and has no rules yet.
pub(crate) struct World {
    pub(crate) datapath: Datapath,
    pub(crate) port: Port,
}

/// IPv4 and IPv6 of the conversation.
pub(crate) fn both() -> [Family; 2] {
    [v4(), v6()]
}

/// As the guest sends; `reversed()` is what it receives.
pub(crate) fn talk(family: Family) -> Ends {
    outbound(family)
}

impl World {
    /// A port without any rule, on a host that leaves forwarding to its bridge, so that what is admitted comes out as it was.
    pub(crate) fn new() -> Self {
        Self::with(Load::default())
    }

    pub(crate) fn with(load: Load) -> Self {
        let mut datapath = Datapath::load_with(v4().local_vtep, Load { forwarding: false, ..load });
        datapath.set(names::GENERATION, GENERATION);
        for family in both() {
            let key = source(family, HERE);
            datapath.put(names::SOURCES, key, Source { flags: Source::FIXED });
        }
        let flags = Port::SECURED | Port::FILTERED;
        let port = Port { network: INDEX, vni: VNI, mac: HERE, flags, mtu: 0, policy: POLICY, revision: REVISION };
        let mut world = Self { datapath, port };
        world.update(|_| ());
        world
    }

    /// As `new`, with rules that admit everything from and to everybody.
    pub(crate) fn open() -> Self {
        let mut world = Self::new();
        for direction in [Direction::Egress, Direction::Ingress] {
            world.allow(direction, RuleKey::ANY_PROTOCOL, (0, 0), &[ANYBODY]);
        }
        world
    }

    /// Changes the port's entry.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut Port)) {
        change(&mut self.port);
        self.datapath.put(names::PORTS, IFINDEX, self.port);
    }

    /// Adds an entry of the policy's for both families: protocol and port, or ICMP type and code, of which `bits` count.
    pub(crate) fn allow(&mut self, direction: Direction, bits: u32, key: (u8, u16), matches: &[Match]) {
        for is_v6 in [false, true] {
            self.allow_family(direction, is_v6, bits, key, matches);
        }
    }

    pub(crate) fn allow_family(
        &mut self,
        direction: Direction,
        is_v6: bool,
        bits: u32,
        (protocol, service): (u8, u16),
        matches: &[Match],
    ) {
        let scope = RuleKey::scope(direction, is_v6);
        let key = RuleKey { policy: self.port.policy, scope, protocol, service_be: service.to_be_bytes() };
        let mut rules = RuleSet { matches: [Match::UNUSED; MATCHES_MAX] };
        rules.matches[..matches.len()].copy_from_slice(matches);
        self.datapath.put_prefix(names::RULES, bits, key, rules);
    }

    pub(crate) fn join(&mut self, set: u32, address: std::net::IpAddr, rule: u32) {
        self.datapath.put(names::MEMBERS, MemberKey { set, address: address.into() }, Member { rule });
    }

    pub(crate) fn leave(&mut self, set: u32, address: std::net::IpAddr) {
        self.datapath.remove::<_, Member>(names::MEMBERS, MemberKey { set, address: address.into() });
    }

    pub(crate) fn sends(&mut self, frame: &Frame) {
        self.datapath.expect_pass(Hook::FromPort, frame, Outcome::ForwardingOff);
    }

    pub(crate) fn may_not_send(&mut self, frame: &Frame, reason: DropReason) {
        let _ = self.datapath.expect(Hook::FromPort, frame, Verdict::Drop(reason));
    }

    pub(crate) fn receives(&mut self, frame: &Frame) {
        self.datapath.expect_pass(Hook::ToPort, frame, Outcome::Admitted);
    }

    pub(crate) fn may_not_receive(&mut self, frame: &Frame, reason: DropReason) {
        let _ = self.datapath.expect(Hook::ToPort, frame, Verdict::Drop(reason));
    }

    /// Flows of IPv4 in a table.
    pub(crate) fn flows4(&self, table: &str) -> Vec<(FlowKey4, Flow)> {
        self.datapath.entries(table)
    }

    /// Flows of IPv6 in a table.
    pub(crate) fn flows6(&self, table: &str) -> Vec<(FlowKey6, Flow)> {
        self.datapath.entries(table)
    }

    /// How many flows have shown both of their ends, and how many have not.
    pub(crate) fn counts(&self, family: Family) -> (usize, usize) {
        if family.here.is_ipv4() {
            (self.flows4(names::CONNTRACK4).len(), self.flows4(names::CONNTRACK_NEW4).len())
        } else {
            (self.flows6(names::CONNTRACK6).len(), self.flows6(names::CONNTRACK_NEW6).len())
        }
    }

    /// The guest connects by TCP.
    pub(crate) fn connect(&mut self, family: Family) {
        self.sends(&sent(family, SYN));
        self.receives(&received(family, SYN | ACK));
        self.sends(&sent(family, ACK));
    }
}

/// The entry for an address of the port's, as a key.
pub(crate) fn source(family: Family, mac: [u8; 6]) -> SourceKey {
    let version = if family.here.is_ipv4() { SourceKey::V4 } else { SourceKey::V6 };
    SourceKey { ifindex: IFINDEX, mac, family: version, address: family.here.into() }
}

/// A segment of the conversation, from the guest.
pub(crate) fn sent(family: Family, flags: u8) -> Frame {
    talk(family).segment(HERE_PORT, THERE_PORT, flags)
}

/// A segment of the conversation, to the guest.
pub(crate) fn received(family: Family, flags: u8) -> Frame {
    talk(family).reversed().segment(THERE_PORT, HERE_PORT, flags)
}

/// A datagram of the conversation, from the guest.
pub(crate) fn asks(family: Family) -> Frame {
    talk(family).udp_between(HERE_PORT, THERE_PORT, b"question")
}

/// A datagram of the conversation, to the guest.
pub(crate) fn answers(family: Family) -> Frame {
    talk(family).reversed().udp_between(THERE_PORT, HERE_PORT, b"answer")
}

/// An echo request from the guest, and the other side's answer.
pub(crate) fn ping(family: Family, id: u8) -> (Frame, Frame) {
    let (request, reply) = if family.here.is_ipv4() { (8, 0) } else { (128, 129) };
    let rest = [0, id, 0, 1];
    (talk(family).icmp(request, 0, rest, b"ping"), talk(family).reversed().icmp(reply, 0, rest, b"ping"))
}
