//! The devices that XDP may send by.

use aya_ebpf::{bindings::xdp_action::XDP_PASS, btf_maps::DevMapHash, macros::btf_map};
use overlane_abi::limits;

#[btf_map(name = "xdp_devices")]
static XDP_DEVICES: DevMapHash<{ limits::XDP_DEVICES_MAX }> = DevMapHash::new();

/// Whether a device takes packets from XDP. If so it is where this packet goes when the program tells the kernel to redirect it.
#[inline(always)]
pub fn sends_by_xdp(ifindex: u32) -> bool {
    XDP_DEVICES.redirect(ifindex, XDP_PASS.into()).is_ok()
}
