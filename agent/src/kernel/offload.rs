//! What a link leaves to others to finish: `ethtool --offload`.

use std::{ffi::CString, io, mem, net::UdpSocket, os::fd::AsRawFd as _};

use nix::libc;

/// `struct ethtool_value` of `linux/ethtool.h`.
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

/// From `linux/ethtool.h`.
const ETHTOOL_STXCSUM: u32 = 0x17;
/// From `linux/sockios.h`.
const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// Has packets leave a link of the calling thread's namespace with complete checksums.
///
/// # Errors
/// When there is no such link, or it cannot do otherwise.
pub fn finish_checksums(link: &str) -> io::Result<()> {
    let name = CString::new(link)?;
    let mut value = EthtoolValue { cmd: ETHTOOL_STXCSUM, data: 0 };
    // SAFETY: the structure is plain old data, of which zeros are a valid value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    let bytes = name.as_bytes();
    if bytes.len() >= request.ifr_name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{link} is too long a name")));
    }
    for (target, byte) in request.ifr_name.iter_mut().zip(bytes) {
        *target = libc::c_char::from_ne_bytes([*byte]);
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    let socket = UdpSocket::bind("127.0.0.1:0").or_else(|_| UdpSocket::bind("[::]:0"))?;
    // SAFETY: the request and what it points to live until the call returns, and the kernel writes nothing beyond them.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
