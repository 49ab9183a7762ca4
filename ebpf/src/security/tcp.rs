//! The states of a TCP connection, seen from the middle: those of the kernel's `nf_conntrack`, without its sequence numbers.

use overlane_abi::FlowState;

use crate::security::kind::Kind;

/// What a segment does to its connection.
pub enum Step {
    /// The connection is in this state now.
    To(FlowState),
    /// It belongs to the connection, and changes nothing that could be relied on.
    Stay,
    /// It begins another connection between the same ports.
    Reopen,
    /// It does not belong here.
    OutOfPlace,
}

/// The next step of a connection in `state`, a [`FlowState`].
#[inline(always)]
pub fn step(state: u8, kind: Kind, is_from_opener: bool) -> Step {
    const SYN_SENT: u8 = FlowState::SynSent as u8;
    const SYN_SENT2: u8 = FlowState::SynSent2 as u8;
    const SYN_RECEIVED: u8 = FlowState::SynReceived as u8;
    const ESTABLISHED: u8 = FlowState::Established as u8;
    const FIN_WAIT: u8 = FlowState::FinWait as u8;
    const CLOSE_WAIT: u8 = FlowState::CloseWait as u8;
    const LAST_ACK: u8 = FlowState::LastAck as u8;
    const TIME_WAIT: u8 = FlowState::TimeWait as u8;
    const CLOSE: u8 = FlowState::Close as u8;
    match (kind, state) {
        (Kind::Rst, _) => Step::To(FlowState::Close),

        (Kind::Syn, TIME_WAIT | CLOSE) => Step::Reopen,
        (Kind::Syn, SYN_SENT) if !is_from_opener => Step::To(FlowState::SynSent2),
        (Kind::Syn, SYN_SENT | SYN_SENT2) => Step::Stay,
        // Sent again, or a connection that one side has forgotten; the other side's answer shows which.
        (Kind::Syn, _) if is_from_opener => Step::Stay,
        (Kind::Syn, _) => Step::OutOfPlace,

        (Kind::SynAck, SYN_SENT) if !is_from_opener => Step::To(FlowState::SynReceived),
        (Kind::SynAck, SYN_SENT2) => Step::To(FlowState::SynReceived),
        (Kind::SynAck, SYN_RECEIVED) => Step::Stay,
        (Kind::SynAck, _) if is_from_opener => Step::OutOfPlace,
        (Kind::SynAck, _) => Step::Stay,

        // What is acknowledged before there was an answer belongs to an older connection.
        (Kind::Ack | Kind::Fin, SYN_SENT) if is_from_opener => Step::OutOfPlace,
        (Kind::Fin, SYN_SENT | SYN_SENT2) => Step::OutOfPlace,
        (Kind::Ack, SYN_SENT | SYN_SENT2) => Step::Stay,

        (Kind::Fin, SYN_RECEIVED | ESTABLISHED) => Step::To(FlowState::FinWait),
        (Kind::Fin, FIN_WAIT | CLOSE_WAIT) => Step::To(FlowState::LastAck),

        (Kind::Ack, SYN_RECEIVED) if is_from_opener => Step::To(FlowState::Established),
        (Kind::Ack, FIN_WAIT) => Step::To(FlowState::CloseWait),
        (Kind::Ack, LAST_ACK) => Step::To(FlowState::TimeWait),

        (Kind::Ack | Kind::Fin, _) => Step::Stay,
        _ => Step::OutOfPlace,
    }
}
