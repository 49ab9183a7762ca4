//! Commands for a guest, by its second serial port: a line each way, as the guest's `init` reads and writes them.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::wait::wait_for;

/// How long a guest may be silent: it is emulated, and the machine may be busy.
const SILENCE: Duration = Duration::from_secs(120);

/// The port, and how many commands have gone through it.
pub(super) struct Shell {
    port: Mutex<(BufReader<UnixStream>, u64)>,
}

impl Shell {
    /// Connects to QEMU's end.
    pub(super) fn connect(socket: &Path) -> Result<Self> {
        let stream = wait_for("QEMU offers the serial port", || {
            UnixStream::connect(socket).map(Some).context("connecting to the serial port")
        })?;
        stream.set_read_timeout(Some(SILENCE)).context("setting a time limit")?;
        Ok(Self { port: Mutex::new((BufReader::new(stream), 0)) })
    }

    /// Waits until the guest takes commands.
    pub(super) fn wait_until_ready(self) -> Result<Self> {
        let mut port = self.port.lock().expect("nobody panics with it");
        while read_line(&mut port.0)? != "ready" {}
        drop(port);
        Ok(self)
    }

    /// Runs a script and returns what it prints.
    pub(super) fn run(&self, script: &str) -> Result<String> {
        let mut port = self.port.lock().expect("nobody panics with it");
        let (stream, number) = &mut *port;
        *number += 1;
        writeln!(stream.get_mut(), "{number} {}", STANDARD.encode(script)).context("writing to the serial port")?;
        let line = read_line(stream)?;
        let mut words = line.split(' ');
        let mut next = || words.next().with_context(|| format!("the guest has answered {line:?}"));
        ensure!(next()? == number.to_string(), "the guest has answered {line:?} to command {number}");
        let (status, output) = (next()?, STANDARD.decode(next()?).context("decoding the guest's answer")?);
        let output = String::from_utf8_lossy(&output).into_owned();
        ensure!(status == "0", "in the guest: {script}: exit status {status}\n{output}");
        Ok(output)
    }
}

fn read_line(stream: &mut BufReader<UnixStream>) -> Result<String> {
    let mut line = String::new();
    let length = stream.read_line(&mut line).context("reading from the serial port")?;
    ensure!(length > 0, "the guest has ended");
    // The last word of an answer may be empty.
    Ok(line.trim_end_matches('\n').to_owned())
}
