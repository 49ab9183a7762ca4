//! The nf_tables tables of routers. Everything here happens in the namespace that the calling thread is in.

use overlane_core::services::Ruleset;

/// The fingerprint of the table that is there.
pub(super) fn fingerprint() -> anyhow::Result<Option<String>> {
    Ok(None)
}

/// Puts a table in the place of the one that is there.
pub(super) fn put(_ruleset: &Ruleset) -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}

/// Removes the table that is there.
pub(super) fn remove() -> anyhow::Result<()> {
    Ok(())
}
