//! Asking drivers: the ioctl behind `ethtool`, for links of the network namespace that the calling thread is in.

use std::{ffi::CString, io, mem, net::UdpSocket, os::fd::AsRawFd as _};

use nix::libc;

/// From `linux/sockios.h`.
const SIOCETHTOOL: libc::Ioctl = 0x8946;
/// From `linux/ethtool.h`.
const ETHTOOL_GDRVINFO: u32 = 0x03;

/// `struct ethtool_drvinfo` of `linux/ethtool.h`, as far as it is read.
#[repr(C)]
struct DriverInfo {
    cmd: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// The driver of a link, as `ethtool -i` names it.
///
/// # Errors
/// When there is no such link, or its driver does not say.
pub(super) fn driver(link: &str) -> io::Result<String> {
    let mut info = DriverInfo { cmd: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
    request(link, &mut info)?;
    let name = info.driver.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// Makes a request, which begins with its number; the answer takes its place.
///
/// # Errors
/// When there is no such link, or its driver refuses.
pub(super) fn request<T>(link: &str, value: &mut T) -> io::Result<()> {
    let name = CString::new(link)?;
    // SAFETY: the structure is plain old data, of which zeros are a valid value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    let bytes = name.as_bytes();
    if bytes.len() >= request.ifr_name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{link} is too long a name")));
    }
    for (target, byte) in request.ifr_name.iter_mut().zip(bytes) {
        *target = libc::c_char::from_ne_bytes([*byte]);
    }
    request.ifr_ifru.ifru_data = (&raw mut *value).cast();
    let socket = UdpSocket::bind("127.0.0.1:0").or_else(|_| UdpSocket::bind("[::]:0"))?;
    // SAFETY: the request and what it points to live until the call returns, and the kernel writes no more than the structure that
    // the number stands for, which is `T`.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
