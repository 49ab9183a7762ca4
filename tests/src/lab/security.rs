//! Security groups of a topology file, and conversations that they admit or not.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use super::{Machine, Namespace, Topology};

/// How long a test waits for what must not come. What is admitted comes in a fraction of it.
const SILENCE: Duration = Duration::from_millis(500);

/// `[[security_groups]]`
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct SecurityGroup {
    pub id: String,
    pub name: String,
    pub stateful: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    pub rules: Vec<Rule>,
}

/// `[[security_groups.rules]]`
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Rule {
    pub direction: String,
    pub ethertype: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_range_min: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_range_max: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_ip_prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_group_id: Option<String>,
}

impl Rule {
    /// A rule of each family: everything of a protocol, or everything at all.
    pub fn both(direction: &str, protocol: Option<&str>) -> [Self; 2] {
        ["IPv4", "IPv6"].map(|ethertype| Self {
            direction: direction.to_owned(),
            ethertype: ethertype.to_owned(),
            protocol: protocol.map(str::to_owned),
            ..Self::default()
        })
    }

    /// The rule, for one port only.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        Self { port_range_min: Some(port), port_range_max: Some(port), ..self }
    }

    /// The rule, for members of a group only.
    #[must_use]
    pub fn group(self, id: &str) -> Self {
        Self { remote_group_id: Some(id.to_owned()), ..self }
    }
}

impl Topology {
    /// Adds a security group, whose id ends in how many there are.
    pub fn add_group(&mut self, name: &str, rules: impl IntoIterator<Item = Rule>) -> String {
        let id = format!("5ec00000-0000-4000-8000-{:012x}", self.security_groups.len() + 1);
        let rules = rules.into_iter().collect();
        let group = SecurityGroup { id: id.clone(), name: name.to_owned(), stateful: true, log: None, rules };
        self.security_groups.push(group);
        id
    }

    /// A group of the topology.
    ///
    /// # Panics
    /// When there is none: a mistake in the test.
    pub fn group(&mut self, id: &str) -> &mut SecurityGroup {
        self.security_groups.iter_mut().find(|group| group.id == id).expect("the test names a group of its topology")
    }

    /// Gives a port its groups.
    ///
    /// # Panics
    /// When there is no such port: a mistake in the test.
    pub fn set_groups(&mut self, port: &str, groups: &[&str]) {
        let port = self.ports.iter_mut().find(|other| other.id == port).expect("the test names a port of its topology");
        port.security_groups = Some(groups.iter().map(|group| (*group).to_owned()).collect());
    }
}

/// A TCP connection between two machines.
pub struct Connection {
    client: TcpStream,
    server: TcpStream,
}

impl Connection {
    /// Connects `client` to `port` of `server`; `None` when nothing comes back.
    ///
    /// # Errors
    /// When it is refused, or a socket cannot be had.
    pub fn open(client: &Machine, server: &Machine, address: &str, port: u16) -> Result<Option<Self>> {
        let address = SocketAddr::new(address.parse::<IpAddr>().context("an address")?, port);
        Self::translated(&client.namespace, &server.namespace, address, address)
    }

    /// Connects `client` to `server`, which listens at an `inner` address, by calling an `outer` one; `None` when nothing comes back.
    ///
    /// # Errors
    /// As for `open`.
    pub fn translated(
        client: &Namespace,
        server: &Namespace,
        outer: SocketAddr,
        inner: SocketAddr,
    ) -> Result<Option<Self>> {
        let listener = server.inside(|| TcpListener::bind(inner).context("listening"))?;
        let connect = || match TcpStream::connect_timeout(&outer, SILENCE) {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if error.kind() == ErrorKind::TimedOut => Ok(None),
            Err(error) => Err(error).context("connecting"),
        };
        let Some(client) = client.inside(connect)? else { return Ok(None) };
        // What acknowledges the server's answer may not come through any more, and then the server waits for it.
        let mut ready = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(SILENCE).context("a time to wait")?;
        if poll(&mut ready, timeout).context("waiting for a connection")? == 0 {
            return Ok(None);
        }
        let (server, _) = listener.accept().context("accepting")?;
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(SILENCE)).context("setting a time limit")?;
        }
        Ok(Some(Self { client, server }))
    }

    /// Who has called, as the server sees it.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn caller(&self) -> Result<IpAddr> {
        Ok(self.server.peer_addr().context("asking for the other end")?.ip())
    }

    /// Sends a byte each way, and returns whether both arrived.
    ///
    /// # Errors
    /// When a socket fails otherwise than by silence.
    pub fn is_alive(&mut self) -> Result<bool> {
        Ok(carries(&mut self.client, &mut self.server)? && carries(&mut self.server, &mut self.client)?)
    }
}

fn carries(from: &mut TcpStream, to: &mut TcpStream) -> Result<bool> {
    from.write_all(b"x").context("sending")?;
    match uninterrupted(|| to.read(&mut [0; 8])) {
        Ok(length) => {
            ensure!(length > 0, "the connection was closed");
            Ok(true)
        }
        Err(error) if is_silence(&error) => Ok(false),
        Err(error) => Err(error).context("receiving"),
    }
}

/// Sends `length` bytes by UDP, and returns whether they arrived whole.
///
/// # Errors
/// When a socket fails otherwise than by silence.
pub fn send_udp(from: &Machine, to: &Machine, address: &str, port: u16, length: usize) -> Result<bool> {
    let address = SocketAddr::new(address.parse::<IpAddr>().context("an address")?, port);
    let receiver = to.namespace.inside(|| UdpSocket::bind(address).context("binding"))?;
    receiver.set_read_timeout(Some(SILENCE)).context("setting a time limit")?;
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let sender = from.namespace.inside(|| UdpSocket::bind(any).context("binding"))?;
    sender.set_broadcast(true).context("allowing broadcast")?;
    sender.send_to(&vec![7; length], address).context("sending")?;
    match uninterrupted(|| receiver.recv(&mut vec![0; length + 1])) {
        Ok(received) => Ok(received == length),
        Err(error) if is_silence(&error) => Ok(false),
        Err(error) => Err(error).context("receiving"),
    }
}

/// Tries again when a machine that stands still for a moment has interrupted the waiting.
fn uninterrupted<T>(mut receive: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match receive() {
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            result => return result,
        }
    }
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl Machine {
    /// Whether `address` answers one ping in time.
    pub fn reaches(&self, address: &str) -> bool {
        self.run(&format!("ping -c 1 -W 0.5 {address}")).is_ok()
    }
}
