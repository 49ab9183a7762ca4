//! What can go wrong with the fast lane, and in which words.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::{
    maps::{MapError, xdp::XdpMapError},
    programs::ProgramError,
};
use nix::{
    errno::Errno,
    sys::statfs::{FsType, statfs},
};

/// `BPF_FS_MAGIC` of the kernel's `uapi/linux/magic.h`.
const BPF_FS_MAGIC: FsType = FsType(0xcafe_4a11);

/// The fast lane cannot be used, or one of its steps failed.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The configured directory is not in a BPF file system.
    #[error("{0} is not in a BPF file system; mount one with: mount -t bpf bpf /sys/fs/bpf")]
    NoBpfFileSystem(PathBuf),
    /// The binary was built without the eBPF object.
    #[error("this overlane was built without its eBPF programs; build it with: cargo xtask build")]
    NoObject,
    /// The kernel refused for lack of capabilities.
    #[error("no permission for BPF: needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (or root)")]
    NoPermission,
    /// Nothing has been pinned yet.
    #[error("nothing is pinned in {0}: has the agent run, with fast_path = auto?")]
    NothingPinned(PathBuf),
    /// Programs of another version of the ABI must go on, and it cannot be seen which.
    #[error(
        "programs of another version carry VLANs, see {0}: run the agent of this version until it is ready, and try again"
    )]
    OtherVersion(PathBuf),
    /// The kernel refused the object or one of its maps.
    #[error("loading the eBPF object")]
    Load(#[source] Box<aya::EbpfError>),
    /// The verifier or the kernel refused a program.
    #[error("loading eBPF program {program}")]
    Program {
        /// Its name.
        program: &'static str,
        /// Why.
        #[source]
        source: Box<ProgramError>,
    },
    /// XDP cannot be let send by a device.
    #[error("letting XDP send by interface {ifindex}")]
    XdpDevice {
        /// Which.
        ifindex: u32,
        /// Why.
        #[source]
        source: XdpMapError,
    },
    /// A program could not be attached or its attachment could not be kept.
    #[error("attaching {program} to interface {ifindex}")]
    Attach {
        /// Its name.
        program: &'static str,
        /// Where.
        ifindex: u32,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A map could not be read or written.
    #[error("accessing map {map}")]
    Map {
        /// Its name.
        map: &'static str,
        /// Why.
        #[source]
        source: Box<MapError>,
    },
    /// The kernel's events cannot be waited for.
    #[error("listening to what the programs tell")]
    Events(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A map has no room for another entry.
    #[error("map {0} is full: {consequence}", consequence = without_entry(.0))]
    Full(&'static str),
    /// The pin directory could not be read or changed.
    #[error("accessing {path}")]
    Pins {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl DatapathError {
    pub(super) fn map(map: &'static str) -> impl Fn(MapError) -> Self {
        move |source| {
            if is_permission_denied(&source) { Self::NoPermission } else { Self::Map { map, source: Box::new(source) } }
        }
    }

    /// As `map`, for a new entry.
    pub(super) fn put(map: &'static str) -> impl Fn(MapError) -> Self {
        move |source| if is_full(&source) { Self::Full(map) } else { Self::map(map)(source) }
    }

    pub(super) fn load(source: aya::EbpfError) -> Self {
        if is_permission_denied(&source) { Self::NoPermission } else { Self::Load(Box::new(source)) }
    }

    /// The verifier is stricter with a process that lacks a capability, and refuses programs with the same error as bad ones.
    pub(super) fn program(program: &'static str) -> impl Fn(ProgramError) -> Self {
        move |source| {
            if is_permission_denied(&source) && lacks_a_capability() {
                Self::NoPermission
            } else {
                Self::Program { program, source: Box::new(source) }
            }
        }
    }

    pub(super) fn pins(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Pins { path: path.to_owned(), source }
    }
}

/// What a hash map without room says (kernel `Documentation/bpf/map_hash.rst`).
fn is_full(error: &MapError) -> bool {
    let MapError::SyscallError(error) = error else { return false };
    error.io_error.raw_os_error() == Some(Errno::E2BIG as i32)
}

/// Permission problems hide deep in aya's errors; they deserve words of their own.
fn is_permission_denied(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if current.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
            return true;
        }
        cause = current.source();
    }
    false
}

/// Whether this process has less than loading programs needs (capabilities(7); numbers from `uapi/linux/capability.h`).
fn lacks_a_capability() -> bool {
    const NET_ADMIN: u64 = 1 << 12;
    const SYS_ADMIN: u64 = 1 << 21;
    const PERFMON_AND_BPF: u64 = 1 << 38 | 1 << 39;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(effective) = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()) else { return false };
    let has_all_of = |set: u64| effective & set == set;
    !has_all_of(NET_ADMIN) || !(has_all_of(PERFMON_AND_BPF) || has_all_of(SYS_ADMIN))
}

/// Refuses a `bpffs` that could not hold pins.
pub(super) fn require_bpf_file_system(bpffs: &Path) -> Result<(), DatapathError> {
    // The directory itself is made by the agent: its nearest existing ancestor tells the file system.
    let existing = bpffs.ancestors().find(|path| path.exists()).unwrap_or(bpffs);
    match statfs(existing) {
        Ok(stat) if stat.filesystem_type() == BPF_FS_MAGIC => Ok(()),
        _ => Err(DatapathError::NoBpfFileSystem(bpffs.to_owned())),
    }
}

/// What becomes of what does not fit into a map (`overlane_abi::limits`).
fn without_entry(map: &str) -> &'static str {
    match map {
        "networks" | "fdb" | "vteps" | "neighbors" | "vlans" | "vlan_devices" | "xdp_devices" => {
            "the kernel lane carries what does not fit; with fewer ports or networks on this host there is room again"
        }
        "ports" => "ports that do not fit stay closed if they have security groups: this host has too many",
        "qos" => "ports that do not fit are not limited or marked: this host has too many",
        _ => {
            "what does not fit is not admitted, and its packets are dropped; fewer rules, members of remote groups or address pairs \
             make room again"
        }
    }
}
