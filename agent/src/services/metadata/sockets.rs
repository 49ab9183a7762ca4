//! Listening in other network namespaces.

use std::{
    fs::{self, File},
    net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    thread,
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    sched::{CloneFlags, setns},
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, getsockopt, listen, setsockopt, socket,
        sockopt,
    },
};
use overlane_core::services::metadata::SocketKey;

/// Connections that wait for us to take them in.
const BACKLOG: i32 = 128;

/// A socket that listens, and the namespace that it listens in.
pub(super) struct Opened {
    pub(super) listener: TcpListener,
    pub(super) namespace: Identity,
}

/// Which namespace a name stands for: another one has another inode, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// What `name` stands for now; `None` when there is no such namespace.
    pub(super) fn of(name: &str) -> Option<Self> {
        fs::metadata(path(name)).ok().map(|metadata| Self::from(&metadata))
    }
}

impl From<&fs::Metadata> for Identity {
    fn from(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// Whether the interface that a socket is bound to is still there. One that has come again under the same name is another one.
pub(super) fn has_its_interface(socket: &impl AsFd, interface: &str) -> bool {
    // The kernel looks the name up by the number that it has kept.
    getsockopt(socket, sockopt::BindToDevice)
        .is_ok_and(|name| name.to_string_lossy().trim_end_matches('\0') == interface)
}

/// Opens sockets. It is done on a thread that nothing else runs on, as that thread moves from namespace to namespace.
pub(super) async fn open(keys: Vec<SocketKey>) -> Vec<(SocketKey, anyhow::Result<Opened>)> {
    let (done, opened) = tokio::sync::oneshot::channel();
    let work = move || {
        let opened = keys.into_iter().map(|key| {
            let opened = open_here(&key);
            (key, opened)
        });
        // Nobody waits any more when the process ends.
        let _ = done.send(opened.collect());
    };
    thread::spawn(work);
    opened.await.unwrap_or_default()
}

fn open_here(key: &SocketKey) -> anyhow::Result<Opened> {
    let path = path(&key.namespace);
    let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
    let namespace = Identity::from(&file.metadata().with_context(|| format!("looking at {}", path.display()))?);
    setns(&file, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {}", path.display()))?;
    let listener = listen_here(key).with_context(|| format!("listening at {key}"))?;
    Ok(Opened { listener, namespace })
}

fn listen_here(key: &SocketKey) -> Result<TcpListener, Errno> {
    let family = if key.address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket: OwnedFd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    // Connections of a process before us may still be on their way out.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if key.address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    let mut scope = 0;
    if let Some(interface) = &key.interface {
        setsockopt(&socket, sockopt::BindToDevice, &interface.into())?;
        scope = if_nametoindex(interface.as_str())?;
    }
    let address = match key.address {
        IpAddr::V4(address) => SocketAddr::from((address, key.port)),
        IpAddr::V6(address) => SocketAddrV6::new(address, key.port, 0, scope).into(),
    };
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(TcpListener::from(socket))
}

fn path(namespace: &str) -> PathBuf {
    Path::new("/run/netns").join(namespace)
}
