//! The connection table: what belongs to a flow that was admitted is admitted.

use overlane_abi::{Direction, DropReason, Flow, FlowEnd, FlowState, Port};

use crate::{
    buffer::Buffer,
    clock, maps,
    maps::Table,
    parse::{TCP, UDP},
    security::{
        Admission, Case, fragments,
        kind::Kind,
        packet::{Packet, Part},
        policy::{self, Grant, Question},
        recent::Recents,
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
pub fn knows(case: &Case<impl Buffer>, recents: &mut Recents) -> bool {
    let packet = case.packet;
    let is_ordinary = matches!(packet.kind, Kind::Datagram | Kind::Ack | Kind::EchoRequest | Kind::EchoReply);
    if !is_ordinary || packet.fragment.part != Part::Whole {
        return false;
    }
    let Some(flow) = maps::flow(case.key) else {
        return false;
    };
    // SAFETY: as is said at `maps::flow`.
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
    recents.note(case, end.generation);
    remember(flow, case.now);
    true
}

/// Judges a packet that is not just one more of a flow.
#[inline(never)]
pub fn judge(case: &Case<impl Buffer>) -> Admission {
    let Some(scratch) = maps::scratch() else {
        return Err(refusal(case));
    };
    // SAFETY: nobody else holds this part of it.
    let flow = unsafe { &mut (*scratch).flow };
    let followed = match case.packet.kind {
        Kind::LaterFragment => return fragments::follow(case),
        Kind::IcmpError => related::follow(case, flow),
        Kind::IcmpOther | Kind::Nonsense => Followed::OutOfPlace,
        _ => follow(case, flow),
    };
    let admission = match followed {
        Followed::Admitted => Ok(()),
        _ if case.packet.kind == Kind::Nonsense => Err(DropReason::InvalidState),
        _ => judge_by_rules(case, flow, followed),
    };
    if case.packet.fragment.part == Part::First {
        fragments::note(case, admission.is_ok());
    }
    admission
}

/// What has come of looking for a packet's flow.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// The packet belongs to one.
    Admitted,
    /// It does not, though it claims to, or it never could.
    OutOfPlace,
    /// There is none, or the rules do not admit it any more: it is forgotten.
    Unknown,
    /// There was one, which has shown both of its ends, and is over; what follows is another one.
    Over,
}

/// Takes the packet's flow, if there is one, one packet further.
#[inline(never)]
fn follow(case: &Case<impl Buffer>, flow: &mut Flow) -> Followed {
    let Some(table) = maps::find_flow(case.key, flow) else {
        return Followed::Unknown;
    };
    let over = if table == Table::Main { Followed::Over } else { Followed::Unknown };
    if flow.expires <= case.now {
        return over;
    }
    let packet = case.packet;
    let sides = Sides::of(flow, packet, case.direction);
    let is_answered = flow.flags & Flow::ANSWERED != 0 || !sides.is_from_opener;
    if packet.protocol == TCP {
        match tcp::step(flow.state, packet.kind, sides.is_from_opener) {
            tcp::Step::To(next) => flow.state = next as u8,
            tcp::Step::Stay => (),
            tcp::Step::Reopen => return over,
            tcp::Step::OutOfPlace => return Followed::OutOfPlace,
        }
    } else if flow.state == FlowState::Udp as u8 && is_answered && sides.is_from_opener {
        flow.state = FlowState::UdpStream as u8;
    }
    if !is_admitted_here(case, flow, packet, &sides) {
        maps::forget_flow(table, case.key);
        return Followed::Unknown;
    }
    if case.direction == Direction::Egress && case.has_own_mac() {
        flow.ends[sides.here & 1].flags |= FlowEnd::SOURCE_ALLOWED;
    }
    if is_answered {
        flow.flags |= Flow::ANSWERED;
    }
    flow.expires = case.now + timeout(flow);
    if table == Table::New && has_shown_both_ends(flow, &sides, case, is_answered) {
        maps::put_flow(Table::Main, case.key, flow);
        maps::forget_flow(Table::New, case.key);
    } else {
        maps::put_flow(table, case.key, flow);
    }
    Followed::Admitted
}

/// Whether a flow may leave the table that a flood would fill: whoever began it has heard the answer and goes on, so that
/// neither address is made up. One-way flows show it by their age.
#[inline(always)]
fn has_shown_both_ends(flow: &Flow, sides: &Sides, case: &Case<impl Buffer>, is_answered: bool) -> bool {
    let is_tcp = case.packet.protocol == TCP;
    // The states of a handshake come first.
    let is_past_handshake = flow.state > FlowState::SynReceived as u8;
    let is_old = !is_tcp && case.now > flow.created + ONE_WAY_AGE;
    sides.is_from_opener && (is_old || is_answered && (!is_tcp || is_past_handshake))
}

/// Judges a packet by the rules, and begins a flow if it is a first packet.
#[inline(never)]
fn judge_by_rules(case: &Case<impl Buffer>, flow: &mut Flow, followed: Followed) -> Admission {
    let packet = case.packet;
    let generation = maps::generation();
    let mut question = Question::about(packet, case.direction, case.remote(), true);
    let mut grant = policy::ask(case, &question);
    let mut is_from_opener = true;
    // A connection that was there before the filter: its answers may come first. One that is known has to fit.
    let may_be_answer = case.port.flags & Port::TAKE_UP != 0
        && matches!(packet.kind, Kind::Ack | Kind::Fin)
        && followed != Followed::OutOfPlace;
    if !grant.is_some() && may_be_answer {
        is_from_opener = false;
        question = Question::about(packet, case.direction.opposite(), case.remote(), false);
        grant = policy::ask(case, &question).if_stateful();
    }
    if !grant.is_some() {
        return Err(if followed == Followed::OutOfPlace { refusal_out_of_place(case) } else { refusal(case) });
    }
    let state = if is_from_opener { first_state(packet) } else { Some(FlowState::Established) };
    if let Some(state) = state
        && followed != Followed::OutOfPlace
        && grant.is_stateful()
    {
        let table = if followed == Followed::Over { Table::Main } else { Table::New };
        begin(case, flow, state, is_from_opener, stamp(case, grant, generation));
        maps::put_flow(table, case.key, flow);
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

/// Describes the flow that a packet begins, and that the port has admitted by `end`.
#[inline(always)]
fn begin(case: &Case<impl Buffer>, flow: &mut Flow, state: FlowState, is_from_opener: bool, end: FlowEnd) {
    let mut flags = if is_from_opener { 0 } else { Flow::ANSWERED };
    if is_from_opener != case.packet.is_from_first() {
        flags |= Flow::BEGUN_BY_SECOND;
    }
    flow.created = case.now;
    (flow.state, flow.flags, flow.pad) = (state as u8, flags, [0; 6]);
    flow.expires = case.now + timeout(flow);
    // The port's own end: the one that has sent the packet on its way out, the other on its way in.
    let is_opener_here = is_from_opener == (case.direction == Direction::Egress);
    flow.ends = [NOBODY; 2];
    flow.ends[usize::from(!is_opener_here)] = end;
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
fn is_current(end: &FlowEnd, case: &Case<impl Buffer>) -> bool {
    end.ifindex == case.ifindex
        && end.revision == case.port.revision
        && (end.generation == 0 || end.generation == maps::generation())
}

/// Whether the port admits the flow of `packet`: it has, or its rules do when they are asked again, as they were for the first
/// packet.
#[inline(always)]
pub fn is_admitted_here(case: &Case<impl Buffer>, flow: &mut Flow, packet: &Packet, sides: &Sides) -> bool {
    let end = &mut flow.ends[sides.here & 1];
    if is_current(end, case) {
        return true;
    }
    let begun = if sides.here == 0 { Direction::Egress } else { Direction::Ingress };
    let question = Question::about(packet, begun, case.remote(), sides.is_from_opener);
    let generation = maps::generation();
    let grant = policy::ask(case, &question);
    if grant.is_stateful() {
        *end = stamp(case, grant, generation);
    }
    grant.is_stateful()
}

/// The port's signature under a flow. The `generation` is that from before the rules were asked: a member may leave meanwhile.
#[inline(always)]
fn stamp(case: &Case<impl Buffer>, grant: Grant, generation: u32) -> FlowEnd {
    let is_checked = case.direction == Direction::Egress && case.has_own_mac();
    FlowEnd {
        ifindex: case.ifindex,
        policy: case.port.policy,
        revision: case.port.revision,
        generation: if grant.is_by_member() { generation } else { 0 },
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

/// Why a packet that does not fit its flow, and that no rule admits, is dropped.
#[inline(always)]
fn refusal_out_of_place(case: &Case<impl Buffer>) -> DropReason {
    if case.packet.kind == Kind::IcmpOther { refusal(case) } else { DropReason::InvalidState }
}

/// Why a packet that no rule admits is dropped.
#[inline(always)]
fn refusal(case: &Case<impl Buffer>) -> DropReason {
    match (case.packet.kind, case.direction) {
        (Kind::SynAck | Kind::Fin | Kind::Rst | Kind::EchoReply | Kind::IcmpError, _) => DropReason::InvalidState,
        (_, Direction::Egress) => DropReason::NoRuleEgress,
        (_, Direction::Ingress) => DropReason::NoRuleIngress,
    }
}
