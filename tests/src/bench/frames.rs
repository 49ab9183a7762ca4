//! Frames by the million: a generator that needs a fraction of a microsecond for each, and a sink that needs less.
//!
//! The generator runs an XDP program on "live frames" (the kernel's `Documentation/bpf/bpf_prog_run.rst`): what the program
//! passes enters the stack as if an interface had received it. All that follows happens on the CPU that asks for it, so
//! the time for a number of frames is what the path costs one core. The sink is an XDP program that drops.
//!
//! The two programs are a few instructions each, written out here: the project's own object holds nothing that only benches need.

use std::{
    fs,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{errno::Errno, libc, net::if_::if_nametoindex};
use overlane_tests::{lab::Namespace, packet::Frame, wait::wait_for};

/// Commands, types and flags of bpf(2), from the kernel's `uapi/linux/bpf.h`.
const MAP_CREATE: libc::c_long = 0;
const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;
const LINK_CREATE: libc::c_long = 28;
const MAP_TYPE_ARRAY: u32 = 2;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const LIVE_FRAMES: u32 = 1 << 1;
/// `XDP_FLAGS_DRV_MODE`: in the driver, before there is an skb.
const DRIVER_MODE: u32 = 1 << 2;

/// What a program returns.
const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;

/// Frames that the kernel takes through the program at once: its own default.
const BATCH: u32 = 64;

/// Which conversation a frame belongs to: its guest's port counts up from frame to frame, and begins again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conversations {
    /// Whether the port is the frame's source or its destination.
    pub(crate) side: Side,
    /// The first port; a multiple of `count`.
    pub(crate) first: u16,
    /// How many ports; a power of two.
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
    /// The device that seems to receive them, and where it is.
    interface: u32,
}

/// Where frames end; for as long as this lives.
pub(crate) struct Sink {
    _link: OwnedFd,
    received_before: u64,
}

/// One instruction (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// An instruction that works on `to`, with `from` where it needs another register.
const fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, immediate }
}

/// Opcodes, as the kernel's `Documentation/bpf/standardization/instruction-set.rst` has them.
mod code {
    pub(super) const LOAD_ADDRESS: u8 = 0x18;
    pub(super) const LOAD_WORD: u8 = 0x61;
    pub(super) const STORE_WORD: u8 = 0x63;
    pub(super) const STORE_HALF: u8 = 0x6b;
    pub(super) const MOVE: u8 = 0xbf;
    pub(super) const SET: u8 = 0xb7;
    pub(super) const ADD: u8 = 0x07;
    pub(super) const AND: u8 = 0x57;
    pub(super) const XOR: u8 = 0xa7;
    pub(super) const SHIFT_RIGHT: u8 = 0x77;
    pub(super) const TO_BIG_ENDIAN: u8 = 0xdc;
    pub(super) const JUMP_IF_GREATER: u8 = 0x2d;
    pub(super) const EXIT: u8 = 0x95;
}

/// Gives a UDP or TCP packet, over IPv4 without options, the next port, and passes it on.
///
/// UDP needs no checksum. In TCP segments the urgent pointer, which means nothing without its flag, takes the port's complement:
/// so the checksum stays right.
fn generating(counter: &OwnedFd, conversations: Conversations, is_tcp: bool) -> Vec<Instruction> {
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
    let port = PORTS + if side == Side::Source { 0 } else { 2 };
    let mut body = vec![
        instruction(code::LOAD_ADDRESS, 1, VALUE_OF_MAP, 0, counter.as_raw_fd()),
        instruction(0, 0, 0, 0, 0),
        instruction(code::LOAD_WORD, 2, 1, 0, 0),
        instruction(code::MOVE, 3, 2, 0, 0),
        instruction(code::ADD, 3, 0, 0, 1),
        instruction(code::STORE_WORD, 1, 3, 0, 0),
        instruction(code::AND, 2, 0, 0, count as i32 - 1),
        instruction(code::ADD, 2, 0, 0, first.into()),
        instruction(code::TO_BIG_ENDIAN, 2, 0, 0, 16),
        instruction(code::STORE_HALF, 6, 2, port, 0),
    ];
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
    program.extend(ending(XDP_PASS));
    program
}

fn ending(action: i32) -> [Instruction; 2] {
    [instruction(code::SET, 0, 0, 0, action), instruction(code::EXIT, 0, 0, 0, 0)]
}

impl Generator {
    /// Will send `frame`, an IPv4 packet of TCP or, without a checksum, of UDP, into a host as if `interface` had received it.
    pub(crate) fn new(host: &Namespace, interface: &str, frame: Frame, conversations: Conversations) -> Result<Self> {
        const PROTOCOL: usize = 23;
        const TCP: u8 = 6;
        let program = load(&generating(&counter()?, conversations, frame.0[PROTOCOL] == TCP))?;
        Ok(Self { program, frame, interface: index(host, interface)? })
    }

