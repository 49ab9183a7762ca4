//! Whether a program is attached where its pin says. Detached by force (`bpftool link detach`), a link's pin stays, and nobody is
//! told.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use nix::{errno::Errno, libc};

/// Commands of bpf(2), from `enum bpf_cmd` of the kernel's `uapi/linux/bpf.h`.
const OBJ_GET: libc::c_long = 7;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
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

/// Whether the XDP link that is pinned here is attached to an interface.
pub(super) fn is_xdp_attached(pin: &Path) -> io::Result<bool> {
    /// The part of `union bpf_attr` that `BPF_OBJ_GET` reads.
    #[repr(C)]
    struct Get {
        path: u64,
        fd: u32,
        flags: u32,
    }
    /// The part that `BPF_OBJ_GET_INFO_BY_FD` reads and writes.
    #[repr(C)]
    struct GetInfo {
        fd: u32,
        len: u32,
        info: u64,
    }
    /// `struct bpf_link_info` of an XDP link.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        program_id: u32,
        pad: u32,
        /// 0 once it is detached, or its interface is gone.
        ifindex: u32,
        rest: [u32; 7],
    }
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut get = Get { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the kernel reads `get` and the path, which both outlive the call.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_bpf, OBJ_GET, &raw mut get, size_of::<Get>()) })?;
    // SAFETY: the kernel has just made it for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let mut info = Info::default();
    let mut get_info =
        GetInfo { fd: fd.as_raw_fd() as u32, len: size_of::<Info>() as u32, info: (&raw mut info) as u64 };
    // SAFETY: the kernel writes no more than `len` bytes to `info`; both outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, OBJ_GET_INFO_BY_FD, &raw mut get_info, size_of::<GetInfo>()) };
    Errno::result(result)?;
    Ok(info.ifindex != 0)
}
