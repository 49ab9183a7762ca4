//! Objects that the server fails on: each waits by itself, longer each time, so that one which cannot be read holds back no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use uuid::Uuid;

use super::due::{Attempt, Kind};

/// Objects that were asked for in vain, and why.
#[derive(Clone, Debug, Default)]
pub(super) struct Unread(BTreeMap<(Kind, Uuid), (Attempt, String)>);

impl Unread {
    /// An object has to be asked for again, later each time.
    pub(super) fn failed(&mut self, kind: Kind, id: Uuid, reason: &str, now: Instant) {
        let former = self.0.get(&(kind, id)).map(|(attempt, _)| attempt);
        let attempt = Attempt::after(former, now);
        self.0.insert((kind, id), (attempt, reason.to_owned()));
    }

    /// The server has answered about an object, or nobody wants to know any more.
    pub(super) fn forget(&mut self, kind: Kind, id: Uuid) {
        self.0.remove(&(kind, id));
    }

    /// Why the server does not answer about an object, if it does not.
    pub(super) fn reason(&self, kind: Kind, id: Uuid) -> Option<&str> {
        self.0.get(&(kind, id)).map(|(_, reason)| reason.as_str())
    }

    /// Those that may be asked for now: first the ones that have not failed, or longest ago.
    pub(super) fn ready<T: Copy>(
        &self,
        kind: Kind,
        due: impl Iterator<Item = T>,
        id: fn(T) -> Uuid,
        now: Instant,
    ) -> Vec<T> {
        let turn = |object: &T| self.0.get(&(kind, id(*object))).map(|(attempt, _)| attempt.next);
        let mut ready: Vec<T> = due.filter(|object| turn(object).is_none_or(|turn| turn <= now)).collect();
        ready.sort_by_key(turn);
        ready
    }

    /// Takes as many of those as fit into a question.
    pub(super) fn take<T: Copy + Ord>(
        &self,
        kind: Kind,
        due: &mut BTreeSet<T>,
        id: fn(T) -> Uuid,
        at_most: usize,
        now: Instant,
    ) -> Vec<T> {
        let mut taken = self.ready(kind, due.iter().copied(), id, now);
        taken.truncate(at_most);
        for object in &taken {
            due.remove(object);
        }
        taken
    }

    /// When an object may be asked for that may not be now.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        self.0.values().map(|(attempt, _)| attempt.next).filter(|next| *next > now).min()
    }
}
