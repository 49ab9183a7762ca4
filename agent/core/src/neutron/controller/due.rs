//! What is still to be asked and told, and when it may be.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use uuid::Uuid;

use super::{FIRST_RETRY, LAST_RETRY, waiting::Waiting};
use crate::model::{NetworkId, PortId};

/// What is still to be asked and told. What is being asked is in [`Due::asked`] instead, one question of a kind at a time: what
/// comes up meanwhile goes into the next one.
#[derive(Clone, Debug, Default)]
pub(super) struct Due {
    /// Which ports this host has.
    pub(super) list: bool,
    /// Taps about which nothing is known yet, by name.
    pub(super) details: BTreeSet<String>,
    /// Ports that are known, and may be different now.
    pub(super) ports: BTreeSet<PortId>,
    /// Networks likewise.
    pub(super) networks: BTreeSet<NetworkId>,
    /// Taps whose groups have to be asked for, by name.
    pub(super) security: BTreeSet<String>,
    /// QoS policies of ports.
    pub(super) policies: BTreeSet<Uuid>,
    /// Networks whose members have to be asked for.
    pub(super) lists: BTreeSet<NetworkId>,
    /// Ports that have to be told to be up once they are in place.
    pub(super) ups: BTreeSet<PortId>,
    /// Ports that have to be told to be down.
    pub(super) downs: BTreeSet<PortId>,
    /// Kinds of questions that are being asked.
    pub(super) asked: BTreeSet<Kind>,
}

/// Kinds of questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    List,
    Details,
    Ports,
    Networks,
    Security,
    Policy,
    Status,
    Trunks,
    SubPorts,
    TrunkStatus,
}

impl Due {
    pub(super) fn forget_tap(&mut self, tap: &str) {
        self.details.remove(tap);
        self.security.remove(tap);
    }

    /// Whether every question about what this host should have has been answered.
    pub(super) fn is_answered(&self) -> bool {
        let asked = [Kind::List, Kind::Details, Kind::Ports, Kind::Networks, Kind::Security, Kind::Trunks];
        let is_asked = asked.iter().any(|kind| self.asked.contains(kind));
        let is_due = self.list
            || !self.ports.is_empty()
            || !self.networks.is_empty()
            || !self.details.is_empty()
            || !self.security.is_empty();
        !is_asked && !is_due
    }
}

/// When what has failed may be asked again.
#[derive(Clone, Debug, Default)]
pub(super) struct Retry {
    kinds: BTreeMap<Kind, Attempt>,
    taps: BTreeMap<String, Attempt>,
    /// Objects, by what is asked of them.
    pub(super) objects: Waiting<(Kind, Uuid)>,
}

/// Something that has failed, and when it may be tried again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    failures: u32,
    pub(super) next: Instant,
    /// Whether nothing has been made of it yet that the time has come.
    waits: bool,
    /// How many things a question may be about; `None` as many as usual.
    size: Option<usize>,
}

impl Attempt {
    /// Later each time.
    pub(super) fn after(previous: Option<&Self>, now: Instant) -> Self {
        let failures = previous.map_or(0, |attempt| attempt.failures);
        let delay = FIRST_RETRY.saturating_mul(1 << failures.min(10)).min(LAST_RETRY);
        let size = previous.and_then(|attempt| attempt.size);
        Self { failures: failures + 1, next: now + delay, waits: true, size }
    }
}

impl Retry {
    /// A question about `size` things has failed: half of it may well be answered.
    pub(super) fn question_failed(&mut self, kind: Kind, size: usize, now: Instant) {
        let attempt = Attempt::after(self.kinds.get(&kind), now);
        let next = if size > 1 { now } else { attempt.next };
        self.kinds.insert(kind, Attempt { size: Some((size / 2).max(1)), next, ..attempt });
    }

    /// A question has been answered: the next one may be about twice as many things.
    pub(super) fn question_answered(&mut self, kind: Kind, usual: usize) {
        if let Some(attempt) = self.kinds.remove(&kind)
            && let Some(size) = attempt.size.map(|size| size * 2).filter(|size| *size < usual)
        {
            self.kinds.insert(kind, Attempt { failures: 0, size: Some(size), ..attempt });
        }
    }

    /// How many things a question may be about now; `None` if it has to wait.
    pub(super) fn size(&self, kind: Kind, usual: usize, now: Instant) -> Option<usize> {
        match self.kinds.get(&kind) {
            None => Some(usual),
            Some(attempt) if attempt.next <= now => Some(attempt.size.unwrap_or(usual).min(usual)),
            Some(_) => None,
        }
    }

    /// A tap has to be asked about again, later each time.
    pub(super) fn tap_failed(&mut self, tap: &str, now: Instant) {
        let attempt = Attempt::after(self.taps.get(tap), now);
        self.taps.insert(tap.to_owned(), attempt);
    }

    /// Whether nothing speaks against asking about a tap now.
    pub(super) fn may_ask(&self, tap: &str, now: Instant) -> bool {
        self.taps.get(tap).is_none_or(|attempt| attempt.next <= now)
    }

    /// Something has happened to a tap, or it is known now: no waiting.
    pub(super) fn tap_is_fresh(&mut self, tap: &str) {
        self.taps.remove(tap);
    }

    /// Taps that may be asked about again by now; each is returned once.
    pub(super) fn over(&mut self, now: Instant) -> Vec<String> {
        let over = self.taps.iter_mut().filter(|(_, attempt)| attempt.waits && attempt.next <= now);
        over.map(|(tap, attempt)| {
            attempt.waits = false;
            tap.clone()
        })
        .collect()
    }

    /// When something may be asked again that may not be now.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let taps = self.taps.values().filter(|attempt| attempt.waits);
        let attempts = self.kinds.values().chain(taps).map(|attempt| attempt.next);
        attempts.filter(|next| *next > now).chain(self.objects.next(now)).min()
    }
}
