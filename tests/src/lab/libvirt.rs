//! What libvirt does with the tap that it has made for a machine.

use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use nix::{
    libc,
    net::if_::if_nametoindex,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

use super::Host;

/// `SIOCBRADDIF` of the kernel's `uapi/linux/sockios.h`.
const ADD_BRIDGE_PORT: libc::c_ulong = 0x89a2;

nix::ioctl_write_ptr_bad!(
    /// Makes a device a port of a bridge, and refuses when it is one of any bridge already (`br_add_if`).
    add_bridge_port, ADD_BRIDGE_PORT, libc::ifreq
);

/// Puts a tap into a bridge, and sets it up. By the same call as libvirt: asked by netlink, the kernel would take the tap out
/// of whatever bridge it is in.
///
/// # Errors
/// When the tap is part of a bridge already.
pub fn connect_as_libvirt_does(host: &Host, tap: &str, bridge: &str) -> Result<()> {
    host.namespace.inside(|| {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None).context("a socket")?;
        // SAFETY: all zeroes is a valid `ifreq`.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (place, byte) in request.ifr_name.iter_mut().zip(bridge.bytes()) {
            *place = byte.try_into().context("an interface name in ASCII")?;
        }
        let ifindex = if_nametoindex(tap).with_context(|| format!("looking for {tap}"))?;
        request.ifr_ifru.ifru_ifindex = ifindex.try_into().context("an interface index")?;
        // SAFETY: the request is complete and outlives the call.
        unsafe { add_bridge_port(socket.as_raw_fd(), &raw const request) }
            .with_context(|| format!("adding {tap} to {bridge}, as libvirt does"))?;
        Ok(())
    })?;
    host.run(&format!("ip link set {tap} up")).map(drop)
}
