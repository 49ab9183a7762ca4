//! What the kernel's `bpf_skb_adjust_room` does here. Attached nowhere: the agent runs it by `BPF_PROG_TEST_RUN` on a packet of its
//! own, before it chooses lanes.

use aya_ebpf::bindings::{BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_NO_CSUM_RESET};
use overlane_abi::{HEADER_V4, Probe};

use crate::{encap::ENCAP_FLAGS, skb::Skb};

/// Makes or removes room for an outer header as `encap` and `decap` do, as the packet's priority says, with the further flags that
/// its mark holds.
#[inline(always)]
pub fn adjust(skb: Skb) -> i32 {
    let result = if skb.priority() == Probe::GROW {
        skb.grow(HEADER_V4, ENCAP_FLAGS | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | skb.mark())
    } else {
        skb.shrink(HEADER_V4, BPF_F_ADJ_ROOM_NO_CSUM_RESET | skb.mark())
    };
    if result.is_ok() { Probe::DONE } else { Probe::REFUSED }
}
