//! From a program's verdict to the kernel's action, counting on the way.

use aya_ebpf::{
    bindings::{BPF_F_INGRESS, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::bpf_redirect,
};
use aya_log_ebpf::debug;
use overlane_abi::{DropReason, Hook, Outcome};

use crate::{maps, skb::Skb};

/// What a program has decided.
#[must_use]
#[derive(Clone, Copy)]
pub enum Verdict {
    /// Go on as if the program were not there.
    Pass(Outcome),
    /// Send out of an interface.
    Redirect(Outcome, u32),
    /// Have an interface receive it, for the kernel to go on from there.
    Enter(Outcome, u32),
    /// Discard.
    Drop(DropReason),
}

/// Runs a program on a packet, counts what becomes of it, and tells the kernel.
#[inline(always)]
pub fn conclude(skb: Skb, hook: Hook, program: impl FnOnce(Skb) -> Verdict) -> i32 {
    // The length on arrival: programs add and remove headers.
    let bytes = skb.len() as u64;
    let verdict = program(skb);
    let outcome = match verdict {
        Verdict::Pass(outcome) | Verdict::Redirect(outcome, _) | Verdict::Enter(outcome, _) => outcome,
        Verdict::Drop(_) => Outcome::Dropped,
    };
    maps::count(skb.ifindex(), hook, outcome, bytes);
    match verdict {
        // "Unspecified" rather than "ok": programs that others have attached behind this one see the packet as well.
        Verdict::Pass(_) => TC_ACT_UNSPEC,
        // SAFETY: a helper call without pointers.
        Verdict::Redirect(_, ifindex) => unsafe { bpf_redirect(ifindex, 0) as i32 },
        // SAFETY: as above.
        Verdict::Enter(_, ifindex) => unsafe { bpf_redirect(ifindex, u64::from(BPF_F_INGRESS)) as i32 },
        Verdict::Drop(reason) => {
            maps::count_drop(skb.ifindex(), reason, bytes);
            debug!(skb.ctx(), "{} dropped {} bytes: {}", hook.name(), bytes, reason.name());
            TC_ACT_SHOT
        }
    }
}
