//! Logging: to stderr, where the service manager picks it up, or to a file.

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal as _, Write},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Mutex,
};

use anyhow::Context as _;
use overlane_core::config::LogConfig;
use tracing_subscriber::{EnvFilter, fmt::writer::MakeWriterExt as _};

/// Starts logging: what an operator needs, or with `debug` what a developer needs. `RUST_LOG` overrides both.
///
/// A file that cannot be written to is fatal when the command line names it. When the configuration does, which was perhaps
/// written for other programs, the log goes to stderr and begins with the reason.
///
/// # Errors
/// When the file cannot be written to.
pub fn start(config: &LogConfig) -> anyhow::Result<()> {
    let default = if config.debug { "overlane=debug,warn" } else { "overlane=info,warn" };
    let mut filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    // It says of a lost connection what the agent says better, and at its finest level what was sent, passwords included.
    if let Ok(silence) = "lapin=off".parse() {
        filter = filter.add_directive(silence);
    }
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    let (file, trouble) = match (open(config), &config.named_by) {
        (Ok(file), _) => (file, None),
        (Err(error), Some(place)) => (None, Some(format!("{place}: {error:#}: the log goes to stderr"))),
        (Err(error), None) => return Err(error),
    };
    match file.map(Mutex::new) {
        Some(file) if config.use_stderr => subscriber.with_writer(file.and(io::stderr)).with_ansi(false).init(),
        Some(file) => subscriber.with_writer(file).with_ansi(false).init(),
        None => subscriber.with_writer(io::stderr).with_ansi(io::stderr().is_terminal()).init(),
    }
    if let Some(trouble) = trouble {
        tracing::warn!("{trouble}");
    }
    Ok(())
}

fn open(config: &LogConfig) -> anyhow::Result<Option<LogFile>> {
    let Some(path) = config.path() else { return Ok(None) };
    LogFile::open(&path).map(Some).with_context(|| format!("opening the log file {}", path.display()))
}

/// A file that is opened again when logrotate has moved it away.
struct LogFile {
    path: PathBuf,
    file: File,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn is_in_place(&self) -> bool {
        let ours = self.file.metadata().map(|file| (file.dev(), file.ino()));
        let there = self.path.metadata().map(|file| (file.dev(), file.ino()));
        matches!((ours, there), (Ok(ours), Ok(there)) if ours == there)
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // What cannot be opened now may be later; meanwhile the moved file takes the lines.
        if !self.is_in_place()
            && let Ok(anew) = Self::open(&self.path)
        {
            *self = anew;
        }
        self.file.write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_log_that_is_moved_away_is_begun_anew() -> io::Result<()> {
        let folder = std::env::temp_dir().join(format!("overlane-log-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let (path, moved) = (folder.join("a.log"), folder.join("a.log.1"));
        let mut log = LogFile::open(&path)?;
        log.write_all(b"one\n")?;
        fs::rename(&path, &moved)?;
        log.write_all(b"two\n")?;
        let found = (fs::read_to_string(&moved)?, fs::read_to_string(&path)?);
        fs::remove_dir_all(&folder)?;
        assert_eq!(found, ("one\n".to_owned(), "two\n".to_owned()));
        Ok(())
    }
}
