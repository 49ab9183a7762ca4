//! Requests of one byte that are answered by one byte, one after the other: how long an answer takes, with client, server and all
//! that is between them on one CPU.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};

use crate::{
    cpu::{Cpu, take},
    hosts::{Hosts, Ports, SERVICE},
};

/// What carries requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Over one connection.
    Tcp,
    /// Each in a datagram.
    Udp,
}

/// Longer than any answer takes; one that takes longer was lost.
const PATIENCE: Duration = Duration::from_secs(1);
const QUESTION: u8 = 1;
const END: u8 = 0;
/// Requests that nobody measures: caches, neighbours and flows are then as they stay.
const WARM_UP: usize = 50;

/// A client on the left host, and a server on the right one.
pub(crate) struct Requests<'a> {
    hosts: &'a Hosts,
    ports: Ports,
    server: Server,
    address: SocketAddr,
}

enum Server {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl<'a> Requests<'a> {
    pub(crate) fn new(hosts: &'a Hosts, ports: Ports, transport: Transport) -> Result<Self> {
        let [_, server] = hosts.machines(ports);
        let address = SocketAddr::new(server.port.ipv4().parse().context("an address")?, SERVICE);
        let server = server.namespace.inside(|| match transport {
            Transport::Tcp => TcpListener::bind(address).map(Server::Tcp).context("listening"),
            Transport::Udp => UdpSocket::bind(address).map(Server::Udp).context("binding a socket"),
        })?;
        Ok(Self { hosts, ports, server, address })
    }

    /// How long each of as many requests took as fit into `slice`, in microseconds.
    pub(crate) fn ask(&self, slice: Duration) -> Result<Vec<f64>> {
        let [client, _] = self.hosts.machines(self.ports);
        let address = self.address;
        thread::scope(|scope| {
            let server = scope.spawn(|| self.server.answer());
            let times = client.namespace.inside(|| {
                take(Cpu::Last)?;
                match self.server {
                    Server::Tcp(_) => by_tcp(address, slice),
                    Server::Udp(_) => by_udp(address, slice),
                }
            });
            // Without its client, the server would wait for ever.
            let times = times?;
            server.join().map_err(|_| anyhow!("the server has panicked"))??;
            Ok(times)
        })
    }
}

impl Server {
    /// Answers one client until it says, or shows, that it has ended.
    fn answer(&self) -> Result<()> {
        take(Cpu::Last)?;
        let mut byte = [END];
        match self {
            Self::Tcp(listener) => {
                let (mut connection, _) = listener.accept().context("accepting")?;
                connection.set_nodelay(true).context("answering at once")?;
                while connection.read(&mut byte).context("a question")? > 0 {
                    connection.write_all(&byte).context("answering")?;
                }
            }
            Self::Udp(socket) => {
                socket.set_read_timeout(Some(2 * PATIENCE)).context("limiting patience")?;
                loop {
                    let (_, client) = socket.recv_from(&mut byte).context("a question")?;
                    if byte == [END] {
                        break;
                    }
                    socket.send_to(&byte, client).context("answering")?;
                }
            }
        }
        Ok(())
    }
}

fn by_tcp(address: SocketAddr, slice: Duration) -> Result<Vec<f64>> {
    let mut connection = TcpStream::connect_timeout(&address, PATIENCE).context("connecting")?;
    connection.set_nodelay(true).context("asking at once")?;
    connection.set_read_timeout(Some(PATIENCE)).context("limiting patience")?;
    times(slice, || {
        connection.write_all(&[QUESTION]).context("asking")?;
        connection.read_exact(&mut [0]).context("an answer")
    })
}

fn by_udp(address: SocketAddr, slice: Duration) -> Result<Vec<f64>> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).context("binding a socket")?;
    socket.connect(address).context("choosing the server")?;
    socket.set_read_timeout(Some(PATIENCE)).context("limiting patience")?;
    let times = times(slice, || {
        socket.send(&[QUESTION]).context("asking")?;
        socket.recv(&mut [0]).context("an answer").map(drop)
    })?;
    socket.send(&[END]).context("ending")?;
    Ok(times)
}

fn times(slice: Duration, mut ask: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    for _ in 0..WARM_UP {
        ask()?;
    }
    let (begun, mut times) = (Instant::now(), Vec::new());
    while begun.elapsed() < slice {
        let asked = Instant::now();
        ask()?;
        times.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times)
}
