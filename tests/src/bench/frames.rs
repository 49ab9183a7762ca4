//! Frames by the million: a generator that needs a fraction of a microsecond for each, and a sink that needs less.
//!
//! The generator runs an XDP program on "live frames" (the kernel's `Documentation/bpf/bpf_prog_run.rst`): what the program
//! passes enters the stack as if an interface had received it, and what it redirects is sent. All that follows happens on the CPU that asks for it, so
//! the time for a number of frames is what the path costs one core. The sink is an XDP program that drops.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use overlane_tests::{lab::Namespace, packet::Frame, wait::wait_for};

use crate::{
    bpf::{Hook, Instruction, attach, code, counter, index, instruction, load, redirecting},
    hosts::{Hosts, IDLE},
    test_run::TestRun,
};

/// What a program returns.
const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;

/// Frames that the kernel takes through the program at once: its own default.
const BATCH: u32 = 64;
/// The same for programs that read them from a packet socket: as many as Open vSwitch reads at once (`NETDEV_MAX_BURST`). Of live
/// frames, each of which has a page, the socket of a usual size (`net.core.rmem_default`) holds 48.
const BATCH_FOR_PROGRAMS: u32 = 32;

/// The first port where there are more conversations than ports.
pub(crate) const FIRST_OF_MANY: u16 = 10_000;
/// So many use one port of the other side, then.
const SHARE: i32 = 50_000;

/// How frames get into a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// As if the interface had received them: past its driver, and past XDP programs.
    Received,
    /// The interface sends them, and whatever is at its other end receives them: as frames of a machine. That end's driver must poll
    /// (`gro on`), or have an XDP program.
    Sent,
}

/// Which conversation a frame belongs to: its guest's port counts up from frame to frame, and begins again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conversations {
    /// Whether the port is the frame's source or its destination.
    pub(crate) side: Side,
    /// The first port; a multiple of `count`, or [`FIRST_OF_MANY`].
    pub(crate) first: u16,
    /// How many: a power of two, or more than there are ports. Then the other side's port counts the times that this one has begun
    /// again.
    pub(crate) count: u32,
    /// Whether the source address counts how often the ports have begun again, so that no conversation comes twice. What is
    /// checksummed with it is wrong then, but for the IP header: its identification takes the complement.
    pub(crate) is_endless: bool,
}

/// Which of the two ports of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

/// What makes frames.
pub(crate) struct Generator {
    program: OwnedFd,
    frame: Frame,
    /// The device that seems to receive them, or sends them.
    interface: u32,
    /// Where programs forward, what has the kernel know it ([`Generator::know`]).
    known: Option<OwnedFd>,
}

/// Where frames end; for as long as this lives.
pub(crate) struct Sink {
    _link: OwnedFd,
    received_before: u64,
}

/// Gives a UDP or TCP packet, over IPv4 without options, the next port, and passes it on.
///
/// UDP needs no checksum. In TCP segments the urgent pointer, which means nothing without its flag, takes the port's complement:
/// so the checksum stays right.
fn generating(
    counter: &OwnedFd,
    conversations: Conversations,
    frame: &Frame,
    ending: &[Instruction],
) -> Vec<Instruction> {
    const PROTOCOL: usize = 23;
    const TCP: u8 = 6;
    const IDENTIFICATION: i16 = 18;
    const SOURCE_ADDRESS_END: i16 = 28;
    const PORTS: i16 = 34;
    const UDP_END: i32 = 42;
    const URGENT_POINTER: i16 = 52;
    const TCP_END: i32 = 54;
    const DATA: i16 = 0;
    const DATA_END: i16 = 4;
    /// `BPF_PSEUDO_MAP_VALUE`: the address of the value of the map whose descriptor follows.
    const VALUE_OF_MAP: u8 = 2;
    let Conversations { side, first, count, is_endless } = conversations;
    let [port, other_port] = if side == Side::Source { [PORTS, PORTS + 2] } else { [PORTS + 2, PORTS] };
    let is_tcp = frame.0[PROTOCOL] == TCP;
    let mut body = vec![
        instruction(code::LOAD_ADDRESS, 1, VALUE_OF_MAP, 0, counter.as_raw_fd()),
        instruction(0, 0, 0, 0, 0),
        instruction(code::LOAD_WORD, 2, 1, 0, 0),
        instruction(code::MOVE, 3, 2, 0, 0),
        instruction(code::ADD, 3, 0, 0, 1),
        instruction(code::STORE_WORD, 1, 3, 0, 0),
    ];
    if count > 1 << 16 {
        let at = other_port as usize;
        let first_other = u16::from_be_bytes([frame.0[at], frame.0[at + 1]]);
        body.extend([
            instruction(code::REMAINDER, 2, 0, 0, count as i32),
            instruction(code::MOVE, 4, 2, 0, 0),
            instruction(code::DIVIDE, 4, 0, 0, SHARE),
            instruction(code::ADD, 4, 0, 0, first_other.into()),
            instruction(code::TO_BIG_ENDIAN, 4, 0, 0, 16),
            instruction(code::STORE_HALF, 6, 4, other_port, 0),
            instruction(code::REMAINDER, 2, 0, 0, SHARE),
        ]);
    } else {
        body.push(instruction(code::AND, 2, 0, 0, count as i32 - 1));
    }
    body.extend([
        instruction(code::ADD, 2, 0, 0, first.into()),
        instruction(code::TO_BIG_ENDIAN, 2, 0, 0, 16),
        instruction(code::STORE_HALF, 6, 2, port, 0),
    ]);
    if is_tcp {
        body.push(instruction(code::XOR, 2, 0, 0, 0xffff));
        body.push(instruction(code::STORE_HALF, 6, 2, URGENT_POINTER, 0));
    }
    if is_endless {
        body.extend([
            instruction(code::SHIFT_RIGHT, 3, 0, 0, 16),
            instruction(code::TO_BIG_ENDIAN, 3, 0, 0, 16),
            instruction(code::STORE_HALF, 6, 3, SOURCE_ADDRESS_END, 0),
            instruction(code::XOR, 3, 0, 0, 0xffff),
            instruction(code::STORE_HALF, 6, 3, IDENTIFICATION, 0),
        ]);
    }
    let mut program = vec![
        instruction(code::LOAD_WORD, 6, 1, DATA, 0),
        instruction(code::LOAD_WORD, 7, 1, DATA_END, 0),
        instruction(code::MOVE, 2, 6, 0, 0),
        instruction(code::ADD, 2, 0, 0, if is_tcp { TCP_END } else { UDP_END }),
        instruction(code::JUMP_IF_GREATER, 2, 7, body.len() as i16, 0),
    ];
    program.extend(body);
    program.extend(ending);
    program
}

