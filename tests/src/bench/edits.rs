//! How long an agent takes to apply an edit of its topology.

use std::time::Instant;

use anyhow::{Context as _, Result};
use overlane_tests::{
    lab::{Agent, Pair},
    wait::wait_for,
};

/// Writes the topology, and returns how long the left agent took to apply it, and how long that was from the edit on:
/// in milliseconds.
pub(crate) fn edit(pair: &Pair) -> Result<(f64, f64)> {
    let agent = &pair.agents[0];
    let before = reconciliations(agent)?.len();
    let begun = Instant::now();
    pair.topology.write(&pair.topology_file)?;
    let times = wait_for("the edit is applied", || {
        let now = reconciliations(agent)?;
        let is_done = now.len() > before && now.last().is_some_and(|(_, left)| *left == 0);
        Ok(is_done.then(|| now[before..].to_vec()))
    })?;
    Ok((times.iter().map(|(millis, _)| millis).sum(), begun.elapsed().as_secs_f64() * 1000.0))
}

/// How long each reconciliation of an agent took, in milliseconds, and how many steps it left for the next.
fn reconciliations(agent: &Agent) -> Result<Vec<(f64, u64)>> {
    let log = agent.log()?;
    let lines = log.lines().filter(|line| line.contains("reconciled "));
    let number = |line: &str, field: &str| -> Result<f64> {
        let words = line.split_whitespace();
        let value = words.filter_map(|word| word.strip_prefix(field)?.strip_prefix('=')).next();
        value.and_then(|value| value.parse().ok()).with_context(|| format!("{field} in {line:?}"))
    };
    lines.map(|line| Ok((number(line, "millis")?, number(line, "left")? as u64))).collect()
}
