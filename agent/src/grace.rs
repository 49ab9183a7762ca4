//! Grace periods: since when something has been so, and for which interfaces that has been long enough. The plan has no
//! clock; who calls it has.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// A grace period, for as many interfaces as need one.
pub(crate) struct Grace {
    period: Duration,
    since: BTreeMap<u32, Since>,
}

/// When an interface's grace period has begun, and whether it is known to be over.
struct Since {
    begin: Instant,
    is_over: bool,
}

impl Grace {
    /// A grace period of this length.
    pub(crate) fn of(period: Duration) -> Self {
        Self { period, since: BTreeMap::new() }
    }

    /// Takes note of the interfaces that are in the state in question, by index, and returns those whose grace is over.
    pub(crate) fn over(&mut self, now: Instant, interfaces: &BTreeSet<u32>) -> BTreeSet<u32> {
        self.since.retain(|ifindex, _| interfaces.contains(ifindex));
        for ifindex in interfaces {
            self.since.entry(*ifindex).or_insert(Since { begin: now, is_over: false });
        }
        for since in self.since.values_mut() {
            since.is_over = now.duration_since(since.begin) >= self.period;
        }
        self.since.iter().filter(|(_, since)| since.is_over).map(|(ifindex, _)| *ifindex).collect()
    }

    /// When the next one will be over.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        self.since.values().filter(|since| !since.is_over).map(|since| since.begin + self.period).min()
    }

    /// Whether one has ended, and nobody has been told.
    pub(crate) fn has_ended(&self, now: Instant) -> bool {
        self.next_end().is_some_and(|end| end <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(2);

    #[test]
    fn grace_is_over_after_its_period_and_begins_anew_for_what_has_been_away() {
        let (mut grace, begin) = (Grace::of(PERIOD), Instant::now());
        assert_eq!(grace.over(begin, &[1].into()), [].into());
        assert_eq!(grace.over(begin + PERIOD / 2, &[1, 2].into()), [].into());
        assert_eq!(grace.next_end(), Some(begin + PERIOD));
        assert!(grace.has_ended(begin + PERIOD) && !grace.has_ended(begin + PERIOD / 2));
        assert_eq!(grace.over(begin + PERIOD, &[1, 2].into()), [1].into());
        // What is known to be over needs no waking any more.
        assert_eq!(grace.next_end(), Some(begin + PERIOD / 2 + PERIOD));
        assert!(!grace.has_ended(begin + PERIOD));
        assert_eq!(grace.over(begin + PERIOD, &[2].into()), [].into());
        assert_eq!(grace.over(begin + PERIOD, &[1, 2].into()), [].into());
    }
}
