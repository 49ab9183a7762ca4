//! Kernel settings that netlink does not offer.

use std::{fs, io, path::Path};

const PARAMETERS: &str = "/proc/sys";

/// What the kernel starts with.
const DEFAULT_PORT_RANGE: (u16, u16) = (32_768, 60_999);

/// Keeps a device from getting a link-local address: a bridge or vxlan device carries its guests' traffic, it takes no
/// part in it.
pub(super) fn disable_ipv6(interface: &str) -> io::Result<()> {
    match fs::write(ipv6_switch(interface), "1") {
        // A kernel without IPv6, or a device that is gone already, has nothing to disable.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Lets a device have IPv6 addresses; whether it could not before.
pub(super) fn enable_ipv6(interface: &str) -> io::Result<bool> {
    let switch = ipv6_switch(interface);
    let was_disabled = fs::read_to_string(&switch)?.trim() != "0";
    if was_disabled {
        fs::write(switch, "0")?;
    }
    Ok(was_disabled)
}

fn ipv6_switch(interface: &str) -> String {
    format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6")
}

/// First and last port that the kernel picks from, for sockets and for tunnels alike (`ip_local_port_range`).
pub fn local_port_range() -> (u16, u16) {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) => (first, last),
        _ => DEFAULT_PORT_RANGE,
    }
}

/// A parameter, by its place below `/proc/sys`; `None` where the kernel has none of that name.
pub fn parameter(name: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new(PARAMETERS).join(name)).ok()?;
    // Several numbers are separated by tabs.
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Sets a parameter, by its place below `/proc/sys`.
///
/// # Errors
/// When there is none of that name, or the kernel refuses.
pub fn set_parameter(name: &str, value: &str) -> io::Result<()> {
    fs::write(Path::new(PARAMETERS).join(name), value)
}
