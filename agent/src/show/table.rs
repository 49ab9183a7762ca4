//! Rows as a table for people or as JSON for programs.

use std::io::Write;

use comfy_table::{Table, presets};
use serde::Serialize;

use crate::cli::Format;

/// A line of a table.
pub(super) trait Row: Serialize {
    /// Column titles.
    const TITLES: &'static [&'static str];
    /// The texts under them.
    fn cells(&self) -> Vec<String>;
}

pub(super) fn print<R: Row>(rows: &[R], format: Format, out: &mut impl Write) -> anyhow::Result<()> {
    if format == Format::Json {
        return print_json(&rows, out);
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(R::TITLES);
    for row in rows {
        table.add_row(row.cells());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

pub(super) fn print_json(value: &impl Serialize, out: &mut impl Write) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}
