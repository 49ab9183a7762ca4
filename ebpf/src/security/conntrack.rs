//! The connection table: what belongs to a flow that was admitted is admitted.

use overlane_abi::{Direction, DropReason, Flow, FlowEnd, FlowState, Port};

use crate::{
    clock, maps,
    maps::Table,
    parse::{TCP, UDP},
    security::{
        Admission, Case, fragments,
        kind::Kind,
        packet::{Packet, Part},
        policy::{self, Grant, Question},
        related, tcp,
    },
};

/// A flow's last packet is noted once in this time: the entry is shared by all CPUs.
const NOTE_INTERVAL: u64 = clock::SECOND;
/// A flow without answers, other than TCP, has shown that it is no flood when it has gone on for this long.
const ONE_WAY_AGE: u64 = 2 * clock::SECOND;

/// Whether a packet belongs to a flow that this port has admitted, and changes nothing about it: nearly all do, and this is
/// everything that happens to them.
#[inline(always)]
pub fn knows(case: &Case) -> bool {
    let packet = case.packet;
    let is_ordinary = matches!(packet.kind, Kind::Datagram | Kind::Ack | Kind::EchoRequest | Kind::EchoReply);
    if !is_ordinary || packet.fragment.part != Part::Whole {
        return false;
    }
    let Some(flow) = maps::flow(Table::Main, case.key) else {
        return false;
    };
    // SAFETY: see `maps::flow`.
    let flow = unsafe { &mut *flow };
    let sides = Sides::of(flow, packet, case.direction);
    let end = &flow.ends[sides.here & 1];
    let is_checked =
        case.direction == Direction::Ingress || (end.flags & FlowEnd::SOURCE_ALLOWED != 0 && case.has_own_mac());
    let is_answered = flow.flags & Flow::ANSWERED != 0;
    let is_settled = match packet.kind {
        Kind::Ack => flow.state == FlowState::Established as u8,
        _ if is_answered => flow.state != FlowState::Udp as u8,
        _ => sides.is_from_opener,
    };
    if !is_settled || !is_checked || !is_current(end, case) || flow.expires <= case.now {
        return false;
    }
    remember(flow, case.now);
    true
}

/// Judges a packet that is not just one more of a flow.
#[inline(always)]
pub fn judge(case: &Case) -> Admission {
    let admission = match case.packet.kind {
        Kind::LaterFragment => return fragments::follow(case),
        Kind::Nonsense => Err(DropReason::InvalidState),
        Kind::IcmpError if related::is_known(case) => Ok(()),
        Kind::IcmpError | Kind::IcmpOther => judge_alone(case),
        _ => judge_flow(case),
    };
    if case.packet.fragment.part == Part::First {
        fragments::note(case, admission.is_ok());
    }
    admission
}

/// Judges a packet by the rules, without keeping a flow in mind.
#[inline(never)]
fn judge_alone(case: &Case) -> Admission {
    let question = Question::about(case.packet, case.direction, case.remote(), true);
    if policy::ask(case, &question).is_some() { Ok(()) } else { Err(refusal(case)) }
}

/// Judges a packet that may belong to a flow or begin one.
#[inline(always)]
fn judge_flow(case: &Case) -> Admission {
    let mut table = Table::New;
    let followed = if let Some(flow) = maps::flow(Table::Main, case.key) {
        // If another one is to follow: its ends have shown themselves before.
        table = Table::Main;
        follow(case, flow, Table::Main)
    } else if let Some(flow) = maps::flow(Table::New, case.key) {
        follow(case, flow, Table::New)
    } else {
        Followed::Over
    };
    match followed {
        Followed::Admitted => Ok(()),
        Followed::OutOfPlace => judge_alone(case).map_err(|_| DropReason::InvalidState),
        Followed::Over => begin(case, table),
        Followed::Forgotten => begin(case, Table::New),
    }
}

/// What has come of looking for a packet's flow.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Followed {
    /// The packet belongs to it.
    Admitted,
    /// It does not, though it claims to.
    OutOfPlace,
    /// The flow has ended; what follows is another one.
    Over,
    /// The rules do not admit the flow any more, and it is out of the table.
    Forgotten,
}

