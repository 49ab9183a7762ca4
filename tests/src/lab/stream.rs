//! A stream of pings that must not lose one.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use super::{Namespace, Process};
use crate::wait::wait_until;

/// A stream of pings that must not lose one.
pub struct Stream(Process);

impl Stream {
    /// Starts pinging `to` from inside a namespace, and waits until the answers flow.
    ///
    /// # Errors
    /// When they do not in time.
    pub fn start(folder: &Path, from: &Namespace, to: &str) -> Result<Self> {
        let output = folder.join(format!("stream-{to}.log"));
        let stream = from.start(&format!("ping -n -i 0.002 -W 2 {to}"), &output)?;
        wait_until("the stream runs", || Ok(stream.output()?.contains("icmp_seq=20")))?;
        Ok(Self(stream))
    }

    /// Ends the stream a while later, and returns how many answers are missing.
    ///
    /// # Errors
    /// When the stream has ended by itself.
    pub fn lost(mut self) -> Result<u64> {
        let so_far = self.0.output()?.lines().count();
        wait_until("the stream goes on", || Ok(self.0.output()?.lines().count() > so_far + 50))?;
        self.0.end_by(Signal::SIGINT)?;
        let output = self.0.output()?;
        let summary = output.lines().find(|line| line.contains("packets transmitted")).context("ping's summary")?;
        let mut numbers = summary.split(", ").filter_map(|part| part.split(' ').next()?.parse::<u64>().ok());
        let (sent, received) = (numbers.next().context("sent")?, numbers.next().context("received")?);
        // The last request may have been on its way when the stream was ended.
        Ok((sent - received).saturating_sub(1))
    }

    /// As `lost`, and fails when an answer is missing.
    ///
    /// # Errors
    /// When one is.
    pub fn expect_no_loss(self) -> Result<()> {
        let lost = self.lost()?;
        ensure!(lost == 0, "{lost} answers are missing");
        Ok(())
    }
}
