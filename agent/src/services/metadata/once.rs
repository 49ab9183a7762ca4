//! Saying things once: what machines cause must not fill the log.

use std::{
    collections::HashSet,
    hash::Hash,
    sync::{Mutex, PoisonError},
};

/// More than this is not remembered, and not said.
const KNOWN_MAX: usize = 1024;

/// What was said already.
pub(super) struct Once<T> {
    known: Mutex<HashSet<T>>,
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self { known: Mutex::default() }
    }
}

impl<T: Eq + Hash> Once<T> {
    /// Whether this is to be said now.
    pub(super) fn is_new(&self, thing: T) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.len() < KNOWN_MAX && known.insert(thing)
    }

    /// Everything is to be said anew: what it was about is over.
    pub(super) fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_said_once_and_no_more_than_so_many_things() {
        let once = Once::default();
        assert_eq!([once.is_new(1), once.is_new(1), once.is_new(2)], [true, false, true]);
        assert_eq!((0..100_000).filter(|number| once.is_new(*number)).count(), KNOWN_MAX - 2);
        once.forget();
        assert!(once.is_new(1));
    }
}