/// Takes a flow one packet further.
#[inline(never)]
fn follow(case: &Case, flow: *mut Flow, table: Table) -> Followed {
    // SAFETY: see `maps::flow`.
    let flow = unsafe { &mut *flow };
    if flow.expires <= case.now {
        return Followed::Over;
    }
    let packet = case.packet;
    let sides = Sides::of(flow, packet, case.direction);
    let is_answered = flow.flags & Flow::ANSWERED != 0 || !sides.is_from_opener;
    let mut state = flow.state;
    if packet.protocol == TCP {
        match tcp::step(state, packet.kind, sides.is_from_opener) {
            tcp::Step::To(next) => state = next as u8,
            tcp::Step::Stay => (),
            tcp::Step::Reopen => return Followed::Over,
            tcp::Step::OutOfPlace => return Followed::OutOfPlace,
        }
    } else if state == FlowState::Udp as u8 && is_answered && sides.is_from_opener {
        state = FlowState::UdpStream as u8;
    }
    if !is_admitted_here(case, flow, packet, &sides) {
        maps::forget_flow(table, case.key);
        return Followed::Forgotten;
    }
    if case.direction == Direction::Egress && case.has_own_mac() {
        flow.ends[sides.here & 1].flags |= FlowEnd::SOURCE_ALLOWED;
    }
    if is_answered {
        flow.flags |= Flow::ANSWERED;
    }
    if flow.state == state {
        remember(flow, case.now);
    } else {
        flow.state = state;
        flow.expires = case.now + timeout(flow);
    }
    if table == Table::New && has_shown_both_ends(flow, &sides, case, is_answered) {
        maps::put_flow(Table::Main, case.key, flow);
        maps::forget_flow(Table::New, case.key);
    }
    Followed::Admitted
}

/// Whether a flow may leave the table that a flood would fill: whoever began it has heard the answer and goes on, so that
/// neither address is made up. One-way flows show it by their age.
#[inline(always)]
fn has_shown_both_ends(flow: &Flow, sides: &Sides, case: &Case, is_answered: bool) -> bool {
    let is_tcp = case.packet.protocol == TCP;
    // The states of a handshake come first.
    let is_past_handshake = flow.state > FlowState::SynReceived as u8;
    let is_old = !is_tcp && case.now > flow.created + ONE_WAY_AGE;
    sides.is_from_opener && (is_old || is_answered && (!is_tcp || is_past_handshake))
}

/// Admits the first packet of a flow, or not.
#[inline(never)]
fn begin(case: &Case, table: Table) -> Admission {
    let packet = case.packet;
    let mut question = Question::about(packet, case.direction, case.remote(), true);
    let mut grant = policy::ask(case, &question);
    let mut state = first_state(packet);
    let mut is_from_opener = true;
    // A connection that was there before the filter: its answers may come first.
    let may_be_answer = case.port.flags & Port::TAKE_UP != 0 && matches!(packet.kind, Kind::Ack | Kind::Fin);
    if !grant.is_some() && may_be_answer {
        question = Question::about(packet, case.direction.opposite(), case.remote(), false);
        grant = policy::ask(case, &question);
        if !grant.is_stateful() {
            return Err(refusal(case));
        }
        state = Some(FlowState::Established);
        is_from_opener = false;
    }
    if !grant.is_some() {
        return Err(refusal(case));
    }
    if grant.is_stateful()
        && let Some(state) = state
    {
        insert(case, table, state, grant, is_from_opener);
    }
    Ok(())
}

/// The state of a flow that begins with a packet; `None`: no flow does.
#[inline(always)]
fn first_state(packet: &Packet) -> Option<FlowState> {
    match (packet.kind, packet.protocol) {
        (Kind::Syn, _) => Some(FlowState::SynSent),
        // In mid-stream.
        (Kind::Ack, _) => Some(FlowState::Established),
        (Kind::EchoRequest, _) => Some(FlowState::Echo),
        (Kind::Datagram, UDP) => Some(FlowState::Udp),
        (Kind::Datagram, _) => Some(FlowState::Other),
        _ => None,
    }
}

