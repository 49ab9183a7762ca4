//! Figures, as they are measured and as they are printed.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Everything that was measured.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct Figures {
    figures: BTreeMap<String, Figure>,
    #[serde(skip)]
    is_json: bool,
}

/// A figure: the median and the spread.
#[derive(Clone, Serialize)]
pub(crate) struct Figure {
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) n: usize,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Figures {
    pub(crate) fn new(is_json: bool) -> Self {
        Self { figures: BTreeMap::new(), is_json }
    }

    /// Notes the values of a figure.
    pub(crate) fn add(&mut self, name: impl Into<String>, unit: &'static str, mut values: Vec<f64>) {
        let name = name.into();
        values.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (values.first(), values.last()) else { return };
        let figure = Figure { value: values[values.len() / 2], unit, n: values.len(), min: *min, max: *max };
        eprintln!("{name:<24} {:>10.2} {unit} (n {}, {:.2} to {:.2})", figure.value, figure.n, figure.min, figure.max);
        self.figures.insert(name, figure);
    }

    /// A figure, if it was measured.
    pub(crate) fn get(&self, name: &str) -> Option<&Figure> {
        self.figures.get(name)
    }

    /// All figures, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Figure)> {
        self.figures.iter().map(|(name, figure)| (name.as_str(), figure))
    }

    /// Prints the object, if that is wanted; figures are printed as they come.
    pub(crate) fn finish(&self) -> Result<()> {
        if self.is_json {
            println!("{}", serde_json::to_string_pretty(&self.figures).context("writing JSON")?);
        }
        Ok(())
    }
}
