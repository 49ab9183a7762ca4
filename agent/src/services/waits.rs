//! What has failed and is tried again, at growing intervals.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// The first wait of what has failed, and the longest.
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(200);
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How long to wait after so many failures in a row, from 1.
pub(super) fn wait_after(failures: u32) -> Duration {
    (FIRST_WAIT * 2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST_WAIT)
}

/// What has failed, by what it is.
pub(super) struct Waits<K>(BTreeMap<K, Wait>);

struct Wait {
    in_a_row: u32,
    next_try: Instant,
    message: String,
}

impl<K: Ord> Waits<K> {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Whether it is too early to try this again.
    pub(super) fn holds_back(&self, key: &K, now: Instant) -> bool {
        self.0.get(key).is_some_and(|wait| wait.next_try > now)
    }

    /// Notes a failure, and why.
    pub(super) fn has_failed(&mut self, key: K, message: String, now: Instant) {
        let in_a_row = self.0.get(&key).map_or(0, |wait| wait.in_a_row) + 1;
        self.0.insert(key, Wait { in_a_row, next_try: now + wait_after(in_a_row), message });
    }

    /// Notes that somebody else says when to try this, and why not yet.
    pub(super) fn must_wait(&mut self, key: K, message: String, next_try: Instant) {
        self.0.insert(key, Wait { in_a_row: 0, next_try, message });
    }

    /// Forgets what has succeeded.
    pub(super) fn has_succeeded(&mut self, key: &K) {
        self.0.remove(key);
    }

    /// Forgets all but what is still to be done.
    pub(super) fn retain(&mut self, is_to_be_done: impl Fn(&K) -> bool) {
        self.0.retain(|key, _| is_to_be_done(key));
    }

    /// Has everything tried again at once, as if it had never failed.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        for wait in self.0.values_mut() {
            (wait.in_a_row, wait.next_try) = (0, now);
        }
    }

    /// Why things have failed.
    pub(super) fn messages(&self) -> impl Iterator<Item = &String> {
        self.0.values().map(|wait| &wait.message)
    }

    /// When the first of them is tried again.
    pub(super) fn next_try(&self) -> Option<Instant> {
        self.0.values().map(|wait| wait.next_try).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_waits_longer_each_time_and_nothing_else_with_it() {
        let (mut waits, now) = (Waits::new(), Instant::now());
        let mut lasted = Vec::new();
        for _ in 0..12 {
            waits.has_failed("one", "broken".to_owned(), now);
            lasted.push(waits.next_try().expect("it has failed") - now);
        }
        assert_eq!(lasted[..3], [FIRST_WAIT, FIRST_WAIT * 2, FIRST_WAIT * 4]);
        assert_eq!(lasted[11], LONGEST_WAIT);
        assert!(waits.holds_back(&"one", now) && !waits.holds_back(&"one", now + LONGEST_WAIT));
        assert!(!waits.holds_back(&"other", now));
    }

    #[test]
    fn what_begins_anew_is_due_at_once_and_waits_as_if_it_had_never_failed() {
        let (mut waits, now) = (Waits::new(), Instant::now());
        (0..9).for_each(|_| waits.has_failed("one", "broken".to_owned(), now));
        waits.begin_anew(now);
        assert!(!waits.holds_back(&"one", now));
        assert_eq!(waits.messages().collect::<Vec<_>>(), ["broken"], "it is not mended yet");
        waits.has_failed("one", "broken".to_owned(), now);
        assert_eq!(waits.next_try(), Some(now + FIRST_WAIT));
    }
}
