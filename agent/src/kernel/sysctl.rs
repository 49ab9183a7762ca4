//! Per-interface switches that netlink does not have.

use std::{fs, io, path::Path};

/// Keeps the kernel from giving an interface IPv6 addresses of its own: bridges and vxlan devices carry the guests'
/// traffic, the host has no part in it. A kernel without IPv6 needs nothing.
pub(super) fn disable_ipv6(interface: &str) -> io::Result<()> {
    let file = Path::new("/proc/sys/net/ipv6/conf").join(interface).join("disable_ipv6");
    match fs::write(file, "1") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
