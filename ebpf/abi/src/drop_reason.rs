//! Why a packet was dropped. Only malformed overlay packets and unknown tunnel endpoints are: whatever is merely not
//! understood goes to the kernel.

/// Why a packet was dropped. A value is ABI and a metric label: append, never renumber or reuse.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// VXLAN to this host from an address that is no known VTEP.
    UnknownVtep = 0,
    /// A VXLAN packet that ends before its inner Ethernet header does.
    TruncatedOverlay = 1,
    /// The outer header says "congestion experienced", the inner one cannot carry that (RFC 6040 §4.2).
    CongestedNotEct = 2,
    /// The kernel refused the last step after the packet had been rewritten, so the kernel lane cannot carry it either.
    RewriteFailed = 3,
}

impl DropReason {
    /// Every reason, in the order of their values.
    pub const ALL: [Self; 4] = [Self::UnknownVtep, Self::TruncatedOverlay, Self::CongestedNotEct, Self::RewriteFailed];

    /// The name used in `show drops` and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownVtep => "unknown-vtep",
            Self::TruncatedOverlay => "truncated-overlay",
            Self::CongestedNotEct => "congested-not-ect",
            Self::RewriteFailed => "rewrite-failed",
        }
    }

    /// What it means and where to look, for an operator.
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::UnknownVtep => "VXLAN from an address that is no known host; is a host missing in the control plane?",
            Self::TruncatedOverlay => {
                "VXLAN packet shorter than its inner Ethernet header; is the underlay damaging packets?"
            }
            Self::CongestedNotEct => "outer header marked congested, inner traffic does not use ECN (RFC 6040)",
            Self::RewriteFailed => "the kernel refused to finish a rewritten packet; usually out of memory",
        }
    }
}
