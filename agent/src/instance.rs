//! One agent per host: two would undo each other's work.
//!
//! The mark is a listening socket in the abstract namespace of Unix sockets, which belongs to the network namespace that the
//! agent works on and is gone with the process, however it ends.

use std::os::{
    linux::net::SocketAddrExt as _,
    unix::net::{SocketAddr, UnixListener, UnixStream},
};

use anyhow::Context as _;
use nix::sys::socket::{getsockopt, sockopt};

const NAME: &str = "overlane-agent";

/// As long as this lives, no other agent starts on this host.
pub struct Instance {
    _mark: UnixListener,
}

impl Instance {
    /// Becomes the only agent of this host.
    ///
    /// # Errors
    /// When there is one, with its process id.
    pub fn claim() -> anyhow::Result<Self> {
        let name = SocketAddr::from_abstract_name(NAME).context("naming the mark of a running agent")?;
        match UnixListener::bind_addr(&name) {
            Ok(mark) => Ok(Self { _mark: mark }),
            Err(error) => match running() {
                Some(pid) => anyhow::bail!("an agent is running on this host already, as process {pid}"),
                None => Err(error).context("marking this agent as running"),
            },
        }
    }
}

/// The process id of this host's agent.
pub fn running() -> Option<i32> {
    let name = SocketAddr::from_abstract_name(NAME).ok()?;
    let stream = UnixStream::connect_addr(&name).ok()?;
    getsockopt(&stream, sockopt::PeerCredentials).ok().map(|peer| peer.pid())
}
