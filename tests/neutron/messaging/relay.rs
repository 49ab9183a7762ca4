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

    fn lead(&self, near: &TcpStream, to: &str) -> io::Result<()> {
        let far = TcpStream::connect(to)?;
        self.streams.lock().expect("no panic").extend([near.try_clone()?, far.try_clone()?]);
        for (mut from, mut into) in [(near.try_clone()?, far.try_clone()?), (far, near.try_clone()?)] {
            let is_silent = self.is_silent.clone();
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = from.read(&mut buffer) {
                    if !is_silent.load(Ordering::SeqCst) && into.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                _ = into.shutdown(Shutdown::Both);
            });
        }
        Ok(())
    }
}
