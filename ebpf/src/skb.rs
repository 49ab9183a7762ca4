//! A packet as the TC hooks see it: what the kernel's helpers change of it, and room for headers.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_ADJ_ROOM_ENCAP_L2_SHIFT, BPF_F_RECOMPUTE_CSUM, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC},
    helpers::{bpf_csum_level, bpf_get_hash_recalc, bpf_skb_change_tail, bpf_skb_vlan_pop, bpf_skb_vlan_push},
    programs::TcContext,
};
use network_types::eth::{EthHdr, EtherType};

use crate::buffer::{Buffer, Wire};

/// `BPF_CSUM_LEVEL_DEC` of `enum bpf_csum_level` in the kernel's `uapi/linux/bpf.h`.
const CSUM_LEVEL_DEC: u64 = 2;

/// "Ov" in ASCII: what `tc_index`, of 16 bits, is from a subport's device to its trunk's tap.
const FROM_SUBPORT: u32 = 0x4f76;

/// A packet at a TC hook; it begins with its Ethernet header.
#[derive(Clone, Copy)]
pub struct Skb<'a> {
    ctx: &'a TcContext,
}

impl<'a> Skb<'a> {
    #[inline(always)]
    pub fn new(ctx: &'a TcContext) -> Self {
        Self { ctx }
    }

    /// The context, for `aya-log`.
    #[inline(always)]
    pub fn ctx(self) -> &'a TcContext {
        self.ctx
    }

    /// The type and the contents (PCP, DEI, VID) of the tag that is kept beside the packet, if one is.
    #[inline(always)]
    pub fn vlan_tag(self) -> Option<(u16, u16)> {
        // SAFETY: as in `ifindex`.
        let (type_be, tci) = unsafe { ((*self.ctx.skb.skb).vlan_proto as u16, (*self.ctx.skb.skb).vlan_tci as u16) };
        self.has_vlan_tag().then_some((type_be, tci))
    }

    /// Adds an 802.1Q tag. It is kept beside the packet, or inserted by who needs it there: superpackets stay whole.
    #[inline(always)]
    pub fn push_vlan_tag(self, tci: u16) -> Result<(), HelperRefused> {
        // SAFETY: as in `ifindex`.
        match unsafe { bpf_skb_vlan_push(self.ctx.skb.skb, EtherType::Ieee8021q as u16, tci) } {
            0 => Ok(()),
            _ => Err(HelperRefused),
        }
    }

    /// Removes the outermost tag.
    #[inline(always)]
    pub fn pop_vlan_tag(self) -> Result<(), HelperRefused> {
        // SAFETY: as in `ifindex`.
        match unsafe { bpf_skb_vlan_pop(self.ctx.skb.skb) } {
            0 => Ok(()),
            _ => Err(HelperRefused),
        }
    }

    /// What queues go by (`SO_PRIORITY`); 0 unless somebody has set it.
    #[inline(always)]
    pub fn priority(self) -> u32 {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.ctx.skb.skb).priority }
    }

    /// What somebody has left with the packet (`SO_MARK`); 0 unless somebody has.
    #[inline(always)]
    pub fn mark(self) -> u32 {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.ctx.skb.skb).mark }
    }

    #[inline(always)]
    pub fn set_priority(self, priority: u32) {
        // SAFETY: as in `ifindex`, and programs at TC hooks may write this field.
        unsafe { (*self.ctx.skb.skb).priority = priority }
    }

    /// Notes that this packet comes from the device of a subport. Of the fields that stay with a packet from one interface to
    /// the next, `tc_index` is the one that nobody on the way reads or writes, and no machine can set.
    #[inline(always)]
    pub fn mark_as_subports(self) {
        // SAFETY: as in `ifindex`, and programs at TC hooks may write this field.
        unsafe { (*self.ctx.skb.skb).tc_index = FROM_SUBPORT }
    }

    /// Whether the packet has that mark, which is taken off.
    #[inline(always)]
    pub fn take_subports_mark(self) -> bool {
        // SAFETY: as in `mark_as_subports`.
        unsafe {
            let is_marked = (*self.ctx.skb.skb).tc_index == FROM_SUBPORT;
            (*self.ctx.skb.skb).tc_index = 0;
            is_marked
        }
    }

    /// The kernel's flow hash, the one that its own tunnels derive source ports from.
    #[inline(always)]
    pub fn flow_hash(self) -> u32 {
        // SAFETY: as in `ifindex`.
        unsafe { bpf_get_hash_recalc(self.ctx.skb.skb) }
    }

    /// Overwrites the packet from `offset` on.
    #[inline(always)]
    pub fn write<T>(self, offset: usize, value: &T) -> Result<(), HelperRefused> {
        self.ctx.store(offset, value, 0).map_err(|_| HelperRefused)
    }

    /// As `write`, for bytes that no checksum of the packet makes up for: the kernel may have the sum of all of them.
    #[inline(always)]
    pub fn write_summed<T>(self, offset: usize, value: &T) -> Result<(), HelperRefused> {
        self.ctx.store(offset, value, BPF_F_RECOMPUTE_CSUM.into()).map_err(|_| HelperRefused)
    }

    /// Makes `len` bytes of room behind the Ethernet header, `flags` saying what will stand there.
    #[inline(always)]
    pub fn grow(self, len: usize, flags: u32) -> Result<(), HelperRefused> {
        let inner_ethernet = (EthHdr::LEN as u64) << BPF_ADJ_ROOM_ENCAP_L2_SHIFT;
        self.ctx.adjust_room(len as i32, BPF_ADJ_ROOM_MAC, u64::from(flags) | inner_ethernet).map_err(|_| HelperRefused)
    }

    /// Makes `len` bytes of room behind the Ethernet header of a packet that is not to be a tunnel's.
    #[inline(always)]
    pub fn grow_plain(self, len: usize) -> Result<(), HelperRefused> {
        self.ctx.adjust_room(len as i32, BPF_ADJ_ROOM_MAC, 0).map_err(|_| HelperRefused)
    }

    /// Keeps the first `len` bytes only.
    #[inline(always)]
    pub fn cut(self, len: usize) -> Result<(), HelperRefused> {
        // SAFETY: as in `ifindex`.
        match unsafe { bpf_skb_change_tail(self.ctx.skb.skb, len as u32, 0) } {
            0 => Ok(()),
            _ => Err(HelperRefused),
        }
    }

    /// Removes `len` bytes behind the Ethernet header.
    #[inline(always)]
    pub fn shrink(self, len: usize, flags: u32) -> Result<(), HelperRefused> {
        self.ctx.adjust_room(-(len as i32), BPF_ADJ_ROOM_MAC, u64::from(flags)).map_err(|_| HelperRefused)
    }

    /// Tells the kernel that the outermost checksum it has validated is gone.
    #[inline(always)]
    pub fn forget_outer_checksum(self) {
        // SAFETY: as in `ifindex`. A refusal means that there was nothing to forget.
        unsafe { bpf_csum_level(self.ctx.as_ptr().cast(), CSUM_LEVEL_DEC) };
    }
}

