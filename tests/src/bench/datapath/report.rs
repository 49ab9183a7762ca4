//! What the figures should be, and whether they are.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use comfy_table::{Table, presets};

use super::variants::VARIANTS;
use crate::figures::{Figure, Figures};

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    /// At least this.
    Low(f64),
    /// At most this.
    High(f64),
    /// At least this in the median, and never less than the second in any round.
    Steady(f64, f64),
}

/// A comparison with its limit.
struct Goal {
    comparison: &'static str,
    key: &'static str,
    limit: Limit,
}

const GOALS: [Goal; 10] = [
    Goal {
        comparison: "TC lane with groups / kernel with iptables groups",
        key: "tc_groups_vs_linuxbridge",
        limit: Limit::Low(3.5),
    },
    Goal { comparison: "TC lane, groups off / kernel, bridge-nf off", key: "tc_vs_kernel", limit: Limit::Low(2.0) },
    Goal {
        comparison: "XDP decapsulation, TC encapsulation, groups / kernel with iptables groups",
        key: "xdp_vs_linuxbridge",
        limit: Limit::Low(4.5),
    },
    Goal {
        comparison: "XDP at both ends, groups / kernel with iptables groups",
        key: "xdp_both_vs_linuxbridge",
        limit: Limit::Low(8.0),
    },
    Goal {
        comparison: "XDP at both ends, groups off / kernel, bridge-nf off",
        key: "xdp_both_vs_kernel",
        limit: Limit::Low(6.0),
    },
    Goal { comparison: "TC lane, groups off / no overlay", key: "tc_vs_raw", limit: Limit::Low(0.85) },
    Goal {
        comparison: "TCP, one stream: TC lane, groups off / kernel, bridge-nf off",
        key: "tcp_vs_kernel",
        limit: Limit::Steady(1.05, 1.0),
    },
    Goal {
        comparison: "median of TCP requests: TC lane with groups / kernel with iptables groups",
        key: "rr_p50_vs_linuxbridge",
        limit: Limit::High(0.75),
    },
    Goal {
        comparison: "cost of groups on an established flow, with a million flows and a thousand rules",
        key: "groups_cost",
        limit: Limit::High(4.0),
    },
    Goal {
        comparison: "superpackets that arrive whole in a tap, TCP and UDP",
        key: "superpackets_whole",
        limit: Limit::Low(100.0),
    },
];

impl Limit {
    fn is_reached(self, figure: &Figure) -> bool {
        match self {
            Self::Low(limit) => figure.value >= limit,
            Self::High(limit) => figure.value <= limit,
            Self::Steady(limit, worst) => figure.value >= limit && figure.min >= worst,
        }
    }

    fn text(self, unit: &str) -> String {
        match self {
            Self::Low(limit) => format!("≥ {limit} {unit}"),
            Self::High(limit) => format!("≤ {limit} {unit}"),
            Self::Steady(limit, worst) => format!("≥ {limit} {unit}, always ≥ {worst}"),
        }
    }
}

/// Figures, as people are shown them.
pub(crate) struct Report<'a> {
    figures: &'a Figures,
}

impl<'a> Report<'a> {
    pub(crate) const fn new(figures: &'a Figures) -> Self {
        Self { figures }
    }

    /// Prints the table, unless programs are to read the output.
    pub(crate) fn finish(&self, is_json: bool) -> Result<()> {
        if is_json {
            return Ok(());
        }
        let mut text = String::new();
        for variant in VARIANTS {
            text += &format!("{:<16} {}\n", variant.name, variant.about);
        }
        writeln!(io::stdout(), "{text}\n{}", self.table()).context("printing the table")
    }

    /// Every comparison that was made, with what it should come to.
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["COMPARISON", "KEY", "MEDIAN", "SPREAD", "GOAL", ""]);
        for Goal { comparison, key, limit } in &GOALS {
            let Some(figure) = self.figures.get(key) else { continue };
            let Figure { value, unit, n, min, max } = figure;
            table.add_row([
                (*comparison).to_owned(),
                (*key).to_owned(),
                format!("{value:.2} {unit}"),
                format!("{n}: {min:.2} to {max:.2}"),
                limit.text(unit),
                if limit.is_reached(figure) { "reached" } else { "missed" }.to_owned(),
            ]);
        }
        table
    }
}
