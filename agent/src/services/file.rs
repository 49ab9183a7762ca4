//! Files that programs read.

use std::{
    fs::{self, File, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use anyhow::Context as _;

/// Writes a file in one step, so that its reader never sees half of it.
///
/// # Errors
/// When it cannot be written.
pub(super) fn replace_file(path: &Path, text: &str, is_secret: bool) -> anyhow::Result<()> {
    let folder = path.parent().context("a file without a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let partial = path.with_extension("partial");
    // Programs give their privileges up, and must be able to read what is no secret whatever the umask is.
    let mode = if is_secret { 0o600 } else { 0o644 };
    let mut file = File::create(&partial).with_context(|| format!("creating {}", partial.display()))?;
    file.set_permissions(Permissions::from_mode(mode))
        .and_then(|()| file.write_all(text.as_bytes()))
        .with_context(|| format!("writing {}", partial.display()))?;
    fs::rename(&partial, path).with_context(|| format!("replacing {}", path.display()))
}
