//! From a program's verdict to the kernel's action, counting on the way.

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::bpf_redirect,
};
use aya_log_ebpf::debug;
use overlane_abi::{DropReason, Hook, Outcome};

use crate::{buffer::Buffer as _, maps, skb::Skb};

/// What a program has decided. It fits a register, which is all that a function of its own can return.
#[must_use]
#[derive(Clone, Copy)]
pub enum Verdict {
    /// Go on as if the program were not there.
    Pass(Outcome),
    /// Send out of an interface, or enter by it.
    Redirect(Outcome, u32),
    /// Discard.
    Drop(DropReason),
}

/// Beside an interface index, which is never negative: the interface is to receive the packet.
const ENTER: u32 = 1 << 31;

impl Verdict {
    /// Have an interface receive the packet, for the kernel to go on from there.
    #[inline(always)]
    pub fn enter(outcome: Outcome, ifindex: u32) -> Self {
        Self::Redirect(outcome, ifindex | ENTER)
    }
}

/// Runs a program on a packet, counts what becomes of it, and tells the kernel.
#[inline(always)]
pub fn conclude(skb: Skb, hook: Hook, program: impl FnOnce(Skb) -> Verdict) -> i32 {
    // The length on arrival: programs add and remove headers.
    let (ifindex, bytes) = (skb.ifindex(), skb.len() as u64);
    let verdict = program(skb);
    let outcome = match verdict {
        Verdict::Pass(outcome) | Verdict::Redirect(outcome, _) => outcome,
        Verdict::Drop(_) => Outcome::Dropped,
    };
    maps::count(ifindex, hook, outcome, bytes);
    match verdict {
        // "Unspecified" rather than "ok": programs that others have attached behind this one see the packet as well.
        Verdict::Pass(_) => TC_ACT_UNSPEC,
        Verdict::Redirect(_, target) => {
            let flags = if target & ENTER == 0 { 0 } else { BPF_F_INGRESS };
            // SAFETY: a helper call without pointers.
            unsafe { bpf_redirect(target & !ENTER, flags.into()) as i32 }
        }
        Verdict::Drop(reason) => {
            tell_of_drop(skb.ctx(), hook, ifindex, reason, bytes);
            TC_ACT_SHOT
        }
    }
}

/// Counts a drop by its reason, and logs it.
///
/// A function of its own, for the stack that other packets do not need.
#[inline(never)]
pub fn tell_of_drop(ctx: &impl EbpfContext, hook: Hook, ifindex: u32, reason: DropReason, bytes: u64) {
    maps::count_drop(ifindex, reason, bytes);
    debug!(ctx, "{} dropped {} bytes: {}", hook.name(), bytes, reason.name());
}
