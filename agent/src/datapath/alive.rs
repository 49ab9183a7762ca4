//! Whether a pinned attachment still is one. Detached by force (`bpftool link detach`), its pin stays, and nobody is told.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use nix::libc;

/// Commands of bpf(2), from `enum bpf_cmd` of the kernel's `uapi/linux/bpf.h`.
const OBJ_GET: libc::c_long = 7;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;

/// The part of `union bpf_attr` that `BPF_OBJ_GET` reads.
#[repr(C)]
struct Get {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that `BPF_OBJ_GET_INFO_BY_FD` reads.
#[repr(C)]
struct GetInfo {
    descriptor: u32,
    info_len: u32,
    info: u64,
}

/// The beginning of `struct bpf_link_info` for a tcx link.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    pad: u32,
    ifindex: u32,
    attach_type: u32,
}

/// The interface that a pinned tcx link is attached to; 0 when it is attached to none any more.
pub(super) fn interface_of(pin: &Path) -> io::Result<u32> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let get = Get { path: path.as_ptr() as u64, descriptor: 0, flags: 0 };
    // SAFETY: the path outlives the call.
    let descriptor = RawFd::try_from(unsafe { bpf(OBJ_GET, &get) }?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made the descriptor, for nobody else.
    let link = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let mut info = LinkInfo::default();
    let get_info = GetInfo {
        descriptor: link.as_raw_fd() as u32,
        info_len: size_of::<LinkInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    // SAFETY: the kernel writes no more than `info_len` bytes, and `info` outlives the call.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &get_info) }?;
    Ok(info.ifindex)
}

/// Calls bpf(2), and returns what it does: a descriptor, or 0.
// SAFETY: callers see to it that pointers in `attributes` are valid for what `command` does with them.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of `attributes`, and takes the rest for zero; the caller answers for
    // the pointers in it.
    match unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}
