//! INI files as oslo.config reads them (`oslo_config/iniparser.py` and `cfg.py` in openstack/oslo.config): repeated
//! options, continuation lines, quotes, `=` or `:`, and `$name` substitution; and the environment variables that win over them
//! (`oslo_config/sources/_environment.py`).

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::problem::Problem;

/// The section that options without one belong to; the only name that oslo.config compares letter by letter.
const DEFAULT_SECTION: &str = "DEFAULT";

/// How deep `$a` may refer to `$b` and so on; deeper is taken for a circle.
const SUBSTITUTION_DEPTH_MAX: usize = 10;

/// What the names of environment variables begin with that stand for options: `OS_<SECTION>__<OPTION>`.
const ENVIRONMENT_PREFIX: &str = "OS_";
/// What is between section and option in them.
const ENVIRONMENT_SEPARATOR: &str = "__";

/// One option as it stands in a file or in the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub place: Place,
    /// Section, in lower case unless it is `DEFAULT`.
    pub section: String,
    /// Option name, in lower case, with `_` for `-`.
    pub name: String,
    /// Value. In a file, without surrounding quotes, and with continuation lines joined by line feeds.
    pub value: String,
}

/// Where an option stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    Line {
        /// The file.
        file: PathBuf,
        /// Line of its name, from 1.
        line: usize,
    },
    /// In an environment variable.
    Variable(String),
}

impl Place {
    /// The folder that a relative path in the option begins at; `None`: where the program was started.
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Line { file, .. } => file.parent(),
            Self::Variable(_) => None,
        }
    }

    /// A problem at this place.
    pub fn problem(&self, message: String) -> Problem {
        match self {
            Self::Line { file, line } => Problem { file: file.clone(), line: Some(*line), message },
            Self::Variable(name) => Problem { file: variable(name).into(), line: None, message },
        }
    }
}

/// An environment variable, as messages call it.
fn variable(name: &str) -> String {
    format!("environment variable {name}")
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Variable(name) => f.write_str(&variable(name)),
        }
    }
}

/// The options of several files, and of the environment.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    entries: Vec<Entry>,
    files: Vec<PathBuf>,
}

impl Settings {
    /// Adds the options of a file, which win over those of earlier files. Returns what could not be understood.
    pub fn add_file(&mut self, file: &Path, text: &str) -> Vec<Problem> {
        let (entries, problems) = parse(file, text);
        self.entries.extend(entries);
        self.files.push(file.to_owned());
        problems
    }

    /// Adds the options of environment variables, which win over those of files. Variables of other names are left alone.
    /// To be called after the last [`Settings::add_file`].
    pub fn add_environment<'a>(&mut self, variables: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let option = |(name, value): (&str, &str)| {
            let (section, option) = name.strip_prefix(ENVIRONMENT_PREFIX)?.split_once(ENVIRONMENT_SEPARATOR)?;
            Some(Entry {
                place: Place::Variable(name.to_owned()),
                section: section_name(section),
                name: option.to_ascii_lowercase(),
                value: value.to_owned(),
            })
        };
        self.entries.extend(variables.into_iter().filter_map(option));
    }

    /// The option that is in force: the last one.
    pub fn get(&self, section: &str, name: &str) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.section == section && entry.name == name)
    }

    /// The value in force, with `$name`, `${name}` and `${section.name}` replaced. A name that stands for nothing stays.
    pub fn value(&self, entry: &Entry) -> String {
        self.substitute(&entry.section, &entry.value, 0)
    }

    /// Every option, in the order of files and lines.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The last file that was read: where a missing option is missed.
    pub fn last_file(&self) -> PathBuf {
        self.files.last().cloned().unwrap_or_default()
    }

    fn substitute(&self, section: &str, value: &str, depth: usize) -> String {
        let mut result = String::new();
        let mut rest = value;
        while let Some((before, after)) = rest.split_once('$') {
            result.push_str(before);
            let (name, reference_len) = reference(after);
            rest = &after[reference_len..];
            let entry = match name.split_once('.') {
                Some((other, name)) => self.get(&section_name(other), name),
                None => self.get(section, name).or_else(|| self.get(DEFAULT_SECTION, name)),
            };
            match entry.filter(|_| depth < SUBSTITUTION_DEPTH_MAX) {
                Some(entry) => result.push_str(&self.substitute(&entry.section, &entry.value, depth + 1)),
                None => {
                    result.push('$');
                    result.push_str(&after[..reference_len]);
                }
            }
        }
        result.push_str(rest);
        result
    }
}

/// The name behind a `$`, and how many bytes it takes.
fn reference(after: &str) -> (&str, usize) {
    if let Some(end) = after.strip_prefix('{').and_then(|inner| inner.find('}')) {
        return (&after[1..=end], end + 2);
    }
    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
    (&after[..end], end)
}

fn section_name(raw: &str) -> String {
    if raw == DEFAULT_SECTION { raw.to_owned() } else { raw.to_ascii_lowercase() }
}

