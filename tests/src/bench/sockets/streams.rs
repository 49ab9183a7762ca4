//! As many bytes as a path carries: senders on one CPU, receivers on another one, and what each byte costs.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    iter::Sum,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::sys::socket::{setsockopt, sockopt};
use overlane_tests::wait::let_time_pass;

use crate::{
    cpu::{Cpu, stay},
    hosts::{Hosts, Ports, SERVICE},
};

/// What flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// So many TCP connections.
    Tcp(usize),
    /// Datagrams of wire size, handed to the kernel many at a time (`UDP_SEGMENT`) and received so (`UDP_GRO`).
    UdpSegments,
}

/// Until windows are open.
const WARM_UP: Duration = Duration::from_millis(100);
const CHUNK: usize = 128 << 10;
/// Payload of a datagram, and how many are handed over at once.
const SEGMENT: u16 = 1400;
const SEGMENTS: usize = 44;
/// How soon a receiver of datagrams sees that it is over.
const INTERVAL: Duration = Duration::from_millis(20);

/// Senders on the left host, and receivers on the right one.
pub(crate) struct Streams<'a> {
    hosts: &'a Hosts,
    ports: Ports,
    kind: Kind,
    address: SocketAddr,
}

/// What has flown, in a while.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bulk {
    /// Bytes of payload that were received.
    pub(crate) bytes: u64,
    pub(crate) time: Duration,
    /// What all CPUs did meanwhile but wait, and the part of it in softirqs: the machine's own accounting, in ticks.
    pub(crate) busy: Duration,
    pub(crate) softirq: Duration,
}

impl<'a> Streams<'a> {
    pub(crate) fn new(hosts: &'a Hosts, ports: Ports, kind: Kind) -> Result<Self> {
        let [_, server] = hosts.machines(ports);
        let address = SocketAddr::new(server.port.ipv4().parse().context("an address")?, SERVICE);
        Ok(Self { hosts, ports, kind, address })
    }

    /// Lets it flow for a while.
    pub(crate) fn flow(&self, slice: Duration) -> Result<Bulk> {
        let [client, server] = self.hosts.machines(self.ports);
        let (stop, received) = (AtomicBool::new(false), AtomicU64::new(0));
        match self.kind {
            Kind::Tcp(count) => {
                let listener = server.namespace.inside(|| TcpListener::bind(self.address).context("listening"))?;
                let mut ends = Vec::new();
                for _ in 0..count {
                    let outgoing =
                        client.namespace.inside(|| TcpStream::connect(self.address).context("connecting"))?;
                    ends.push((outgoing, listener.accept().context("accepting")?.0));
                }
                thread::scope(|scope| {
                    let streams = ends.into_iter().map(|(outgoing, incoming)| {
                        let sender = scope.spawn(|| send(outgoing, &stop));
                        (sender, scope.spawn(|| receive(incoming, &received)))
                    });
                    let streams: Vec<_> = streams.collect();
                    let bulk = watch(slice, &received);
                    stop.store(true, Ordering::Relaxed);
                    for (sender, receiver) in streams {
                        sender.join().expect("a sender does not panic")?;
                        receiver.join().expect("a receiver does not panic")?;
                    }
                    bulk
                })
            }
            Kind::UdpSegments => {
                let incoming = server.namespace.inside(|| UdpSocket::bind(self.address).context("binding"))?;
                let outgoing = client.namespace.inside(|| UdpSocket::bind(("0.0.0.0", 0)).context("binding"))?;
                outgoing.connect(self.address).context("choosing the receiver")?;
                thread::scope(|scope| {
                    let sender = scope.spawn(|| send_segments(&outgoing, &stop));
                    let receiver = scope.spawn(|| receive_segments(&incoming, &stop, &received));
                    let bulk = watch(slice, &received);
                    stop.store(true, Ordering::Relaxed);
                    sender.join().expect("a sender does not panic")?;
                    receiver.join().expect("a receiver does not panic")?;
                    bulk
                })
            }
        }
    }
}