#[inline(always)]
fn insert(case: &Case, table: Table, state: FlowState, grant: Grant, is_from_opener: bool) {
    let mut flags = if is_from_opener { 0 } else { Flow::ANSWERED };
    if is_from_opener != case.packet.is_from_first() {
        flags |= Flow::BEGUN_BY_SECOND;
    }
    let Some(scratch) = maps::scratch() else {
        return;
    };
    // SAFETY: nobody else holds this part of it.
    let flow = unsafe { &mut (*scratch).flow };
    flow.created = case.now;
    (flow.state, flow.flags, flow.pad) = (state as u8, flags, [0; 6]);
    flow.expires = case.now + timeout(flow);
    // The port's own end: the one that has sent the packet on its way out, the other on its way in.
    let is_opener_here = is_from_opener == (case.direction == Direction::Egress);
    flow.ends = if is_opener_here { [stamp(case, grant), NOBODY] } else { [NOBODY, stamp(case, grant)] };
    maps::put_flow(table, case.key, flow);
}

/// An end that is no port of this host, or has not admitted the flow yet.
const NOBODY: FlowEnd = FlowEnd { ifindex: 0, policy: 0, revision: 0, generation: 0, rule: 0, flags: 0 };

/// Where a packet and a port stand in a flow.
pub struct Sides {
    /// Whether the end that began the flow has sent the packet.
    pub is_from_opener: bool,
    /// Which of [`Flow::ends`] is the port's.
    pub here: usize,
}

impl Sides {
    /// For a packet at a port that sends (egress) or receives it.
    #[inline(always)]
    pub fn of(flow: &Flow, packet: &Packet, direction: Direction) -> Self {
        let is_from_opener = packet.is_from_first() == (flow.flags & Flow::BEGUN_BY_SECOND == 0);
        let is_opener_here = is_from_opener == (direction == Direction::Egress);
        Self { is_from_opener, here: usize::from(!is_opener_here) }
    }
}

/// Whether the port has admitted the flow under the rules that are in force.
#[inline(always)]
fn is_current(end: &FlowEnd, case: &Case) -> bool {
    end.ifindex == case.ifindex
        && end.revision == case.port.revision
        && (end.generation == 0 || end.generation == maps::generation())
}

/// Whether the port admits the flow of `packet`: it has, or its rules do when they are asked again, as they were for the first
/// packet.
#[inline(always)]
pub fn is_admitted_here(case: &Case, flow: &mut Flow, packet: &Packet, sides: &Sides) -> bool {
    let end = &mut flow.ends[sides.here & 1];
    if is_current(end, case) {
        return true;
    }
    let begun = if sides.here == 0 { Direction::Egress } else { Direction::Ingress };
    let question = Question::about(packet, begun, case.remote(), sides.is_from_opener);
    let grant = policy::ask(case, &question);
    if grant.is_stateful() {
        *end = stamp(case, grant);
    }
    grant.is_stateful()
}

/// The port's signature under a flow.
#[inline(always)]
fn stamp(case: &Case, grant: Grant) -> FlowEnd {
    let is_checked = case.direction == Direction::Egress && case.has_own_mac();
    FlowEnd {
        ifindex: case.ifindex,
        policy: case.port.policy,
        revision: case.port.revision,
        generation: if grant.is_by_member() { maps::generation() } else { 0 },
        rule: grant.rule(),
        flags: if is_checked { FlowEnd::SOURCE_ALLOWED } else { 0 },
    }
}

/// How long the flow is remembered from now on.
#[inline(always)]
fn timeout(flow: &Flow) -> u64 {
    let is_unproven = flow.state == FlowState::Established as u8 && flow.flags & Flow::ANSWERED == 0;
    maps::flow_timeout(if is_unproven { FlowState::SynSent as u8 } else { flow.state })
}

/// Notes that the flow is alive, unless that was done a moment ago.
#[inline(always)]
fn remember(flow: &mut Flow, now: u64) {
    let timeout = timeout(flow);
    let expires = now + timeout;
    if expires > flow.expires + NOTE_INTERVAL.min(timeout / 8) {
        flow.expires = expires;
    }
}

/// Why a packet that no rule admits is dropped.
#[inline(always)]
fn refusal(case: &Case) -> DropReason {
    match (case.packet.kind, case.direction) {
        (Kind::SynAck | Kind::Fin | Kind::Rst | Kind::EchoReply | Kind::IcmpError, _) => DropReason::InvalidState,
        (_, Direction::Egress) => DropReason::NoRuleEgress,
        (_, Direction::Ingress) => DropReason::NoRuleIngress,
    }
}
