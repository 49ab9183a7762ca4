//! Programs of a few instructions, written out here: the project's own object holds nothing that only benches need.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use anyhow::{Context as _, Result};
use nix::{errno::Errno, libc, net::if_::if_nametoindex};
use overlane_tests::lab::Namespace;

/// Commands, types and flags of bpf(2), from the kernel's `uapi/linux/bpf.h`.
const MAP_CREATE: libc::c_long = 0;
const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
const MAP_TYPE_ARRAY: u32 = 2;

/// The index of `lo`, in every namespace.
pub(crate) const LOOPBACK: u32 = 1;

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// XDP in the driver, before there is an skb.
    Xdp,
    /// The ingress of an interface, as `tc` has it.
    TcIngress,
}

impl Hook {
    /// `enum bpf_prog_type`.
    const fn program_type(self) -> u32 {
        match self {
            Self::Xdp => 6,
            Self::TcIngress => 3,
        }
    }

    /// `enum bpf_attach_type`.
    const fn attach_type(self) -> u32 {
        match self {
            Self::Xdp => 37,
            Self::TcIngress => 46,
        }
    }

    /// `XDP_FLAGS_DRV_MODE`, so that nothing falls back to a slower way unnoticed.
    const fn flags(self) -> u32 {
        match self {
            Self::Xdp => 1 << 2,
            Self::TcIngress => 0,
        }
    }
}

/// One instruction (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// An instruction that works on `to`, with `from` where it needs another register.
pub(crate) const fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, immediate }
}

/// Opcodes, as the kernel's `Documentation/bpf/standardization/instruction-set.rst` has them.
pub(crate) mod code {
    pub(crate) const LOAD_ADDRESS: u8 = 0x18;
    pub(crate) const LOAD_WORD: u8 = 0x61;
    pub(crate) const STORE_WORD: u8 = 0x63;
    pub(crate) const STORE_HALF: u8 = 0x6b;
    pub(crate) const MOVE: u8 = 0xbf;
    pub(crate) const SET: u8 = 0xb7;
    pub(crate) const ADD: u8 = 0x07;
    pub(crate) const AND: u8 = 0x57;
    pub(crate) const XOR: u8 = 0xa7;
    pub(crate) const SHIFT_RIGHT: u8 = 0x77;
    pub(crate) const TO_BIG_ENDIAN: u8 = 0xdc;
    pub(crate) const JUMP_IF_GREATER: u8 = 0x2d;
    pub(crate) const DIVIDE: u8 = 0x37;
    pub(crate) const REMAINDER: u8 = 0x97;
    pub(crate) const CALL: u8 = 0x85;
    pub(crate) const EXIT: u8 = 0x95;
}

/// A map with one number in it, zero, which a program that is loaded with it keeps.
pub(crate) fn counter() -> Result<OwnedFd> {
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

/// Loads a program for a hook.
pub(crate) fn load(hook: Hook, program: &[Instruction]) -> Result<OwnedFd> {
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
        kind: hook.program_type(),
        length: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        expected_attach_type: hook.attach_type(),
        ..Attributes::default()
    };
    // SAFETY: program and licence outlive the call.
    let program = unsafe { bpf(PROG_LOAD, &mut attributes) }.context("loading a program")?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(program) })
}

/// Attaches a program, for as long as the result lives.
pub(crate) fn attach(hook: Hook, program: &OwnedFd, namespace: &Namespace, interface: &str) -> Result<OwnedFd> {
    /// The part of `union bpf_attr` for this command.
    #[repr(C)]
    struct Attributes {
        program: u32,
        interface: u32,
        kind: u32,
        flags: u32,
    }
    let mut attributes = Attributes {
        program: program.as_raw_fd() as u32,
        interface: index(namespace, interface)?,
        kind: hook.attach_type(),
        flags: hook.flags(),
    };
    let doing = || format!("attaching a program to {interface} of {}", namespace.name());
    // SAFETY: it refers to no memory.
    let link = namespace.inside(move || unsafe { bpf(LINK_CREATE, &mut attributes) }).with_context(doing)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

/// A program that sends whatever it sees out of an interface, which is in the same namespace.
pub(crate) fn redirecting(interface: u32) -> [Instruction; 4] {
    /// `bpf_redirect`.
    const REDIRECT: i32 = 23;
    [
        instruction(code::SET, 1, 0, 0, interface as i32),
        instruction(code::SET, 2, 0, 0, 0),
        instruction(code::CALL, 0, 0, 0, REDIRECT),
        instruction(code::EXIT, 0, 0, 0, 0),
    ]
}

/// A program that takes nothing in (`TC_ACT_SHOT`).
pub(crate) fn dropping() -> [Instruction; 2] {
    [instruction(code::SET, 0, 0, 0, 2), instruction(code::EXIT, 0, 0, 0, 0)]
}

/// The index of an interface.
pub(crate) fn index(namespace: &Namespace, interface: &str) -> Result<u32> {
    namespace.inside(|| if_nametoindex(interface).with_context(|| format!("finding {interface}")))
}

/// bpf(2); the kernel writes its answers, where there are any, into `attributes`.
///
/// # Safety
/// What `attributes` point to must be there.
// SAFETY: whoever calls it promises that, and says why at the call.
pub(crate) unsafe fn bpf<T>(command: libc::c_long, attributes: &mut T) -> Result<RawFd> {
    // SAFETY: as the caller has promised; the kernel knows the length and takes the rest for zero.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    Ok(Errno::result(result).context("bpf")? as RawFd)
}
