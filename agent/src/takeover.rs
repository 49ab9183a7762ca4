//! Removes what the Linux bridge agent has left in iptables, ip6tables, ebtables, ipset and tc, once its ports are filtered by eBPF.
//! The only user of these programs; where one is not installed, there is nothing of it.

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use overlane_core::leftovers;

/// How long what could not be removed is left alone.
const RETRY: Duration = Duration::from_secs(60);

/// How long iptables waits for somebody else who changes rules, in seconds. The agent does nothing else meanwhile.
const LOCK_WAIT: &str = "5";

/// One kind of what the Linux bridge agent has left on this host.
pub(crate) struct Leftover {
    what: &'static str,
    /// Taps that it is not needed for any more; `None` once it has been removed.
    taps: Option<BTreeSet<String>>,
    /// When to try again, and why it has failed.
    failed: Option<(Instant, String)>,
}

impl Leftover {
    pub(crate) const fn of(what: &'static str) -> Self {
        Self { what, taps: Some(BTreeSet::new()), failed: None }
    }

    /// Takes in what it is not needed for any more.
    pub(crate) fn note(&mut self, taps: impl FnOnce() -> BTreeSet<String>) {
        if let Some(known) = &mut self.taps {
            *known = taps();
        }
    }

    /// Removes it, once only: the old agent has ended. What is still there filters and limits what the kernel lane carries.
    pub(crate) fn remove(&mut self, now: Instant, remove: impl FnOnce(&BTreeSet<String>) -> anyhow::Result<usize>) {
        let Some(taps) = self.taps.as_ref().filter(|taps| !taps.is_empty()) else { return };
        if self.failed.as_ref().is_some_and(|(next, _)| now < *next) {
            return;
        }
        let what = self.what;
        match remove(taps) {
            Ok(removed) => {
                self.taps = None;
                if removed > 0 {
                    tracing::info!("the Linux bridge agent's {what} for our ports are removed");
                }
            }
            Err(error) => {
                let error = format!("{error:#}");
                let (_, before) = self.failed.replace((now + RETRY, error.clone())).unzip();
                if before.as_ref() != Some(&error) {
                    tracing::warn!(
                        error,
                        "the Linux bridge agent's {what} for our ports are left, and still hold for what the kernel lane carries; \
                         trying again every minute"
                    );
                }
            }
        }
    }
}

/// Removes what is left for these taps, and nothing else; returns how many kinds of rules there were.
///
/// # Errors
/// When a program refuses; what it was to remove is still there then.
pub(crate) fn remove_leftovers(taps: &BTreeSet<String>) -> anyhow::Result<usize> {
    let mut removed = remove_rules(taps, leftovers::iptables_script)?;
    if let Some(rules) = output("ebtables-save", &[])? {
        let commands = leftovers::ebtables_commands(&rules, taps);
        for words in &commands {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            run("ebtables", &words, "")?;
        }
        removed += usize::from(!commands.is_empty());
    }
    // What rules no longer refer to.
    if removed > 0
        && let Some(sets) = output("ipset", &["list", "-terse"])?
    {
        for set in leftovers::unused_sets(&sets) {
            run("ipset", &["destroy", set], "")?;
        }
    }
    Ok(removed)
}

/// Removes what limits and marks packets that these taps' machines send; returns how many kinds of it there were.
///
/// # Errors
/// As for [`remove_leftovers`].
pub(crate) fn remove_policies(taps: &BTreeSet<String>) -> anyhow::Result<usize> {
    Ok(remove_rules(taps, leftovers::marks_script)? + remove_limits(taps)?)
}

fn remove_rules(
    taps: &BTreeSet<String>,
    script: fn(&str, &BTreeSet<String>) -> Option<String>,
) -> anyhow::Result<usize> {
    let mut removed = 0;
    for (save, restore) in [("iptables-save", "iptables-restore"), ("ip6tables-save", "ip6tables-restore")] {
        let Some(rules) = output(save, &[])? else { continue };
        if let Some(script) = script(&rules, taps) {
            run(restore, &["--noflush", "--wait", LOCK_WAIT], &script)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Removes limits of what machines send, which would hold what goes to the bridge down a second time; returns how many.
fn remove_limits(taps: &BTreeSet<String>) -> anyhow::Result<usize> {
    let Some(qdiscs) = output("tc", &["qdisc", "show"])? else { return Ok(0) };
    let mut removed = 0;
    for tap in leftovers::taps_with_ingress(&qdiscs, taps) {
        let filters = output("tc", &["filter", "show", "dev", tap, "parent", "ffff:"])?.unwrap_or_default();
        if leftovers::are_limit(&filters) {
            run("tc", &["qdisc", "del", "dev", tap, "ingress"], "")?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// What a program prints; `None` where it is not installed.
fn output(program: &str, words: &[&str]) -> anyhow::Result<Option<String>> {
    let output = match Command::new(program).args(words).stdin(Stdio::null()).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        output => output.with_context(|| format!("running {program}"))?,
    };
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn run(program: &str, words: &[&str], input: &str) -> anyhow::Result<()> {
    let doing = || format!("running {program} {}", words.join(" "));
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(doing)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that has ended already says below why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(doing)?;
    ensure!(output.status.success(), "{}: {}", doing(), String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_removed_is_tried_again_and_what_was_removed_is_not() {
        let mut leftover = Leftover::of("rules");
        let start = Instant::now();
        let mut tries = Vec::new();
        let mut attempt = |leftover: &mut Leftover, seconds: u64, is_possible: bool| {
            leftover.note(|| [format!("tap of {seconds}")].into());
            leftover.remove(start + Duration::from_secs(seconds), |taps| {
                tries.push((seconds, taps.clone()));
                ensure!(is_possible, "somebody holds the lock");
                Ok(1)
            });
        };
        for (seconds, is_possible) in [(0, false), (1, true), (60, false), (119, true), (120, true), (500, true)] {
            attempt(&mut leftover, seconds, is_possible);
        }
        let of = |seconds: u64| (seconds, BTreeSet::from([format!("tap of {seconds}")]));
        assert_eq!(tries, [of(0), of(60), of(120)]);
    }

    #[test]
    fn nothing_is_removed_before_a_tap_is_ours() {
        Leftover::of("rules").remove(Instant::now(), |_| panic!("there is no tap"));
    }
}
