//! What the reconciler must know of a step before it takes it.

use overlane_core::action::{Action, DatapathAction, KernelAction, MapEntry, MapKey};

/// Attaching a program makes the kernel wait for a grace period.
pub(crate) fn is_slow(action: &Action) -> bool {
    matches!(action, Action::Datapath(DatapathAction::Attach { .. }))
}

/// What has no effect on traffic.
pub(crate) fn is_housekeeping(action: &Action) -> bool {
    matches!(action, Action::Datapath(DatapathAction::ForgetCounters { .. }))
}

/// A change of an entry of the big tables, which [`overlane_core::observed::Observed::record`] takes note of.
pub(crate) fn is_entry(action: &Action) -> bool {
    match action {
        Action::Kernel(action) => matches!(action, KernelAction::AddFdb(_) | KernelAction::DeleteFdb(_)),
        Action::Datapath(action) => matches!(
            action,
            DatapathAction::Put(
                MapEntry::Fdb(..) | MapEntry::Neighbor(..) | MapEntry::Port(..) | MapEntry::Security(_)
            ) | DatapathAction::Delete(MapKey::Fdb(_) | MapKey::Neighbor(_) | MapKey::Security(_))
        ),
    }
}
