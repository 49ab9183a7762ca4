//! Figures, as they are measured and as they are printed.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Everything that was measured.
pub(crate) struct Figures {
    figures: BTreeMap<&'static str, Figure>,
    is_json: bool,
}

/// A figure: the median and the spread.
#[derive(Serialize)]
struct Figure {
    value: f64,
    unit: &'static str,
    n: usize,
    min: f64,
    max: f64,
}

impl Figures {
    pub(crate) fn new(is_json: bool) -> Self {
        Self { figures: BTreeMap::new(), is_json }
    }

    /// Notes the values of a figure.
    pub(crate) fn add(&mut self, name: &'static str, unit: &'static str, mut values: Vec<f64>) {
        values.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (values.first(), values.last()) else { return };
        let figure = Figure { value: values[values.len() / 2], unit, n: values.len(), min: *min, max: *max };
        eprintln!("{name:<24} {:>10.2} {unit} (n {}, {:.2} to {:.2})", figure.value, figure.n, figure.min, figure.max);
        self.figures.insert(name, figure);
    }

    /// Prints the object, if that is wanted; figures are printed as they come.
    pub(crate) fn finish(&self) -> Result<()> {
        if self.is_json {
            println!("{}", serde_json::to_string_pretty(&self.figures).context("writing JSON")?);
        }
        Ok(())
    }
}
