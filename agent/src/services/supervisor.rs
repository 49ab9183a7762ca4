//! Whoever looks after the services is begun anew when it fails: ports are not to wait for DHCP servers, and neither is to be left
//! alone until somebody reads a log.

use std::{
    any::Any,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::waits::{LONGEST_WAIT, wait_after};

/// What the thread is called, in lists of threads.
const NAME: &str = "services";

/// Does `work` on a thread of its own until it succeeds: after a panic nobody knows which namespace a thread is in. `wait` is told why
/// it has failed and for how long to wait, and says whether to go on.
pub(super) fn supervise(work: impl Fn() -> anyhow::Result<()> + Sync, mut wait: impl FnMut(&str, Duration) -> bool) {
    let mut failures = 0;
    loop {
        let begun = Instant::now();
        let Err(error) = on_a_thread(&work) else { return };
        // What has worked for long fails for another reason.
        failures = if begun.elapsed() > LONGEST_WAIT { 1 } else { failures + 1 };
        if !wait(&format!("{error:#}"), wait_after(failures)) {
            return;
        }
    }
}

fn on_a_thread(work: &(impl Fn() -> anyhow::Result<()> + Sync)) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(NAME.to_owned()).spawn_scoped(scope, work);
        thread
            .context("starting a thread")?
            .join()
            .unwrap_or_else(|panic| Err(anyhow::anyhow!("{}", words_of(&*panic))))
    })
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.map_or_else(|| "a panic".to_owned(), |text| format!("a panic: {text}"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::services::waits::FIRST_WAIT;

    #[test]
    fn what_fails_or_panics_is_begun_anew_after_growing_waits_until_it_succeeds() {
        let attempts = AtomicU32::new(0);
        let work = || match attempts.fetch_add(1, Ordering::Relaxed) {
            0 => panic!("out of {}", "luck"),
            1 => anyhow::bail!("no descriptors left"),
            _ => Ok(()),
        };
        let mut said = Vec::new();
        supervise(work, |reason, wait| {
            said.push((reason.to_owned(), wait));
            true
        });
        let expected = [("a panic: out of luck", FIRST_WAIT), ("no descriptors left", FIRST_WAIT * 2)];
        assert_eq!(said, expected.map(|(reason, wait)| (reason.to_owned(), wait)));
    }

    #[test]
    fn who_is_told_to_stop_begins_nothing_anew() {
        let attempts = AtomicU32::new(0);
        let work = || {
            attempts.fetch_add(1, Ordering::Relaxed);
            anyhow::bail!("broken")
        };
        supervise(work, |_, _| false);
        assert_eq!(attempts.into_inner(), 1);
    }
}
