//! What came of one look at the host and the steps that followed.

/// What a reconciliation came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Steps that succeeded.
    pub applied: usize,
    /// Steps that failed; they are planned again next time.
    pub failed: usize,
    /// Steps that were left for the next time, so that what has happened meanwhile does not wait for them.
    pub left: usize,
    /// Whether the host lacks something that may come back, such as the BPF file system.
    pub is_degraded: bool,
    /// Obstacles that only somebody else can remove.
    pub obstacles: usize,
}
