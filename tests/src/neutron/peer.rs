//! The other end of messaging: a server of oslo.messaging itself, as Neutron's is.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::{broker::Broker, container::in_root};
use crate::{lab::Process, wait::wait_at_most};

const PROGRAM: &str = include_str!("peer.py");
/// Python takes a second to import it all, and more on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server with the topic `q-plugin`, that does as it is told.
pub struct Peer {
    // Dropped, it ends.
    _process: Process,
}

impl Peer {
    /// Starts one beside a broker; `settings` are those of `neutron.conf`.
    ///
    /// # Errors
    /// When it does not start, with its log.
    pub fn start(broker: &Broker, settings: &str) -> Result<Self> {
        let folder = broker.host().folder();
        let (program, configuration) = (folder.join("peer.py"), folder.join("peer.conf"));
        fs::write(&program, PROGRAM).context("writing the peer's program")?;
        fs::write(&configuration, settings).context("writing the peer's configuration")?;
        let mut command = in_root("/usr/bin/python3");
        command.args([&program, &configuration]);
        let mut process = broker.host().start_program("peer", &mut command)?;
        wait_at_most(PATIENCE, "the peer is ready", || {
            let log = process.output()?;
            ensure!(process.ended()?.is_none(), "the peer has ended: {log}");
            Ok(log.contains("ready").then_some(()))
        })?;
        Ok(Self { _process: process })
    }
}
