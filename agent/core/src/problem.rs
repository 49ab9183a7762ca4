//! What is wrong with a text that an operator wrote: every problem at once, each with its file and line.

use std::{fmt, path::PathBuf};

/// One problem in a configuration or topology file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file; empty where there is none, as nothing was configured at all.
    pub file: PathBuf,
    /// Line, from 1; `None` when the problem has no place (a missing option).
    pub line: Option<usize>,
    /// What is wrong and what would be right, in one sentence.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, message) = (self.file.display(), &self.message);
        match self.line {
            Some(line) => write!(f, "{file}:{line}: {message}"),
            None if self.file.as_os_str().is_empty() => write!(f, "no configuration file: {message}"),
            None => write!(f, "{file}: {message}"),
        }
    }
}

/// More than this many lines help nobody.
const SHOWN_MAX: usize = 100;

/// Every problem that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().take(SHOWN_MAX).enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        match self.0.len().checked_sub(SHOWN_MAX) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "\nand {more} more problems"),
        }
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_begins_with_its_place_or_says_that_there_is_none() {
        let shown = |file: &str, line| Problem { file: file.into(), line, message: "missing".to_owned() }.to_string();
        assert_eq!(shown("a.conf", Some(3)), "a.conf:3: missing");
        assert_eq!(shown("a.conf", None), "a.conf: missing");
        assert_eq!(shown("", None), "no configuration file: missing");
    }
}
