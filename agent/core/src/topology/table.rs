//! TOML tables with a memory of where everything stood, and of everything that was wrong.

use std::{cell::RefCell, collections::BTreeMap, fmt::Display, path::Path, str::FromStr};

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use crate::problem::Problem;

/// Collects problems and knows the lines of the text.
pub(super) struct Source<'a> {
    file: &'a Path,
    text: &'a str,
    /// Where each line begins: a file can be long, and every table in it wants to know its line.
    line_starts: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(offset, _)| offset + 1);
        let line_starts = std::iter::once(0).chain(ends).collect();
        Self { file, text, line_starts, problems: RefCell::default() }
    }

    /// Parses the text as far as it is TOML.
    pub(super) fn root(&self) -> Spanned<DeTable<'a>> {
        let (root, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            self.problem(error.span().map_or(0, |span| span.start), error.message());
        }
        root
    }

    pub(super) fn problem(&self, offset: usize, message: impl Display) {
        let line = Some(self.line(offset));
        self.problems.borrow_mut().push(Problem { file: self.file.to_owned(), line, message: message.to_string() });
    }

    fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        problems
    }
}

/// A table of the file.
#[derive(Clone, Copy)]
pub(super) struct Table<'s, 't> {
    source: &'s Source<'s>,
    table: &'t DeTable<'t>,
    /// What it is, for messages: `port`, say.
    what: &'static str,
    offset: usize,
}

impl<'s, 't> Table<'s, 't> {
    /// A table that may have `keys` and no others.
    pub(super) fn new(
        source: &'s Source<'s>,
        table: &'t DeTable<'t>,
        offset: usize,
        what: &'static str,
        keys: &[&str],
    ) -> Self {
        for (key, _) in table.iter().filter(|(key, _)| !keys.contains(&key.get_ref().as_ref())) {
            let known = keys.join(", ");
            let message = format!("unknown key {:?}; known for this {what}: {known}", key.get_ref());
            source.problem(key.span().start, message);
        }
        Self { source, table, what, offset }
    }

    /// Line of the table, from 1.
    pub(super) fn line(&self) -> usize {
        self.source.line(self.offset)
    }

    /// The tables of an array of tables.
    pub(super) fn tables(&self, key: &str, what: &'static str, keys: &[&str]) -> Vec<Table<'s, 't>> {
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let wrong = || {
            self.source.problem(value.span().start, format_args!("{key}: expected tables, written as [[{key}]]"));
            Vec::new()
        };
        let Some(array) = value.get_ref().as_array() else { return wrong() };
        let table = |item: &'t Spanned<DeValue<'t>>| {
            let table = item.get_ref().as_table()?;
            Some(Table::new(self.source, table, item.span().start, what, keys))
        };
        let tables: Option<Vec<_>> = array.iter().map(table).collect();
        tables.unwrap_or_else(wrong)
    }

    /// Whether there is such a key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Reports a missing key.
    pub(super) fn require(&self, key: &str) {
        if !self.table.contains_key(key) {
            self.source.problem(self.offset, format_args!("the {} has no {key}", self.what));
        }
    }

    /// A text that must be there and be a `T`.
    pub(super) fn required<T: FromStr<Err: Display>>(&self, key: &str) -> Option<T> {
        self.require(key);
        self.optional(key)
    }

    /// A text that must be a `T` if it is there.
    pub(super) fn optional<T: FromStr<Err: Display>>(&self, key: &str) -> Option<T> {
        let value = self.table.get(key)?;
        self.parse(key, value)
    }

    /// A list of texts that must all be `T`s.
    pub(super) fn list<T: FromStr<Err: Display>>(&self, key: &str) -> Vec<T> {
        let Some(value) = self.table.get(key) else { return Vec::new() };
        match value.get_ref().as_array() {
            Some(array) => array.iter().filter_map(|item| self.parse(key, item)).collect(),
            None => {
                self.wrong_type(key, value, "a list of texts");
                Vec::new()
            }
        }
    }

    /// A table of texts by name.
    pub(super) fn texts(&self, key: &str) -> BTreeMap<String, String> {
        let Some(value) = self.table.get(key) else { return BTreeMap::new() };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(key, value, "a table of texts, such as { name = \"text\" }");
            return BTreeMap::new();
        };
        let text = |name: &Spanned<DeString<'_>>, value| Some((name.get_ref().to_string(), self.parse(key, value)?));
        table.iter().filter_map(|(name, value)| text(name, value)).collect()
    }

    pub(super) fn boolean(&self, key: &str, default: bool) -> bool {
        let Some(value) = self.table.get(key) else { return default };
        value.get_ref().as_bool().unwrap_or_else(|| {
            self.wrong_type(key, value, "true or false");
            default
        })
    }

    /// A whole number from `min` to `max`.
    pub(super) fn integer(&self, key: &str, min: u32, max: u32) -> Option<u32> {
        let value = self.table.get(key)?;
        let number = value.get_ref().as_integer();
        let number = number.and_then(|number| u32::from_str_radix(number.as_str(), number.radix()).ok());
        let number = number.filter(|number| (min..=max).contains(number));
        if number.is_none() {
            self.source.problem(value.span().start, format_args!("{key}: expected a number from {min} to {max}"));
        }
        number
    }

    /// Reports a problem with the value of `key`, or with the table when it has none.
    pub(super) fn problem(&self, key: &str, message: impl Display) {
        let offset = self.table.get(key).map_or(self.offset, |value| value.span().start);
        self.source.problem(offset, message);
    }

    fn parse<T: FromStr<Err: Display>>(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<T> {
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(key, value, "a text in quotes");
            return None;
        };
        match text.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.source.problem(value.span().start, format_args!("{key} {text:?}: {error}"));
                None
            }
        }
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) {
        let found = value.get_ref().type_str();
        self.source.problem(value.span().start, format_args!("{key}: expected {expected}, found {found}"));
    }
}
