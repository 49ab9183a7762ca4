//! Where the log goes, and how much of it: oslo.log's options in `[DEFAULT]`.

use std::path::{Path, PathBuf};

use super::read::Reader;
use crate::oslo_ini::Place;

pub(super) const OPTIONS: &[&str] = &["debug", "log_file", "log_dir", "use_stderr"];

/// The log file in a directory for logs. oslo.log calls it after the program, too.
const FILE: &str = "overlane.log";

/// How much is logged, and where to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// What developers want to know, too (`debug`).
    pub debug: bool,
    /// The file (`log_file`); relative to `directory` if there is one.
    pub file: Option<PathBuf>,
    /// Its folder (`log_dir`).
    pub directory: Option<PathBuf>,
    /// Whether what goes to a file goes to stderr as well (`use_stderr`).
    pub use_stderr: bool,
    /// Which of the options says that there is a file.
    pub named_by: Option<Place>,
}

impl LogConfig {
    /// The log file, if there is one; else everything goes to stderr.
    pub fn path(&self) -> Option<PathBuf> {
        let name = self.file.as_deref().or_else(|| self.directory.as_ref().map(|_| Path::new(FILE)))?;
        Some(self.directory.as_ref().map_or_else(|| name.to_owned(), |directory| directory.join(name)))
    }
}

impl Reader<'_> {
    pub(super) fn log(&mut self) -> LogConfig {
        let named_by = self.entry("DEFAULT", "log_file").or_else(|| self.entry("DEFAULT", "log_dir"));
        LogConfig {
            debug: self.boolean("DEFAULT", "debug", false),
            file: self.text("DEFAULT", "log_file").map(PathBuf::from),
            directory: self.text("DEFAULT", "log_dir").map(PathBuf::from),
            use_stderr: self.boolean("DEFAULT", "use_stderr", false),
            named_by: named_by.map(|entry| entry.place.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::read::tests::{MINIMAL, read};

    #[test]
    fn a_log_file_is_named_by_a_file_a_directory_or_both() {
        let path = |options: &str| read(&format!("{options}\n{MINIMAL}")).expect("valid").0.log.path();
        assert_eq!(path(""), None);
        assert_eq!(path("log_file = /var/log/a.log"), Some("/var/log/a.log".into()));
        assert_eq!(path("log_dir = /var/log/neutron"), Some("/var/log/neutron/overlane.log".into()));
        assert_eq!(path("log-dir = /var/log/neutron\nlog-file = a.log"), Some("/var/log/neutron/a.log".into()));
        assert_eq!(path("log_dir = /var/log/neutron\nlog_file = /tmp/a.log"), Some("/tmp/a.log".into()));
    }

    #[test]
    fn the_option_that_names_the_file_is_known_by_its_place() {
        let (config, notes) =
            read(&format!("debug = True\nlog_dir = /none\nuse_stderr = 1\n{MINIMAL}")).expect("valid");
        assert!(config.log.debug && config.log.use_stderr);
        assert_eq!(config.log.named_by.map(|place| place.to_string()).as_deref(), Some("/etc/o/a.ini:2"));
        assert_eq!(notes, []);
    }
}
