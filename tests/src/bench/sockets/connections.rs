//! New TCP connections a second: one after the other, each with a byte there and a byte back, and everything that they cause on
//! one CPU, both machines' TCP included.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};

use crate::{
    cpu::{Cpu, take},
    hosts::{Hosts, Ports, SERVICE},
    turns::Variant,
};

const SLICE: Duration = Duration::from_millis(150);
/// What a client says to be answered, and to be the last one.
const QUESTION: u8 = 1;
const END: u8 = 0;

/// A client on the left host that connects to a server on the right one, again and again.
pub(crate) struct Connections<'a> {
    hosts: &'a Hosts,
    ports: Ports,
    listener: TcpListener,
    address: SocketAddr,
}

impl<'a> Connections<'a> {
    pub(crate) fn new(hosts: &'a Hosts, ports: Ports) -> Result<Self> {
        let [_, server] = hosts.machines(ports);
        let address = SocketAddr::new(server.port.ipv4().parse().context("an address")?, SERVICE);
        let listener = server.namespace.inside(|| TcpListener::bind(address).context("listening"))?;
        Ok(Self { hosts, ports, listener, address })
    }
}

/// Answers until a client says that it is the last one. The server closes: it keeps what is left of connections, and the client
/// may use its ports again.
fn serve(listener: &TcpListener) -> Result<()> {
    take(Cpu::Last)?;
    loop {
        let (mut connection, _) = listener.accept().context("accepting")?;
        let mut byte = [END];
        connection.read_exact(&mut byte).context("a question")?;
        if byte == [END] {
            return Ok(());
        }
        connection.write_all(&byte).context("answering")?;
    }
}

fn ask(address: SocketAddr) -> Result<(u64, Duration)> {
    take(Cpu::Last)?;
    let (begun, mut connections) = (Instant::now(), 0);
    while begun.elapsed() < SLICE {
        let mut connection = TcpStream::connect(address).context("connecting")?;
        connection.write_all(&[QUESTION]).context("asking")?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).context("reading an answer")?;
        connections += 1;
    }
    let time = begun.elapsed();
    TcpStream::connect(address).and_then(|mut last| last.write_all(&[END])).context("ending")?;
    Ok((connections, time))
}

impl Variant for Connections<'_> {
    fn slice(&mut self) -> Result<Option<(u64, Duration)>> {
        let [client, _] = self.hosts.machines(self.ports);
        let (listener, address) = (&self.listener, self.address);
        thread::scope(|scope| {
            let server = scope.spawn(|| serve(listener));
            let asked = client.namespace.inside(|| ask(address))?;
            server.join().map_err(|_| anyhow!("the server has panicked"))??;
            Ok(Some(asked))
        })
    }
}