pub(crate) fn ending(action: i32) -> [Instruction; 2] {
    [instruction(code::SET, 0, 0, 0, action), instruction(code::EXIT, 0, 0, 0, 0)]
}

impl Generator {
    /// Will send `frame`, an IPv4 packet of TCP or, without a checksum, of UDP, by `interface` of a namespace.
    pub(crate) fn new(
        namespace: &Namespace,
        interface: &str,
        entrance: Entrance,
        frame: Frame,
        conversations: Conversations,
    ) -> Result<Self> {
        let interface = index(namespace, interface)?;
        let end = match entrance {
            Entrance::Received => ending(XDP_PASS).to_vec(),
            Entrance::Sent => redirecting(interface).to_vec(),
        };
        let program = load(Hook::Xdp, &generating(&counter()?, conversations, &frame, &end))?;
        Ok(Self { program, frame, interface, known: None })
    }

    /// Has the kernel know the generator, for as long as the result lives: an idle device of the hosts has it. Before it runs one that it
    /// does not know, and afterwards, it changes its direct calls (`bpf_prog_change_xdp`), and waits a grace period each time.
    pub(crate) fn know(&self, hosts: &Hosts, idle: usize) -> Result<OwnedFd> {
        attach(Hook::Xdp, &self.program, hosts.pair.lab.fabric(), IDLE[idle])
    }

    /// For hosts where a program forwards, which comes before the generator: what counts is all the time until the generator ends, and
    /// with that the program's.
    pub(crate) fn for_programs(mut self, hosts: &Hosts, idle: usize) -> Result<Self> {
        self.known = Some(self.know(hosts, idle)?);
        Ok(self)
    }

    /// Sends `count` frames, and returns how long it took, but for grace periods before and after it. The calling thread must be inside the namespace.
    pub(crate) fn send(&self, count: u32) -> Result<Duration> {
        let batch = if self.known.is_some() { BATCH_FOR_PROGRAMS } else { BATCH };
        let begun = Instant::now();
        let run =
            TestRun { hook: Hook::Xdp, program: self.program.as_fd(), frame: &self.frame, interface: self.interface };
        let time = run.live(count, batch).context("sending frames")?.time * count;
        Ok(if self.known.is_some() { begun.elapsed() } else { time })
    }
}

impl Sink {
    /// Has a machine's interface drop everything that it receives.
    pub(crate) fn at(machine: &Namespace, interface: &str) -> Result<Self> {
        let link = attach(Hook::Xdp, &load(Hook::Xdp, &ending(XDP_DROP))?, machine, interface)?;
        let mut sink = Self { _link: link, received_before: 0 };
        sink.take(machine)?;
        Ok(sink)
    }

    /// What has arrived since the last time, once nothing comes any more.
    pub(crate) fn take(&mut self, machine: &Namespace) -> Result<u64> {
        let mut last = received(machine)?;
        // What is still on its way when the generator returns is some hundred frames.
        wait_for("the last frame has arrived", || {
            let now = received(machine)?;
            let is_all = now == last;
            last = now;
            Ok(is_all.then_some(()))
        })?;
        let new = last - self.received_before;
        self.received_before = last;
        Ok(new)
    }
}

/// Frames that `eth0` of a machine has received.
fn received(machine: &Namespace) -> Result<u64> {
    let table = machine.inside(|| fs::read_to_string("/proc/thread-self/net/dev").context("reading counters"))?;
    let row = table.lines().find_map(|line| line.trim().strip_prefix("eth0:")).context("a row for eth0")?;
    row.split_whitespace().nth(1).and_then(|packets| packets.parse().ok()).context("packets received")
}
