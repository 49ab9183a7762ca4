//! Figures as bars, in SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::{
    backend::SVGBackend,
    chart::ChartBuilder,
    drawing::IntoDrawingArea as _,
    element::{PathElement, Rectangle, Text},
    prelude::{IntoSegmentedCoord as _, SegmentValue},
    style::{Color as _, IntoFont as _, RGBColor, WHITE},
};

use crate::figures::Figure;

/// A row of bars.
pub(super) struct Plot<'a> {
    /// What is measured, and what is better.
    pub(super) title: &'a str,
    /// A name and a figure for each bar, from top to bottom.
    pub(super) bars: Vec<(&'a str, &'a Figure)>,
}

const WIDTH: u32 = 760;
const BAR: u32 = 26;
const AROUND_BARS: u32 = 90;
const LABELS: u32 = 130;
const OURS: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const LINES: RGBColor = RGBColor(0x42, 0x42, 0x42);
const OTHERS: RGBColor = RGBColor(0x9a, 0xa5, 0xb1);

impl Plot<'_> {
    /// Writes the plot: bars are medians, lines across their ends the spread; `is_ours` have another colour.
    pub(super) fn write(&self, path: &Path, is_ours: impl Fn(&str) -> bool) -> Result<()> {
        let explain = |error: &dyn std::fmt::Display| anyhow!("drawing {}: {error}", path.display());
        let count = self.bars.len();
        let height = AROUND_BARS + BAR * u32::try_from(count)?;
        let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE).map_err(|error| explain(&error))?;
        let longest = self.bars.iter().map(|(_, figure)| figure.max).fold(0.0, f64::max);
        let unit = self.bars.first().map_or("", |(_, figure)| figure.unit);
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, ("sans-serif", 16))
            .margin(8)
            .margin_right(24)
            .x_label_area_size(36)
            .y_label_area_size(LABELS)
            .build_cartesian_2d(0.0..longest * 1.12, (0..count).into_segmented())
            .map_err(|error| explain(&error))?;
        // The first one is at the top.
        let place = |index: usize| count - 1 - index;
        let name = |value: &SegmentValue<usize>| match value {
            SegmentValue::CenterOf(at) if *at < count => self.bars[place(*at)].0.to_owned(),
            _ => String::new(),
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .light_line_style(WHITE)
            .x_desc(unit)
            .x_labels(8)
            .y_labels(count)
            .y_label_formatter(&name)
            .draw()
            .map_err(|error| explain(&error))?;
        let bars = self.bars.iter().enumerate().map(|(index, (name, figure))| {
            let ends =
                [(0.0, SegmentValue::Exact(place(index))), (figure.value, SegmentValue::Exact(place(index) + 1))];
            let mut bar = Rectangle::new(ends, if is_ours(name) { OURS } else { OTHERS }.filled());
            bar.set_margin(4, 4, 0, 0);
            bar
        });
        chart.draw_series(bars).map_err(|error| explain(&error))?;
        let middle = |index| SegmentValue::CenterOf(place(index));
        let spreads = self.bars.iter().enumerate().map(|(index, (_, figure))| {
            PathElement::new([(figure.min, middle(index)), (figure.max, middle(index))], LINES.stroke_width(1))
        });
        chart.draw_series(spreads).map_err(|error| explain(&error))?;
        let values = self.bars.iter().enumerate().map(|(index, (_, figure))| {
            let font = ("sans-serif", 12).into_font().color(&LINES);
            Text::new(format!("{:.2}", figure.value), (figure.max + longest * 0.01, middle(index)), font)
        });
        chart.draw_series(values).map_err(|error| explain(&error))?;
        area.present().map_err(|error| explain(&error))
    }
}