fn parse(file: &Path, text: &str) -> (Vec<Entry>, Vec<Problem>) {
    let mut entries: Vec<Entry> = Vec::new();
    let mut problems = Vec::new();
    let mut section = DEFAULT_SECTION.to_owned();
    let mut continues = false;
    for (index, line) in text.lines().enumerate() {
        let mut problem = |message: &str| {
            problems.push(Problem { file: file.to_owned(), line: Some(index + 1), message: message.to_owned() });
        };
        let content = line.trim();
        if content.is_empty() {
            continues = false;
        } else if content.starts_with(['#', ';']) {
            // A comment does not end a value that goes on.
        } else if line.starts_with([' ', '\t']) {
            match entries.last_mut().filter(|_| continues) {
                Some(entry) => {
                    entry.value.push('\n');
                    entry.value.push_str(content);
                }
                None => problem("a line that begins with a space continues an option, but there is none before it"),
            }
        } else if let Some(name) = content.strip_prefix('[') {
            continues = false;
            match name.strip_suffix(']') {
                Some(name) if !name.trim().is_empty() => section = section_name(name.trim()),
                _ => problem("a section looks like [name]"),
            }
        } else if let Some((name, value)) = content.split_once(['=', ':']).filter(|(name, _)| !name.trim().is_empty()) {
            continues = true;
            entries.push(Entry {
                place: Place::Line { file: file.to_owned(), line: index + 1 },
                section: section.clone(),
                name: name.trim().to_ascii_lowercase().replace('-', "_"),
                value: unquote(value.trim()).to_owned(),
            });
        } else {
            continues = false;
            problem("neither a section, an option (name = value) nor a comment");
        }
    }
    (entries, problems)
}

fn unquote(value: &str) -> &str {
    let quoted = |quote: char| value.strip_prefix(quote).and_then(|inner| inner.strip_suffix(quote));
    quoted('"').or_else(|| quoted('\'')).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(text: &str) -> Settings {
        let mut settings = Settings::default();
        assert_eq!(settings.add_file(Path::new("a.ini"), text), []);
        settings
    }

    fn value(settings: &Settings, section: &str, name: &str) -> Option<String> {
        settings.get(section, name).map(|entry| settings.value(entry))
    }

    #[test]
    fn options_are_found_whatever_the_case_of_their_section_and_the_dash_in_their_name() {
        let settings = settings("[VXLAN]\nLocal-IP: 10.0.0.1\n[DEFAULT]\nhost = 'a b'\n");
        assert_eq!(value(&settings, "vxlan", "local_ip").as_deref(), Some("10.0.0.1"));
        assert_eq!(value(&settings, "DEFAULT", "host").as_deref(), Some("a b"));
        assert_eq!(value(&settings, "default", "host"), None);
    }

    #[test]
    fn the_last_of_several_options_wins_within_a_file_and_across_files() {
        let mut settings = settings("[a]\nx = 1\nx = 2\n");
        assert_eq!(value(&settings, "a", "x").as_deref(), Some("2"));
        settings.add_file(Path::new("b.ini"), "[a]\nx = 3\n");
        assert_eq!(value(&settings, "a", "x").as_deref(), Some("3"));
    }

    #[test]
    fn environment_variables_win_over_files_and_may_refer_to_them() {
        let mut settings = settings("host = a\n[vxlan]\nttl = 1\ntos = 2\n");
        settings.add_environment([
            ("OS_DEFAULT__HOST", "b"),
            ("OS_VXLAN__TTL", "$tos"),
            ("OS_OSLO_MESSAGING_RABBIT__SSL", "True"),
            ("OS_AUTH_URL", "http://a"),
            ("HOST", "c"),
        ]);
        assert_eq!(value(&settings, "DEFAULT", "host").as_deref(), Some("b"));
        assert_eq!(value(&settings, "vxlan", "ttl").as_deref(), Some("2"));
        assert_eq!(value(&settings, "oslo_messaging_rabbit", "ssl").as_deref(), Some("True"));
        assert_eq!(settings.entries().len(), 6);
    }

    #[test]
    fn indented_lines_continue_a_value_even_past_a_comment() {
        let settings = settings("[a]\nx = 1,\n  # why\n  2\ny = 3\n");
        assert_eq!(value(&settings, "a", "x").as_deref(), Some("1,\n2"));
        assert_eq!(value(&settings, "a", "y").as_deref(), Some("3"));
    }

    #[test]
    fn names_behind_a_dollar_are_replaced_by_their_values() {
        let text = "state_path = /var/lib\n[a]\nx = $state_path/x\ny = ${b.z}!\nloop = $loop\nno = $nothing\n[b]\nz = $x\nx = 7\n";
        let settings = settings(text);
        assert_eq!(value(&settings, "a", "x").as_deref(), Some("/var/lib/x"));
        assert_eq!(value(&settings, "a", "y").as_deref(), Some("7!"));
        assert_eq!(value(&settings, "a", "loop").as_deref(), Some("$loop"));
        assert_eq!(value(&settings, "a", "no").as_deref(), Some("$nothing"));
    }

    #[test]
    fn every_line_that_is_not_understood_is_reported() {
        let mut settings = Settings::default();
        let problems = settings.add_file(Path::new("a.ini"), "[a\nnonsense\n  lost\n= 1\nx = 2\n");
        let lines: Vec<_> = problems.iter().filter_map(|problem| problem.line).collect();
        assert_eq!(lines, [1, 2, 3, 4]);
        assert_eq!(settings.entries().len(), 1);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\]=:$\\{\\}a-c\" \t#\n]{0,80}") {
            let mut settings = Settings::default();
            settings.add_file(Path::new("a.ini"), &text);
            for entry in settings.entries() {
                settings.value(entry);
            }
        }
    }
}
