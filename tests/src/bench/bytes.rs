//! A TCP stream whose receiver notes when bytes arrive.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use overlane_tests::{lab::Namespace, wait::let_time_pass};

/// Between two writes, and with that the resolution of a stall.
const INTERVAL: Duration = Duration::from_millis(1);
/// 130 Mbit/s: enough for superpackets, and far from what the machine can do.
const CHUNK: usize = 16 << 10;

/// A stream that flows for as long as this lives.
pub(crate) struct Bytes {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<()>>,
    receiver: JoinHandle<Result<Duration>>,
}

impl Bytes {
    /// Starts a stream from one namespace to `address` in another one.
    pub(crate) fn start(from: &Namespace, to: &Namespace, address: &str) -> Result<Self> {
        // A socket belongs to the namespace that it was made in, whichever thread uses it.
        let listener = to.inside(|| TcpListener::bind((address, 0)).context("listening"))?;
        let port = listener.local_addr().context("the listener's port")?.port();
        let mut outgoing = from.inside(|| TcpStream::connect((address, port)).context("connecting"))?;
        let (mut incoming, _) = listener.accept().context("accepting")?;
        outgoing.set_nodelay(true).context("sending at once")?;
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let sender = thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                outgoing.write_all(&[0; CHUNK]).context("sending")?;
                let_time_pass(INTERVAL);
            }
            Ok(())
        });
        let receiver = thread::spawn(move || {
            let mut buffer = vec![0; 4 * CHUNK];
            let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
            // The end of the stream ends the last wait.
            loop {
                let length = incoming.read(&mut buffer).context("receiving")?;
                longest = longest.max(last.elapsed());
                last = Instant::now();
                if length == 0 {
                    return Ok(longest);
                }
            }
        });
        Ok(Self { stop, sender, receiver })
    }

    /// Ends the stream; the longest time without a byte, in milliseconds.
    pub(crate) fn longest_stall(self) -> Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.join().map_err(|_| anyhow!("the sender has panicked"))??;
        let longest = self.receiver.join().map_err(|_| anyhow!("the receiver has panicked"))??;
        Ok(longest.as_secs_f64() * 1000.0)
    }
}
