//! What a link leaves to others to finish, and what it does for others: `ethtool --offload`, `ethtool --show-features`.

use std::{collections::BTreeMap, ffi::CStr, io, sync::OnceLock};

use overlane_core::offload::NicFeatures;

use super::ethtool;

/// `struct ethtool_value` of `linux/ethtool.h`.
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

/// `struct ethtool_sset_info`, with room for one set.
#[repr(C)]
struct StringSetInfo {
    cmd: u32,
    reserved: u32,
    /// The sets that are asked for; those that there are.
    mask: u64,
    count: u32,
}

/// `struct ethtool_gstrings`.
#[repr(C)]
struct Strings {
    cmd: u32,
    set: u32,
    count: u32,
    strings: [[u8; 32]; FEATURES_MAX],
}

/// `struct ethtool_get_features_block`: 32 features.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FeaturesBlock {
    available: u32,
    requested: u32,
    active: u32,
    never_changed: u32,
}

/// `struct ethtool_gfeatures`.
#[repr(C)]
struct Features {
    cmd: u32,
    /// How many blocks there is room for.
    size: u32,
    blocks: [FeaturesBlock; FEATURES_MAX / 32],
}

/// Kernels know about sixty.
const FEATURES_MAX: usize = 256;

// From `linux/ethtool.h`.
const ETHTOOL_STXCSUM: u32 = 0x17;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETH_SS_FEATURES: u32 = 4;

/// Has packets leave a link of the calling thread's namespace with complete checksums.
///
/// # Errors
/// When there is no such link, or it cannot do otherwise.
pub fn finish_checksums(link: &str) -> io::Result<()> {
    ethtool::request(link, &mut EthtoolValue { cmd: ETHTOOL_STXCSUM, data: 0 })
}

/// What is switched on at a link of the calling thread's namespace.
///
/// # Errors
/// When there is no such link, or the kernel does not say.
pub(super) fn features(link: &str) -> io::Result<NicFeatures> {
    let positions = positions(link)?;
    let blocks = [FeaturesBlock::default(); FEATURES_MAX / 32];
    let mut features = Features { cmd: ETHTOOL_GFEATURES, size: blocks.len() as u32, blocks };
    ethtool::request(link, &mut features)?;
    let is_on = |name: &str| {
        let position = positions.get(name).copied();
        position.is_some_and(|position| features.blocks[position / 32].active & 1 << (position % 32) != 0)
    };
    Ok(NicFeatures {
        // Devices that are no NICs have none.
        driver: ethtool::driver(link).unwrap_or_default(),
        segments_tunnels: is_on("tx-udp_tnl-segmentation"),
        segments_tcp: is_on("tx-tcp-segmentation"),
        puts_together: is_on("rx-gro"),
        takes_tags_off: is_on("rx-vlan-hw-parse"),
    })
}

/// The positions of features, by name: the same for every link as long as the kernel runs.
fn positions(link: &str) -> io::Result<&'static BTreeMap<String, usize>> {
    static POSITIONS: OnceLock<BTreeMap<String, usize>> = OnceLock::new();
    if let Some(positions) = POSITIONS.get() {
        return Ok(positions);
    }
    let mut info = StringSetInfo { cmd: ETHTOOL_GSSET_INFO, reserved: 0, mask: 1 << ETH_SS_FEATURES, count: 0 };
    ethtool::request(link, &mut info)?;
    let count = info.count as usize;
    if info.mask == 0 || count > FEATURES_MAX {
        return Err(io::Error::new(io::ErrorKind::Unsupported, format!("the kernel names {count} features")));
    }
    // The kernel writes as many as it has just said that there are.
    let strings = [[0; 32]; FEATURES_MAX];
    let mut strings = Box::new(Strings { cmd: ETHTOOL_GSTRINGS, set: ETH_SS_FEATURES, count: info.count, strings });
    ethtool::request(link, &mut *strings)?;
    let name = |bytes: &[u8; 32]| Some(CStr::from_bytes_until_nul(bytes).ok()?.to_str().ok()?.to_owned());
    let names = strings.strings[..count].iter().enumerate();
    let positions = names.filter_map(|(position, bytes)| Some((name(bytes)?, position))).collect();
    Ok(POSITIONS.get_or_init(|| positions))
}

#[cfg(test)]
mod tests {
    use nix::libc;

    #[test]
    fn the_loopback_device_says_what_it_does_and_a_link_that_is_not_there_is_an_error() {
        let features = super::features("lo").expect("every namespace has one");
        assert!(features.segments_tcp, "{features:?}");
        assert!(super::positions("lo").expect("known by now").contains_key("tx-udp_tnl-segmentation"));
        let error = super::features("no-such-link").expect_err("there is none");
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }
}
