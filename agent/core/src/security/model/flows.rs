//! What the reference remembers: flows and fragmented packets. It has no clock; how long the programs remember a flow is
//! configuration.

use std::{collections::BTreeMap, net::IpAddr};

use super::packet::{Ip, Segment};

/// An end of a flow: address and port.
pub(super) type End = (IpAddr, u16);

/// The flows and fragmented packets of one network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// By protocol and the two ends, the smaller one first.
    flows: BTreeMap<(u8, End, End), Flow>,
    /// Where the first fragment ended, by port, direction, protocol, addresses and identification.
    pub(super) fragments: BTreeMap<FragmentKey, u32>,
}

/// Which fragments belong together at a port.
pub(super) type FragmentKey = (usize, super::Direction, u8, IpAddr, IpAddr, u32);

/// A flow that was admitted at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    /// Who began it.
    pub(super) opener: End,
    /// How far a TCP connection has come.
    pub(super) state: State,
}

/// The states of a TCP connection, seen from the middle, as in the kernel's `nf_conntrack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not TCP.
    None,
    SynSent,
    SynSent2,
    SynReceived,
    Established,
    FinWait,
    CloseWait,
    LastAck,
    TimeWait,
    Close,
}

/// What a segment does to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It belongs to it.
    To(State),
    /// It begins another one.
    Reopen,
    /// It belongs to no connection in this state.
    OutOfPlace,
}

impl Memory {
    /// The flow of a packet with these ends.
    pub(super) fn flow(&self, protocol: u8, from: End, to: End) -> Option<Flow> {
        self.flows.get(&key(protocol, from, to)).copied()
    }

    pub(super) fn set(&mut self, protocol: u8, from: End, to: End, flow: Flow) {
        self.flows.insert(key(protocol, from, to), flow);
    }

    pub(super) fn forget(&mut self, protocol: u8, from: End, to: End) {
        self.flows.remove(&key(protocol, from, to));
    }
}

fn key(protocol: u8, from: End, to: End) -> (u8, End, End) {
    (protocol, from.min(to), from.max(to))
}

/// The ends of a packet: where it comes from, where it goes to.
pub(super) fn ends(ip: &Ip) -> (End, End) {
    let [source, destination] = ip.ports();
    ((ip.source, source), (ip.destination, destination))
}

impl State {
    /// The next step of a connection. Sequence numbers are not looked at.
    pub(super) fn step(self, segment: Segment, is_from_opener: bool) -> Step {
        if segment == Segment::Rst {
            return Step::To(Self::Close);
        }
        match self {
            Self::None => Step::To(Self::None),
            Self::SynSent => match (segment, is_from_opener) {
                (Segment::Syn, true) => Step::To(Self::SynSent),
                (Segment::Syn, false) => Step::To(Self::SynSent2),
                (Segment::SynAck, false) => Step::To(Self::SynReceived),
                // An answer to what was never asked: an older connection's, and the opener will say so.
                (Segment::Ack, false) => Step::To(Self::SynSent),
                _ => Step::OutOfPlace,
            },
            Self::SynSent2 => match segment {
                Segment::Syn | Segment::Ack => Step::To(Self::SynSent2),
                Segment::SynAck => Step::To(Self::SynReceived),
                _ => Step::OutOfPlace,
            },
            Self::SynReceived => match segment {
                Segment::Syn if !is_from_opener => Step::OutOfPlace,
                Segment::Ack if is_from_opener => Step::To(Self::Established),
                Segment::Fin => Step::To(Self::FinWait),
                _ => Step::To(Self::SynReceived),
            },
            Self::TimeWait | Self::Close if segment == Segment::Syn => Step::Reopen,
            open => open.step_when_open(segment, is_from_opener),
        }
    }

    /// From the end of the handshake on: only what opens a connection can be out of place.
    fn step_when_open(self, segment: Segment, is_from_opener: bool) -> Step {
        match (segment, is_from_opener) {
            (Segment::Syn, false) | (Segment::SynAck, true) => return Step::OutOfPlace,
            (Segment::Syn, true) | (Segment::SynAck, false) => return Step::To(self),
            _ => (),
        }
        Step::To(match (self, segment) {
            (Self::Established, Segment::Fin) => Self::FinWait,
            (Self::FinWait, Segment::Ack) => Self::CloseWait,
            (Self::FinWait | Self::CloseWait, Segment::Fin) => Self::LastAck,
            (Self::LastAck, Segment::Ack) => Self::TimeWait,
            (state, _) => state,
        })
    }
}
