//! A stream of pings that must not lose one.

use std::{collections::BTreeSet, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::{Namespace, Process, ping::answered};
use crate::wait::wait_until;

/// A stream of pings that must not lose one.
pub struct Stream {
    ping: Process,
    name: String,
}

impl Stream {
    /// Starts pinging `to` from inside a namespace, and waits until the answers flow.
    ///
    /// # Errors
    /// When they do not in time.
    pub fn start(folder: &Path, from: &Namespace, to: &str) -> Result<Self> {
        let output = folder.join(format!("stream-{to}.log"));
        let ping = from.start(&format!("ping -D -n -i 0.001 -W 2 {to}"), &output)?;
        wait_until("the stream runs", || Ok(ping.output()?.contains("icmp_seq=20")))?;
        Ok(Self { ping, name: format!("{} to {to}", from.name()) })
    }

    /// Ends the stream a while later, and returns how many answers are missing.
    ///
    /// # Errors
    /// When the stream has ended by itself.
    pub fn lost(self) -> Result<u64> {
        Ok(self.missing()?.len() as u64)
    }

    /// As `lost`, and fails when an answer is missing.
    ///
    /// # Errors
    /// When one is.
    pub fn expect_no_loss(self) -> Result<()> {
        self.expect_loss_of_at_most(0)
    }

    /// As `lost`, and fails when more answers are missing than `most`.
    ///
    /// # Errors
    /// When they are.
    pub fn expect_loss_of_at_most(self, most: usize) -> Result<()> {
        let name = self.name.clone();
        let missing = self.missing()?;
        ensure!(missing.len() <= most, "from {name}: {} answers are missing: {missing:?}", missing.len());
        Ok(())
    }

    /// Ends the stream once answers flow, and returns for how long none came.
    ///
    /// # Errors
    /// When the stream has ended by itself, or no answer comes any more.
    pub fn longest_pause(mut self) -> Result<Duration> {
        let answers = |output: &str| output.lines().filter(|line| line.contains(" bytes from ")).count();
        let so_far = answers(&self.ping.output()?);
        wait_until("answers flow", || Ok(answers(&self.ping.output()?) > so_far + 50))?;
        self.ping.end_by(Signal::SIGINT)?;
        let output = self.ping.output()?;
        // `-D`: the time of each line, in seconds since 1970.
        let times = output.lines().filter(|line| line.contains(" bytes from ")).filter_map(|line| {
            let (time, _) = line.strip_prefix('[')?.split_once(']')?;
            time.parse::<f64>().ok()
        });
        let times: Vec<f64> = times.collect();
        let longest = times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
        Ok(Duration::from_secs_f64(longest))
    }

    /// The numbers of the requests that were not answered, though a later one was.
    fn missing(mut self) -> Result<Vec<u64>> {
        let so_far = self.ping.output()?.lines().count();
        wait_until("the stream goes on", || Ok(self.ping.output()?.lines().count() > so_far + 50))?;
        self.ping.end_by(Signal::SIGINT)?;
        let mut numbers = BTreeSet::new();
        let mut last = 0;
        for number in answered(&self.ping.output()?) {
            last = unwrap(number, last);
            numbers.insert(last);
        }
        let last = *numbers.last().context("ping has had no answer")?;
        Ok((1..last).filter(|number| !numbers.contains(number)).collect())
    }
}

/// The number, of which ping prints 16 bits, that is closest to the one before it.
fn unwrap(number: u64, last: u64) -> u64 {
    const RANGE: u64 = 1 << 16;
    let candidates = [last / RANGE * RANGE + number, (last / RANGE + 1) * RANGE + number];
    // A late answer across the turn counts for the wrong number, and fails the test: it has not been seen.
    if candidates[0] + RANGE / 2 < last { candidates[1] } else { candidates[0] }
}
