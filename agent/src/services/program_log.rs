//! What programs print: kept in their folder for their last words, which say why they have ended, and not for ever.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

/// How much of the disk a log may take, and how much of one is looked at for the last words, in bytes.
const BYTES_MAX: u64 = 1 << 20;
const LAST_WORDS_BYTES: u64 = 4096;
/// What `stat` counts in.
const BLOCK_BYTES: u64 = 512;

fn path(folder: &Path) -> PathBuf {
    folder.join("log")
}

/// Begins an empty log. It is appended to, so that it can be emptied under the program.
///
/// # Errors
/// When there cannot be one.
pub(super) fn begin(folder: &Path) -> anyhow::Result<File> {
    let path = path(folder);
    let _ = fs::remove_file(&path);
    let log = File::options().append(true).create(true).open(&path);
    log.with_context(|| format!("creating {}", path.display()))
}

/// Whether a program of ours has been running in a folder.
pub(super) fn is_in(folder: &Path) -> bool {
    path(folder).exists()
}

/// Empties a log that has grown too long: a program that runs for years, and hears what machines say, must not fill a disk.
pub(super) fn bound(folder: &Path) {
    let path = path(folder);
    // By what it takes of the disk: what an older agent has started does not append, and leaves a hole.
    let has_grown = fs::metadata(&path).is_ok_and(|log| log.blocks() * BLOCK_BYTES > BYTES_MAX);
    if has_grown && let Err(error) = File::options().write(true).open(&path).and_then(|log| log.set_len(0)) {
        tracing::warn!(error = %error, "could not empty {}", path.display());
    }
}

/// What a program has said last, which is why it ended.
pub(super) fn last_words(folder: &Path) -> Option<String> {
    let mut log = File::open(path(folder)).ok()?;
    let begin = log.metadata().ok()?.len().saturating_sub(LAST_WORDS_BYTES);
    log.seek(SeekFrom::Start(begin)).ok()?;
    let mut text = Vec::new();
    log.take(LAST_WORDS_BYTES).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.lines().rev().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_last_words_are_the_last_line_that_says_something_however_long_the_log_is() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        assert_eq!(last_words(folder.path()), None);
        let mut log = begin(folder.path())?;
        assert_eq!(last_words(folder.path()), None);
        // Nothing that could be read whole.
        log.set_len(1 << 40)?;
        log.write_all(b"\nhello\n  cannot bind: address in use \n\n")?;
        assert_eq!(last_words(folder.path()).as_deref(), Some("cannot bind: address in use"));
        Ok(())
    }

    #[test]
    fn a_log_that_has_grown_too_long_begins_anew_under_its_program() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut log = begin(folder.path())?;
        log.write_all(b"hello\n")?;
        bound(folder.path());
        assert_eq!(log.metadata()?.len(), 6);
        log.write_all(&vec![b'x'; 2 << 20])?;
        bound(folder.path());
        log.write_all(b"goodbye\n")?;
        assert_eq!(fs::read_to_string(path(folder.path()))?, "goodbye\n");
        Ok(())
    }
}
