//! What the reconciler must know of a step before it takes it.

use overlane_core::action::{Action, DatapathAction};

/// Attaching a program makes the kernel wait for a grace period.
pub(crate) fn is_slow(action: &Action) -> bool {
    matches!(action, Action::Datapath(DatapathAction::Attach { .. }))
}

/// What has no effect on traffic.
pub(crate) fn is_housekeeping(action: &Action) -> bool {
    matches!(action, Action::Datapath(DatapathAction::ForgetCounters { .. }))
}
