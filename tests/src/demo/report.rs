//! What the demo tells: to a person as it happens, or to a program at the end.

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Everything that was checked.
#[derive(Serialize)]
pub(crate) struct Report {
    ok: bool,
    checks: Vec<Check>,
    #[serde(skip)]
    is_json: bool,
}

#[derive(Serialize)]
struct Check {
    name: String,
    ok: bool,
    detail: String,
}

impl Report {
    pub(crate) fn new(is_json: bool) -> Self {
        Self { ok: true, checks: Vec::new(), is_json }
    }

    /// Tells a person something.
    pub(crate) fn say(&self, text: &str) {
        if self.is_json {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    }

    /// A new part of the story.
    pub(crate) fn title(&self, text: &str) {
        self.say(&format!("\n== {text} =="));
    }

    /// Notes a check and its result.
    pub(crate) fn check(&mut self, name: impl Into<String>, ok: bool, detail: impl Into<String>) {
        let (name, detail) = (name.into(), detail.into());
        self.say(&format!("{} {name}: {detail}", if ok { "ok    " } else { "FAILED" }));
        self.ok &= ok;
        self.checks.push(Check { name, ok, detail });
    }

    /// As `check`, for something that fails with an error.
    pub(crate) fn check_result(&mut self, name: impl Into<String>, result: Result<(bool, String)>) {
        match result {
            Ok((ok, detail)) => self.check(name, ok, detail),
            Err(error) => self.check(name, false, format!("{error:#}")),
        }
    }

    /// Whether all checks have passed so far.
    pub(crate) fn is_ok(&self) -> bool {
        self.ok
    }

    /// Prints the summary; whether all checks have passed.
    pub(crate) fn finish(&self) -> Result<bool> {
        let passed = self.checks.iter().filter(|check| check.ok).count();
        if self.is_json {
            println!("{}", serde_json::to_string_pretty(self).context("writing JSON")?);
        }
        self.say(&format!("\n{passed} of {} checks passed", self.checks.len()));
        Ok(self.ok)
    }
}
