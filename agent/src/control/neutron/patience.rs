//! How long an answer is waited for. A server that needs longer is not asked the same again and again, each time in vain: after an
//! answer that did not come in time, the next one to a question of that kind is waited for twice as long.

use std::{
    collections::HashMap,
    mem::{Discriminant, discriminant},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use overlane_core::neutron::controller::Question;

/// How long answers are waited for, by the kind of question. Clones share it.
#[derive(Clone)]
pub(super) struct Patience {
    first: Duration,
    most: Duration,
    longer: Arc<Mutex<HashMap<Discriminant<Question>, Duration>>>,
}

/// How long the answer to one question is waited for.
#[derive(Clone)]
pub(super) struct Limit {
    patience: Patience,
    kind: Discriminant<Question>,
    time: Duration,
}

impl Patience {
    /// From `first` on (`rpc_response_timeout`), up to `most` (`rpc_response_max_timeout`).
    pub(super) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, longer: Arc::default() }
    }

    /// For one question, now.
    pub(super) fn of(&self, question: &Question) -> Limit {
        let kind = discriminant(question);
        let time = self.with(|longer| longer.get(&kind).copied()).unwrap_or(self.first);
        Limit { patience: self.clone(), kind, time }
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut HashMap<Discriminant<Question>, Duration>) -> T) -> T {
        use_it(&mut self.longer.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Limit {
    /// How long.
    pub(super) const fn time(&self) -> Duration {
        self.time
    }

    /// There was no answer in time.
    pub(super) fn was_too_short(&self) {
        let next = self.time.saturating_mul(2).min(self.patience.most);
        self.patience.with(|longer| longer.insert(self.kind, next));
    }

    /// There was one, whatever it says.
    pub(super) fn was_enough(&self) {
        self.patience.with(|longer| longer.remove(&self.kind));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(60);

    fn times(patience: &Patience, count: usize) -> Vec<u64> {
        let late = |_| {
            let limit = patience.of(&Question::List);
            limit.was_too_short();
            limit.time().as_secs()
        };
        (0..count).map(late).collect()
    }

    #[test]
    fn an_answer_that_does_not_come_is_waited_for_twice_as_long_the_next_time_up_to_a_limit() {
        let patience = Patience::new(FIRST, Duration::from_secs(600));
        assert_eq!(times(&patience, 6), [60, 120, 240, 480, 600, 600]);
        patience.of(&Question::List).was_enough();
        assert_eq!(patience.of(&Question::List).time(), FIRST);
    }

    #[test]
    fn answers_to_other_questions_are_waited_for_as_before_and_change_nothing() {
        let patience = Patience::new(FIRST, Duration::from_secs(600));
        times(&patience, 1);
        let other = patience.of(&Question::Details(Vec::new()));
        assert_eq!(other.time(), FIRST);
        other.was_enough();
        assert_eq!(patience.of(&Question::List).time(), FIRST * 2);
    }

    #[test]
    fn where_the_limit_is_the_first_wait_all_are_of_the_same_length() {
        assert_eq!(times(&Patience::new(FIRST, FIRST), 3), [60, 60, 60]);
    }
}
