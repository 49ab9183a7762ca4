//! Whether a program is attached where its pin says. Detached by force (`bpftool link detach`), a link's pin stays, and nobody is
//! told.

use std::io;

use nix::{errno::Errno, libc};

/// Command of bpf(2), from `enum bpf_cmd` of the kernel's `uapi/linux/bpf.h`.
const PROG_QUERY: libc::c_long = 16;
/// As many programs as the kernel takes at one side of an interface (`BPF_MPROG_MAX`).
const PROGRAMS_MAX: usize = 64;

/// A side of an interface, by its value in `enum bpf_attach_type`.
#[derive(Clone, Copy)]
pub(super) enum Side {
    /// `BPF_TCX_INGRESS`.
    Ingress = 46,
    /// `BPF_TCX_EGRESS`.
    Egress = 47,
}

/// The part of `union bpf_attr` that `BPF_PROG_QUERY` reads and writes.
#[repr(C)]
struct Query {
    ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    count: u32,
    pad: u32,
    program_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// Whether the program with this id is attached to a side of an interface; not when there is no such interface.
pub(super) fn is_attached(ifindex: u32, side: Side, program_id: u32) -> io::Result<bool> {
    let mut ids = [0_u32; PROGRAMS_MAX];
    let mut query = Query {
        ifindex,
        attach_type: side as u32,
        query_flags: 0,
        attach_flags: 0,
        program_ids: (&raw mut ids) as u64,
        count: PROGRAMS_MAX as u32,
        pad: 0,
        program_attach_flags: 0,
        link_ids: 0,
        link_attach_flags: 0,
        revision: 0,
    };
    // SAFETY: the kernel reads and writes `query`, and writes no more than `count` numbers to `ids`; both outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut query, size_of::<Query>()) };
    match Errno::result(result) {
        Ok(_) => Ok(ids.iter().take(query.count as usize).any(|id| *id == program_id)),
        // No interface, or nothing has ever been attached to it.
        Err(Errno::ENODEV | Errno::ENOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
