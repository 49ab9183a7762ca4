//! Routers on several network nodes: on one of them a router is active.

mod changes;
mod faults;
mod losses;

use std::time::Duration;

use anyhow::Result;
use overlane_tests::lab::Stream;

/// Three advertisements that do not come, a second each, up to one more second, and what a busy machine adds.
const FAILOVER_MAX: Duration = Duration::from_secs(8);
/// How often the active node repeats where it is, ten seconds, and what a busy machine adds.
const REFRESHED_MAX: Duration = Duration::from_secs(15);
/// Of a node that says that it gives up, the others wait for less than a second.
const HANDOVER_MAX: Duration = Duration::from_secs(5);

/// The longest pause of any, which must not be longer than this.
fn expect_pauses_below(most: Duration, what: &str, streams: impl IntoIterator<Item = Stream>) -> Result<()> {
    let pauses = streams.into_iter().map(Stream::longest_pause).collect::<Result<Vec<_>>>()?;
    println!("{what}: no answer for {pauses:?}");
    anyhow::ensure!(pauses.iter().all(|pause| *pause < most), "{what}: no answer for {pauses:?}");
    Ok(())
}
