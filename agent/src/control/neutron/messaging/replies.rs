//! Calls that wait for their answers.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use overlane_core::neutron::{envelope::Reply, failure::Failure};
use serde_json::Value;
use tokio::sync::oneshot;

/// How many messages are remembered to tell repetitions.
const REMEMBERED: usize = 64;

/// Calls that are under way on one connection.
#[derive(Default)]
pub(super) struct Replies {
    waiting: Mutex<HashMap<String, Waiting>>,
    seen: Mutex<Seen>,
}

struct Waiting {
    result: Value,
    answer: oneshot::Sender<Result<Value, Failure>>,
}

/// The answer to a call, which is not waited for any more when this is dropped.
pub(super) struct Expected<'a> {
    replies: &'a Replies,
    message_id: &'a str,
    answer: oneshot::Receiver<Result<Value, Failure>>,
}

impl Replies {
    /// Waits for the answer to a call from now on.
    pub(super) fn expect<'a>(&'a self, message_id: &'a str) -> Expected<'a> {
        let (sender, answer) = oneshot::channel();
        let waiting = Waiting { result: Value::Null, answer: sender };
        lock(&self.waiting).insert(message_id.to_owned(), waiting);
        Expected { replies: self, message_id, answer }
    }

    /// Takes in an answer or a part of one. Returns whether anybody waits for it.
    pub(super) fn resolve(&self, reply: Reply) -> bool {
        let Reply { message_id, outcome, is_last, unique_id } = reply;
        if lock(&self.seen).is_repetition(unique_id) {
            return true;
        }
        let mut waiting = lock(&self.waiting);
        let Some(call) = waiting.get_mut(&message_id) else { return false };
        let outcome = match outcome {
            // Old servers send the result first and the end later, and both may be without one.
            Ok(Value::Null) => Ok(call.result.take()),
            other => other,
        };
        match outcome {
            Ok(result) if !is_last => call.result = result,
            outcome => {
                if let Some(call) = waiting.remove(&message_id) {
                    // Whoever called may have given up in this moment.
                    let _ = call.answer.send(outcome);
                }
            }
        }
        true
    }
}

impl Expected<'_> {
    /// The answer. Whoever waits for it looks out for the end of the connection as well.
    pub(super) async fn answer(&mut self) -> Result<Value, Failure> {
        match (&mut self.answer).await {
            Ok(outcome) => outcome,
            // The other half is with `replies`, which outlives this.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        lock(&self.replies.waiting).remove(self.message_id);
    }
}

/// The last messages, to tell repetitions: a broker delivers again what it is not sure of.
#[derive(Default)]
pub(super) struct Seen(VecDeque<String>);

impl Seen {
    /// Whether a message was here before. One that does not say who it is was not.
    pub(super) fn is_repetition(&mut self, unique_id: Option<String>) -> bool {
        let Some(unique_id) = unique_id else { return false };
        if self.0.contains(&unique_id) {
            return true;
        }
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(unique_id);
        false
    }
}

/// A panic elsewhere leaves what is locked as good as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reply(unique_id: &str, result: Value, is_last: bool) -> Reply {
        let unique_id = Some(unique_id.to_owned());
        Reply { message_id: "call".to_owned(), outcome: Ok(result), is_last, unique_id }
    }

    #[tokio::test]
    async fn an_answer_in_parts_is_the_last_result_that_came() {
        let replies = Replies::default();
        let mut expected = replies.expect("call");
        assert!(replies.resolve(reply("1", Value::Null, false)), "a sign of life");
        assert!(replies.resolve(reply("2", json!(7), false)));
        assert!(replies.resolve(reply("3", Value::Null, true)));
        assert_eq!(expected.answer().await, Ok(json!(7)));
    }

    #[tokio::test]
    async fn a_failure_ends_a_call_at_once() {
        let replies = Replies::default();
        let mut expected = replies.expect("call");
        let failure = Failure { class: "NoSuchMethod".to_owned(), module: String::new(), message: String::new() };
        replies.resolve(Reply { outcome: Err(failure.clone()), ..reply("1", Value::Null, false) });
        assert_eq!(expected.answer().await, Err(failure));
    }

    #[tokio::test]
    async fn an_answer_that_nobody_waits_for_any_more_is_told_apart() {
        let replies = Replies::default();
        drop(replies.expect("call"));
        assert!(!replies.resolve(reply("1", json!(1), true)));
    }

    #[test]
    fn a_message_that_was_here_a_moment_ago_is_a_repetition() {
        let mut seen = Seen::default();
        assert!(!seen.is_repetition(Some("a".to_owned())));
        assert!(seen.is_repetition(Some("a".to_owned())));
        assert!(!seen.is_repetition(None) && !seen.is_repetition(None));
        for number in 0..REMEMBERED {
            assert!(!seen.is_repetition(Some(number.to_string())));
        }
        assert!(!seen.is_repetition(Some("a".to_owned())), "too long ago to matter");
    }
}
