//! Port security and security groups: whether a packet may leave or reach a port.
//!
//! The packets of an established flow are found in the connection table, or are like one that just was, and need nothing else. All others are judged in the
//! order of the old agent's chains (Neutron's `iptables_firewall.py`); what differs from them is in `docs/security.md`.

mod conntrack;
mod extension_headers;
mod fixed;
mod fragments;
mod kind;
mod log;
mod neighbor;
mod packet;
mod policy;
mod recent;
mod related;
mod spoofing;
mod tcp;

use network_types::eth::EtherType;
use overlane_abi::{Direction, DropReason, Outcome, Port};

use crate::{
    buffer::Buffer,
    maps::{self, FlowKey},
    parse::Ethernet,
    verdict::Verdict,
};

pub use packet::Packet;
pub use recent::Recents;
use recent::is_recent;

/// Whether a packet is admitted, and if not, why.
pub type Admission = Result<(), DropReason>;

/// A packet at a port, about to be judged.
struct Case<'a, B> {
    buffer: B,
    port: &'a Port,
    packet: &'a Packet,
    /// Of the packet's flow; only for ports with security groups.
    key: &'a FlowKey,
    /// The port's tap.
    ifindex: u32,
    direction: Direction,
    /// Source MAC address.
    mac: [u8; 6],
    /// Nanoseconds of the monotonic clock, to two ticks.
    now: u64,
}

impl<'a, B> Case<'a, B> {
    /// The address that is not the port's.
    #[inline(always)]
    fn remote(&self) -> &'a [u32; 4] {
        match self.direction {
            Direction::Egress => &self.packet.destination,
            Direction::Ingress => &self.packet.source,
        }
    }

    /// Whether the packet carries the port's own MAC address, not one that it may use as well.
    #[inline(always)]
    fn has_own_mac(&self) -> bool {
        self.mac == self.port.mac
    }
}

/// What becomes of packets at a tap that the agent has not announced.
#[inline(always)]
pub fn at_unknown_port() -> Verdict {
    if maps::is_closed() { Verdict::Drop(DropReason::ClosedPort) } else { Verdict::Pass(Outcome::UnknownPort) }
}

/// Whether a port with port security may send a frame.
#[inline(always)]
pub fn admit_sent(buffer: impl Buffer, frame: &Ethernet, port: &Port) -> Admission {
    let may_be_recent = port.flags & Port::FILTERED != 0 && frame.source == port.mac && !frame.is_tagged(buffer);
    if may_be_recent && is_recent(buffer, frame, port, Direction::Egress) {
        return Ok(());
    }
    judge_sent(buffer, frame, port)
}

#[inline(never)]
fn judge_sent(buffer: impl Buffer, frame: &Ethernet, port: &Port) -> Admission {
    let ifindex = buffer.ifindex();
    if frame.is_tagged(buffer) {
        return Err(DropReason::VlanTagged);
    }
    if frame.source != port.mac && !spoofing::is_allowed_mac(ifindex, frame.source) {
        return Err(DropReason::SpoofedMac);
    }
    let Some((packet, key, clock, recents)) = maps::room_to_judge() else {
        // Never: the map has an entry for each CPU.
        return Err(DropReason::MalformedIp);
    };
    if !packet.read(buffer, frame)? {
        return admit_sent_without_ip(buffer, frame, port, ifindex);
    }
    let is_filtered = port.flags & Port::FILTERED != 0;
    if is_filtered {
        packet.write_flow_key(port.network, key);
    }
    let (direction, mac, now) = (Direction::Egress, frame.source, clock.now());
    let case = Case { buffer, port, packet, key, ifindex, direction, mac, now };
    if is_filtered {
        if conntrack::knows(&case, recents) {
            return Ok(());
        }
        recents.forget(packet);
    }
    let admission = match judge_without_rules(&case) {
        Some(admission) => admission,
        None => conntrack::judge(&case),
    };
    admission.inspect_err(|reason| log::dropped(&case, *reason))
}

/// Whether a frame may reach a port with security groups.
#[inline(always)]
pub fn admit_received(buffer: impl Buffer, port: &Port) -> Admission {
    let Some(frame) = &Ethernet::outermost(buffer) else {
        return Ok(());
    };
    if frame.is_tagged(buffer) {
        return Err(DropReason::VlanTagged);
    }
    if is_recent(buffer, frame, port, Direction::Ingress) { Ok(()) } else { judge_received(buffer, frame, port) }
}

#[inline(never)]
fn judge_received(buffer: impl Buffer, frame: &Ethernet, port: &Port) -> Admission {
    let Some((packet, key, clock, recents)) = maps::room_to_judge() else {
        return Err(DropReason::MalformedIp);
    };
    if !packet.read(buffer, frame)? {
        return Ok(());
    }
    let (ifindex, direction, mac, now) = (buffer.ifindex(), Direction::Ingress, frame.source, clock.now());
    packet.write_flow_key(port.network, key);
    let case = Case { buffer, port, packet, key, ifindex, direction, mac, now };
    if conntrack::knows(&case, recents) {
        return Ok(());
    }
    recents.forget(packet);
    if fixed::may_arrive(&case) {
        return Ok(());
    }
    conntrack::judge(&case).inspect_err(|reason| log::dropped(&case, *reason))
}

/// What does not depend on rules and flows: addresses, and what every port may and may not do. `None`: it does.
#[inline(never)]
fn judge_without_rules(case: &Case<impl Buffer>) -> Option<Admission> {
    if !fixed::is_sent_without_address(case.packet) && !spoofing::is_allowed_source(case) {
        return Some(Err(DropReason::SpoofedIp));
    }
    if let Err(reason) = neighbor::check(case).and_then(|()| fixed::refuse_servers(case.packet)) {
        return Some(Err(reason));
    }
    let is_open = case.port.flags & Port::FILTERED == 0;
    (is_open || fixed::may_leave(case.packet)).then_some(Ok(()))
}

/// Frames that are not IP have no rules. Other protocols than ARP pass, as in the old agent, unless they are bridges' own.
#[inline(always)]
fn admit_sent_without_ip(buffer: impl Buffer, frame: &Ethernet, port: &Port, ifindex: u32) -> Admission {
    if frame.carries(EtherType::Arp) {
        spoofing::check_arp(buffer, port, ifindex)
    } else if frame.is_for_bridges() {
        Err(DropReason::LinkControl)
    } else {
        Ok(())
    }
}