impl Buffer for Skb<'_> {
    #[inline(always)]
    fn start(self) -> usize {
        self.ctx.data()
    }

    #[inline(always)]
    fn end(self) -> usize {
        self.ctx.data_end()
    }

    #[inline(always)]
    fn len(self) -> usize {
        self.ctx.len() as usize
    }

    #[inline(always)]
    fn ifindex(self) -> u32 {
        // SAFETY: the kernel passes a valid `__sk_buff` for as long as the program runs.
        unsafe { (*self.ctx.skb.skb).ifindex }
    }

    #[inline(always)]
    fn gso_size(self) -> usize {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.ctx.skb.skb).gso_size as usize }
    }

    #[inline(always)]
    fn has_vlan_tag(self) -> bool {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.ctx.skb.skb).vlan_present != 0 }
    }

    #[inline(always)]
    fn pull(self, len: usize) {
        let readable = self.end() - self.start();
        // Most short packets are readable as they are.
        if readable < len && readable < self.len() {
            // On failure `read` finds the packet too short, which is all that matters here.
            let _ = self.ctx.pull_data(len.min(self.len()) as u32);
        }
    }

    #[inline(always)]
    fn load<T: Wire>(self, offset: usize) -> Option<T> {
        self.ctx.load(offset).ok()
    }
}

/// A kernel helper refused.
pub struct HelperRefused;
