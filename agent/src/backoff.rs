//! Actions that failed are tried again, at growing intervals: one that always fails must not keep the agent busy, and one
//! that is over soon must not wait long.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use overlane_core::action::Action;

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// What has failed, and when it is tried again.
#[derive(Default)]
pub(crate) struct Backoff {
    // By everything that the action says, interface indices included: a device that is made anew starts anew.
    failures: HashMap<String, Failure>,
}

struct Failure {
    action: Action,
    pause: Duration,
    next_try: Instant,
    error: String,
}

impl Backoff {
    /// The error of an action that must wait; `None` when it is due.
    pub(crate) fn waits(&self, action: &Action, now: Instant) -> Option<&str> {
        let failure = self.failures.get(&key(action))?;
        (now < failure.next_try).then_some(failure.error.as_str())
    }

    /// Notes a failure.
    pub(crate) fn failed(&mut self, action: &Action, error: String, now: Instant) {
        let previous = self.failures.get(&key(action));
        let pause = previous.map_or(SHORTEST, |failure| (failure.pause * 2).min(LONGEST));
        self.failures.insert(key(action), Failure { action: action.clone(), pause, next_try: now + pause, error });
    }

    /// Forgets failures of actions that are not among `planned` any more.
    pub(crate) fn retain(&mut self, planned: &[Action]) {
        if !self.failures.is_empty() {
            let planned: Vec<String> = planned.iter().map(key).collect();
            self.failures.retain(|action, _| planned.contains(action));
        }
    }

    /// What has failed, and why.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&Action, &str)> {
        self.failures.values().map(|failure| (&failure.action, failure.error.as_str()))
    }

    /// When the next action is due.
    pub(crate) fn next_try(&self) -> Option<Instant> {
        self.failures.values().map(|failure| failure.next_try).min()
    }
}

fn key(action: &Action) -> String {
    format!("{action:?}")
}

#[cfg(test)]
mod tests {
    use overlane_core::action::KernelAction;

    use super::*;

    fn set_up(ifindex: u32) -> Action {
        KernelAction::SetUp { ifindex, name: "tap".to_owned() }.into()
    }

    #[test]
    fn an_action_waits_longer_every_time_it_fails() {
        let (mut backoff, begin) = (Backoff::default(), Instant::now());
        assert_eq!(backoff.waits(&set_up(1), begin), None);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            backoff.failed(&set_up(1), "busy".to_owned(), begin);
            pauses.push(backoff.next_try().expect("it has failed") - begin);
        }
        assert_eq!(pauses[..3], [SHORTEST, SHORTEST * 2, SHORTEST * 4]);
        assert_eq!(pauses[11], LONGEST);
        assert_eq!(backoff.waits(&set_up(1), begin), Some("busy"));
        assert_eq!(backoff.waits(&set_up(1), begin + LONGEST), None);
    }

    #[test]
    fn the_same_action_on_a_new_interface_is_due_at_once() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        backoff.failed(&set_up(1), "busy".to_owned(), now);
        assert_eq!(backoff.waits(&set_up(2), now), None);
    }

    #[test]
    fn what_is_no_longer_planned_is_forgotten() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        backoff.failed(&set_up(1), "busy".to_owned(), now);
        backoff.retain(&[set_up(2)]);
        assert_eq!(backoff.next_try(), None);
    }
}
