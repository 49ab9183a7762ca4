//! A wire that can be cut: a port that leads to another one.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result};

/// Leads from one address to another, until it is cut or holds its breath.
#[derive(Clone, Default)]
pub(crate) struct Relay {
    streams: Arc<Mutex<Vec<TcpStream>>>,
    is_cut: Arc<AtomicBool>,
    is_silent: Arc<AtomicBool>,
    /// Bytes that the next connection may bring, and how many more each one after it.
    allowance: Arc<Mutex<Option<(usize, usize)>>>,
}

impl Relay {
    /// Leads from `from` to `to`, in the namespace that this is called in.
    pub(crate) fn start(from: &str, to: &str) -> Result<Self> {
        let relay = Self::default();
        let listener = TcpListener::bind(from).context("listening for the relay")?;
        let (served, to) = (relay.clone(), to.to_owned());
        thread::spawn(move || {
            for near in listener.incoming() {
                let is_cut = served.is_cut.load(Ordering::SeqCst);
                // Dropped, it is closed.
                if let (Ok(near), false) = (near, is_cut) {
                    _ = served.lead(&near, &to);
                }
            }
        });
        Ok(relay)
    }

    /// Closes all connections, and those that are made from now on.
    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        for stream in self.streams.lock().expect("no panic").drain(..) {
            _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Swallows everything from now on, without closing anything.
    pub(crate) fn hold_breath(&self) {
        self.is_silent.store(true, Ordering::SeqCst);
    }

    /// Cuts each connection after so many bytes from the far end, and the next one as many bytes later.
    pub(crate) fn cut_ever_later(&self, step: usize) {
        *self.allowance.lock().expect("no panic") = Some((step, step));
    }

    /// How much a new connection may bring.
    fn allow(&self) -> usize {
        match self.allowance.lock().expect("no panic").as_mut() {
            Some((next, step)) => {
                *next += *step;
                *next - *step
            }
            None => usize::MAX,
        }
    }

    fn lead(&self, near: &TcpStream, to: &str) -> io::Result<()> {
        let far = TcpStream::connect(to)?;
        self.streams.lock().expect("no panic").extend([near.try_clone()?, far.try_clone()?]);
        let directions = [(near.try_clone()?, far.try_clone()?, usize::MAX), (far, near.try_clone()?, self.allow())];
        for (mut from, mut into, mut allowance) in directions {
            let is_silent = self.is_silent.clone();
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = from.read(&mut buffer) {
                    let count = count.min(allowance);
                    allowance -= count;
                    let is_passed = is_silent.load(Ordering::SeqCst) || into.write_all(&buffer[..count]).is_ok();
                    if !is_passed || allowance == 0 {
                        break;
                    }
                }
                // The far end may give up sooner: what holds its breath does not pass that on either.
                if !is_silent.load(Ordering::SeqCst) {
                    _ = from.shutdown(Shutdown::Both);
                    _ = into.shutdown(Shutdown::Both);
                }
            });
        }
        Ok(())
    }
}
