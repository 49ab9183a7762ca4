//! One agent per host: two would undo each other's work.
//!
//! The mark is a listening socket in the abstract namespace of Unix sockets, which belongs to the network namespace that the
//! agent works on and is gone with the process, however it ends. Whoever connects is told the agent's status; at a second socket,
//! what the control plane has told the agent.

use std::{
    io::Read as _,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    sys::socket::{getsockopt, sockopt},
    unistd::geteuid,
};
use tokio::{
    io::AsyncWriteExt as _,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::status::Status;

const NAME: &str = "overlane-agent";
const DESIRED_NAME: &str = "overlane-desired";
/// Longer than a pass takes, in which the agent does not answer, and than an agent that is killed takes to end.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked whether an agent that is there has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// As long as this lives, no other agent starts on this host.
pub struct Instance {
    status: watch::Sender<Status>,
    questions: mpsc::Receiver<Question>,
    answering: [JoinHandle<()>; 2],
}

/// Somebody wants to know what is desired.
pub type Question = oneshot::Sender<String>;

impl Instance {
    /// Becomes the only agent of this host.
    ///
    /// # Errors
    /// When there is one, with its process id, or something else holds the mark.
    pub async fn claim() -> anyhow::Result<Self> {
        let mark = listen(NAME, PATIENCE).await?;
        let (status, current) = watch::channel(Status::default());
        let listener = listen(DESIRED_NAME, PATIENCE).await?;
        let (ask, questions) = mpsc::channel(1);
        let answering = [tokio::spawn(answer(mark, current)), tokio::spawn(tell_desired(listener, ask))];
        Ok(Self { status, questions, answering })
    }

    /// Waits until somebody asks what is desired. Cancelling loses nothing.
    pub async fn asked(&mut self) -> Question {
        match self.questions.recv().await {
            Some(question) => question,
            None => std::future::pending().await,
        }
    }

    /// What is answered from now on.
    pub fn publish(&self, status: Status) {
        self.status.send_replace(status);
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.answering.iter().for_each(JoinHandle::abort);
    }
}

/// Listens at a name as soon as nobody else does. An agent that has just been killed may take a moment to end, and what it was
/// starting holds its sockets, too, until it runs a program of its own.
async fn listen(name: &str, patience: Duration) -> anyhow::Result<tokio::net::UnixListener> {
    let address = SocketAddr::from_abstract_name(name)?;
    let deadline = Instant::now() + patience;
    let listener = loop {
        match UnixListener::bind_addr(&address) {
            Ok(listener) => break listener,
            Err(_) if Instant::now() < deadline => tokio::time::sleep(LOOK_AGAIN).await,
            Err(error) => match connect(name) {
                Some((pid, _)) => anyhow::bail!("an agent is running on this host already, as process {pid}"),
                None => return Err(error).with_context(|| format!("listening at the abstract socket {name}")),
            },
        }
    };
    listener.set_nonblocking(true)?;
    Ok(tokio::net::UnixListener::from_std(listener)?)
}

async fn answer(mark: tokio::net::UnixListener, status: watch::Receiver<Status>) {
    loop {
        let Ok((stream, _)) = mark.accept().await else {
            // Out of descriptors, say: those who ask are patient.
            tokio::time::sleep(PATIENCE / 10).await;
            continue;
        };
        let answer = serde_json::to_string(&*status.borrow()).unwrap_or_default();
        if may_know(&stream) && stream.writable().await.is_ok() {
            // It fits into the socket's buffer, so nobody who does not read keeps others from being answered. Who only wanted
            // to know whether there is an agent has gone already.
            let _ = stream.try_write(answer.as_bytes());
        }
    }
}

async fn tell_desired(listener: tokio::net::UnixListener, ask: mpsc::Sender<Question>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(PATIENCE / 10).await;
            continue;
        };
        if !may_know(&stream) {
            continue;
        }
        let (question, answer) = oneshot::channel();
        if ask.send(question).await.is_ok()
            && let Ok(answer) = answer.await
        {
            // Who does not read in time does not keep others from being answered.
            let _ = tokio::time::timeout(PATIENCE, stream.write_all(answer.as_bytes())).await;
        }
    }
}

/// An abstract socket has no permissions: everybody may connect.
fn may_know(stream: &tokio::net::UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == geteuid().as_raw())
}

/// The process id of this host's agent.
pub fn running() -> Option<i32> {
    connect(NAME).map(|(pid, _)| pid)
}

/// The process id of this host's agent, and what it answers; nothing when it takes too long.
pub(crate) fn ask() -> Option<(i32, String)> {
    let (pid, mut stream) = connect(NAME)?;
    let mut answer = String::new();
    let read = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.read_to_string(&mut answer));
    Some((pid, read.map(|_| answer).unwrap_or_default()))
}

/// What the control plane has told this host's agent, as the agent knows it.
pub(crate) fn ask_desired() -> Option<String> {
    let (_, mut stream) = connect(DESIRED_NAME)?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn connect(name: &str) -> Option<(i32, UnixStream)> {
    let name = SocketAddr::from_abstract_name(name).ok()?;
    let stream = UnixStream::connect_addr(&name).ok()?;
    let pid = getsockopt(&stream, sockopt::PeerCredentials).ok()?.pid();
    Some((pid, stream))
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[tokio::test]
    async fn an_agent_that_ends_makes_room_and_one_that_does_not_is_named() -> anyhow::Result<()> {
        let name = format!("overlane-test-{}", process::id());
        let running = listen(&name, Duration::ZERO).await?;
        let refused = listen(&name, LOOK_AGAIN).await.map(drop).expect_err("somebody listens").to_string();
        assert_eq!(refused, format!("an agent is running on this host already, as process {}", process::id()));
        let (next, ()) = tokio::join!(listen(&name, PATIENCE), async { drop(running) });
        next.map(drop)
    }
}