impl Bulk {
    pub(crate) fn gigabits_per_sec(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.time.as_secs_f64() / 1e9
    }

    /// Nanoseconds for each KiB.
    pub(crate) fn per_kib(&self, time: Duration) -> f64 {
        time.as_nanos() as f64 / (self.bytes as f64 / 1024.0)
    }
}

impl Sum for Bulk {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            bytes: sum.bytes + one.bytes,
            time: sum.time + one.time,
            busy: sum.busy + one.busy,
            softirq: sum.softirq + one.softirq,
        })
    }
}

/// What is received in a while, once it flows.
fn watch(slice: Duration, received: &AtomicU64) -> Result<Bulk> {
    let_time_pass(WARM_UP);
    let ([busy, softirq], bytes, begun) = (cpu_time()?, received.load(Ordering::Relaxed), Instant::now());
    let_time_pass(slice);
    let (bytes, time) = (received.load(Ordering::Relaxed) - bytes, begun.elapsed());
    let [busy_now, softirq_now] = cpu_time()?;
    Ok(Bulk { bytes, time, busy: busy_now.saturating_sub(busy), softirq: softirq_now.saturating_sub(softirq) })
}

/// How long all CPUs have done anything, and softirqs among it, since the machine's start.
fn cpu_time() -> Result<[Duration; 2]> {
    /// Ticks of what user space is told, whatever the kernel's own are.
    const TICK: Duration = Duration::from_millis(10);
    let text = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    let words = text.lines().next().context("the first line of /proc/stat")?.split_whitespace().skip(1);
    let ticks = words.map(|word| word.parse().context("ticks")).collect::<Result<Vec<u32>>>()?;
    // user, nice, system, idle, iowait, irq, softirq
    let [user, nice, system, _, _, irq, softirq] = ticks.get(..7).context("seven kinds of ticks")? else {
        unreachable!("they are seven")
    };
    Ok([user + nice + system + irq + softirq, *softirq].map(|ticks| TICK * ticks))
}

fn send(mut outgoing: TcpStream, stop: &AtomicBool) -> Result<()> {
    stay(Cpu::First)?;
    let chunk = vec![0; CHUNK];
    while !stop.load(Ordering::Relaxed) {
        outgoing.write_all(&chunk).context("sending")?;
    }
    outgoing.shutdown(Shutdown::Write).context("ending a stream")
}

fn receive(mut incoming: TcpStream, received: &AtomicU64) -> Result<()> {
    stay(Cpu::Last)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = incoming.read(&mut buffer).context("receiving")?;
        if length == 0 {
            return Ok(());
        }
        received.fetch_add(length as u64, Ordering::Relaxed);
    }
}

fn send_segments(outgoing: &UdpSocket, stop: &AtomicBool) -> Result<()> {
    stay(Cpu::First)?;
    setsockopt(outgoing, sockopt::UdpGsoSegment, &SEGMENT.into()).context("sending many datagrams at a time")?;
    let chunk = vec![0; usize::from(SEGMENT) * SEGMENTS];
    while !stop.load(Ordering::Relaxed) {
        outgoing.send(&chunk).context("sending")?;
    }
    Ok(())
}

fn receive_segments(incoming: &UdpSocket, stop: &AtomicBool, received: &AtomicU64) -> Result<()> {
    stay(Cpu::Last)?;
    setsockopt(incoming, sockopt::UdpGroSegment, &true).context("receiving many datagrams at a time")?;
    incoming.set_read_timeout(Some(INTERVAL)).context("limiting patience")?;
    let mut buffer = vec![0; CHUNK];
    while !stop.load(Ordering::Relaxed) {
        match incoming.recv(&mut buffer) {
            Ok(length) => drop(received.fetch_add(length as u64, Ordering::Relaxed)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error).context("receiving"),
        }
    }
    Ok(())
}