    /// Sends `count` frames, and returns how long it took. Preparing it takes the kernel a grace period, which does not count. The
    /// calling thread must be inside the host.
    pub(crate) fn send(&self, count: u32) -> Result<Duration> {
        /// `struct xdp_md`.
        #[repr(C)]
        struct Context {
            data: u32,
            data_end: u32,
            data_meta: u32,
            ingress_ifindex: u32,
            rx_queue_index: u32,
            egress_ifindex: u32,
        }
        /// The part of `union bpf_attr` for this command.
        #[repr(C)]
        #[derive(Default)]
        struct Attributes {
            program: u32,
            result: u32,
            frame_len: u32,
            output_len: u32,
            frame: u64,
            output: u64,
            repeat: u32,
            nanos_per_frame: u32,
            context_len: u32,
            context_output_len: u32,
            context: u64,
            context_output: u64,
            flags: u32,
            cpu: u32,
            batch: u32,
            pad: u32,
        }
        let frame_len = self.frame.0.len() as u32;
        let context = Context {
            data: 0,
            data_end: frame_len,
            data_meta: 0,
            ingress_ifindex: self.interface,
            rx_queue_index: 0,
            egress_ifindex: 0,
        };
        let mut attributes = Attributes {
            program: self.program.as_raw_fd() as u32,
            frame_len,
            frame: self.frame.0.as_ptr() as u64,
            repeat: count,
            context_len: size_of::<Context>() as u32,
            context: (&raw const context) as u64,
            flags: LIVE_FRAMES,
            batch: BATCH,
            ..Attributes::default()
        };
        // SAFETY: frame and context outlive the call.
        unsafe { bpf(PROG_TEST_RUN, &mut attributes) }.context("sending frames")?;
        Ok(Duration::from_nanos(attributes.nanos_per_frame.into()) * count)
    }
}

impl Sink {
    /// Has a machine's interface drop everything that it receives.
    pub(crate) fn at(machine: &Namespace, interface: &str) -> Result<Self> {
        /// The part of `union bpf_attr` for this command.
        #[repr(C)]
        struct Attributes {
            program: u32,
            interface: u32,
            kind: u32,
            flags: u32,
        }
        let program = load(&ending(XDP_DROP))?;
        let interface = index(machine, interface)?;
        let mut attributes =
            Attributes { program: program.as_raw_fd() as u32, interface, kind: ATTACH_XDP, flags: DRIVER_MODE };
        // SAFETY: it refers to no memory.
        let link = machine.inside(move || unsafe { bpf(LINK_CREATE, &mut attributes) }.context("attaching a sink"))?;
        // SAFETY: the kernel has just made it for us.
        let link = unsafe { OwnedFd::from_raw_fd(link) };
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

fn index(namespace: &Namespace, interface: &str) -> Result<u32> {
    namespace.inside(|| if_nametoindex(interface).with_context(|| format!("finding {interface}")))
}

/// A map with one number in it, zero, which a program that is loaded with it keeps.
fn counter() -> Result<OwnedFd> {
    /// The part of `union bpf_attr` for this command.
    #[repr(C)]
    struct Attributes {
        kind: u32,
        key_size: u32,
        value_size: u32,
        entries: u32,
    }
    let mut attributes = Attributes { kind: MAP_TYPE_ARRAY, key_size: 4, value_size: 4, entries: 1 };
    // SAFETY: it refers to no memory.
    let map = unsafe { bpf(MAP_CREATE, &mut attributes) }.context("making a map")?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(map) })
}

fn load(program: &[Instruction]) -> Result<OwnedFd> {
    /// The part of `union bpf_attr` for this command, up to the last field that is used.
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        kind: u32,
        length: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_len: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
        interface: u32,
        expected_attach_type: u32,
    }
    let mut attributes = Attributes {
        kind: PROG_TYPE_XDP,
        length: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        expected_attach_type: ATTACH_XDP,
        ..Attributes::default()
    };
    // SAFETY: program and licence outlive the call.
    let program = unsafe { bpf(PROG_LOAD, &mut attributes) }.context("loading an XDP program")?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(program) })
}

/// bpf(2); the kernel writes its answers, where there are any, into `attributes`.
///
/// # Safety
/// What `attributes` point to must be there.
// SAFETY: whoever calls it promises that, and says why at the call.
unsafe fn bpf<T>(command: libc::c_long, attributes: &mut T) -> Result<RawFd> {
    // SAFETY: as the caller has promised; the kernel knows the length and takes the rest for zero.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    Ok(Errno::result(result).context("bpf")? as RawFd)
}
