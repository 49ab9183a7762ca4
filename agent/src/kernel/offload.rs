//! What a link leaves to others to finish: `ethtool --offload`.

use std::io;

use super::ethtool;

/// `struct ethtool_value` of `linux/ethtool.h`.
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

/// From `linux/ethtool.h`.
const ETHTOOL_STXCSUM: u32 = 0x17;

/// Has packets leave a link of the calling thread's namespace with complete checksums.
///
/// # Errors
/// When there is no such link, or it cannot do otherwise.
pub fn finish_checksums(link: &str) -> io::Result<()> {
    ethtool::request(link, &mut EthtoolValue { cmd: ETHTOOL_STXCSUM, data: 0 })
}
