//! Waiting for conditions.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// Long enough for a busy machine; nobody waits this long for something that works.
pub const PATIENCE: Duration = Duration::from_secs(20);

const INTERVAL: Duration = Duration::from_millis(5);

/// Tries until `condition` holds.
///
/// # Errors
/// When it does not hold in time, with its last error if it had one.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_for(what, || Ok(condition()?.then_some(())))
}

/// Lets time pass, for benches that measure what nothing costs.
pub fn let_time_pass(duration: Duration) {
    thread::sleep(duration);
}

/// Tries until `attempt` has a value.
///
/// # Errors
/// When it has none in time, with its last error if it had one.
pub fn wait_for<T>(what: &str, attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    wait_at_most(PATIENCE, what, attempt)
}

/// As `wait_for`, with a patience of one's own.
///
/// # Errors
/// As for `wait_for`.
pub fn wait_at_most<T>(limit: Duration, what: &str, attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    wait_with_pauses(INTERVAL, limit, what, attempt)
}

/// As `wait_at_most`, with longer pauses: where looking costs so much that it disturbs what is looked at.
///
/// # Errors
/// As for `wait_for`.
pub fn wait_with_pauses<T>(
    pause: Duration,
    limit: Duration,
    what: &str,
    mut attempt: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let outcome = attempt();
        match outcome {
            Ok(Some(value)) => return Ok(value),
            Ok(None) if Instant::now() >= deadline => bail!("{what}: not within {limit:?}"),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("{what}: not within {limit:?}"));
            }
            // The one pause of tests: between two looks at a condition.
            Ok(None) | Err(_) => thread::sleep(pause),
        }
    }
}
