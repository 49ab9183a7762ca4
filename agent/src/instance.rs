//! One agent per host: two would undo each other's work.
//!
//! The mark is a listening socket in the abstract namespace of Unix sockets, which belongs to the network namespace that the
//! agent works on and is gone with the process, however it ends. Whoever connects is told the agent's status.

use std::{
    io::Read as _,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    sys::socket::{getsockopt, sockopt},
    unistd::geteuid,
};
use tokio::{sync::watch, task::JoinHandle};

use crate::status::Status;

const NAME: &str = "overlane-agent";
/// Longer than a pass takes, in which the agent does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// As long as this lives, no other agent starts on this host.
pub struct Instance {
    status: watch::Sender<Status>,
    answering: JoinHandle<()>,
}

impl Instance {
    /// Becomes the only agent of this host.
    ///
    /// # Errors
    /// When there is one, with its process id.
    pub fn claim() -> anyhow::Result<Self> {
        let name = SocketAddr::from_abstract_name(NAME).context("naming the mark of a running agent")?;
        let mark = match UnixListener::bind_addr(&name) {
            Ok(mark) => mark,
            Err(error) => match running() {
                Some(pid) => anyhow::bail!("an agent is running on this host already, as process {pid}"),
                None => return Err(error).context("marking this agent as running"),
            },
        };
        mark.set_nonblocking(true).context("answering questions")?;
        let mark = tokio::net::UnixListener::from_std(mark).context("answering questions")?;
        let (status, current) = watch::channel(Status::default());
        Ok(Self { status, answering: tokio::spawn(answer(mark, current)) })
    }

    /// What is answered from now on.
    pub fn publish(&self, status: Status) {
        self.status.send_replace(status);
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

async fn answer(mark: tokio::net::UnixListener, status: watch::Receiver<Status>) {
    loop {
        let Ok((stream, _)) = mark.accept().await else {
            // Out of descriptors, say: those who ask are patient.
            tokio::time::sleep(PATIENCE / 10).await;
            continue;
        };
        // An abstract socket has no permissions: everybody may connect.
        let may_know = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == geteuid().as_raw());
        let answer = serde_json::to_string(&*status.borrow()).unwrap_or_default();
        if may_know && stream.writable().await.is_ok() {
            // It fits into the socket's buffer, so nobody who does not read keeps others from being answered. Who only wanted
            // to know whether there is an agent has gone already.
            let _ = stream.try_write(answer.as_bytes());
        }
    }
}

/// The process id of this host's agent.
pub fn running() -> Option<i32> {
    connect().map(|(pid, _)| pid)
}

/// The process id of this host's agent, and what it answers; nothing when it takes too long.
pub(crate) fn ask() -> Option<(i32, String)> {
    let (pid, mut stream) = connect()?;
    let mut answer = String::new();
    let read = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.read_to_string(&mut answer));
    Some((pid, read.map(|_| answer).unwrap_or_default()))
}

fn connect() -> Option<(i32, UnixStream)> {
    let name = SocketAddr::from_abstract_name(NAME).ok()?;
    let stream = UnixStream::connect_addr(&name).ok()?;
    let pid = getsockopt(&stream, sockopt::PeerCredentials).ok()?.pid();
    Some((pid, stream))
}
