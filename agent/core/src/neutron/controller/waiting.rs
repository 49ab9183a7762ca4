//! Things that the server fails on: each waits by itself, longer each time, so that one which cannot be read or told holds back no
//! other.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::due::Attempt;

/// Things that were asked or told in vain, and why.
#[derive(Clone, Debug)]
pub(super) struct Waiting<K>(BTreeMap<K, (Attempt, String)>);

impl<K> Default for Waiting<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Waiting<K> {
    /// The thing has to be tried again, later each time.
    pub(super) fn failed(&mut self, thing: K, reason: &str, now: Instant) {
        let former = self.0.get(&thing).map(|(attempt, _)| attempt);
        let attempt = Attempt::after(former, now);
        self.0.insert(thing, (attempt, reason.to_owned()));
    }

    /// The server has answered, or nobody wants to know any more.
    pub(super) fn forget(&mut self, thing: &K) {
        self.0.remove(thing);
    }

    /// Why the thing waits, if it does.
    pub(super) fn reason(&self, thing: &K) -> Option<&str> {
        self.0.get(thing).map(|(_, reason)| reason.as_str())
    }

    /// Those that may be tried now: first the ones that have not failed, or are due longest, so that one which fails whenever it is
    /// tried does not take the turn of all others.
    pub(super) fn ready<T: Copy>(&self, due: impl Iterator<Item = T>, thing: impl Fn(T) -> K, now: Instant) -> Vec<T> {
        let turn = |item: &T| self.0.get(&thing(*item)).map(|(attempt, _)| attempt.next);
        let mut ready: Vec<T> = due.filter(|item| turn(item).is_none_or(|turn| turn <= now)).collect();
        ready.sort_by_key(turn);
        ready
    }

    /// When something may be tried that may not be now.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        self.0.values().map(|(attempt, _)| attempt.next).filter(|next| *next > now).min()
    }
}

/// Takes from what is due as much as fits into a question.
pub(super) fn take<T: Copy + Ord>(due: &mut BTreeSet<T>, mut ready: Vec<T>, at_most: usize) -> Vec<T> {
    ready.truncate(at_most);
    for item in &ready {
        due.remove(item);
    }
    ready
}
