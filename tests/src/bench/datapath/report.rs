//! What people and programs are shown: a table, a file, and plots.

use std::{
    env,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use comfy_table::{Table, presets};
use nix::sys::utsname::uname;
use serde::Serialize;

use super::{
    goals::GOALS,
    plots::Plot,
    variants::{VARIANTS, is_overlane},
};
use crate::figures::{Figure, Figures};

/// Figures, as people are shown them.
pub(crate) struct Report<'a> {
    figures: &'a Figures,
    about: About,
}

/// Where and with what it was measured.
#[derive(Serialize)]
struct About {
    kernel: String,
    cpu: String,
    cpus: usize,
    commit: String,
    /// How many others wanted a CPU on average while it was measured: one is the bench itself.
    load: f64,
}

/// What is plotted: a file's name, what it shows, and what comes before the variants' names in the figures' names.
const PLOTS: [(&str, &str, &str); 7] = [
    ("packets", "64 bytes, 16 flows, one CPU (more is better)", "pps_64_16_flows_"),
    ("packets-sent", "the same, sent by the machine's interface (more is better)", "pps_sent_64_16_flows_"),
    ("packets-100000-flows", "64 bytes, 100,000 flows, one CPU (more is better)", "pps_64_100000_flows_"),
    ("packets-taps", "64 bytes, real taps, system calls included (more is better)", "pps_taps_"),
    ("tcp", "TCP, one stream (more is better)", "tcp_1_"),
    ("latency", "TCP requests, median (less is better)", "tcp_rr_p50_"),
    ("connections", "TCP connections, one CPU (more is better)", "tcp_crr_"),
];
/// Of [`super::scale`], by what is before the size.
const SCALE: (&str, &str, &str) = ("scale", "entries in each map (the same is better)", "scale_");
const SIZES: [&str; 3] = ["10", "1000", "100000"];

/// Between these lines of the document is what was measured.
const BEGIN: &str = "<!-- Measured: `cargo xtask bench datapath --docs` writes what follows. -->\n";
const END: &str = "<!-- End of what was measured. -->\n";

impl<'a> Report<'a> {
    pub(crate) fn new(figures: &'a Figures) -> Result<Self> {
        Ok(Self { figures, about: About::this()? })
    }

    /// Prints the table, unless programs are to read the output, and writes everything to `target/bench`.
    pub(crate) fn finish(&self, is_json: bool) -> Result<()> {
        let folder = target()?.join("bench");
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let plots = self.draw(&folder)?;
        let all = serde_json::json!({ "about": self.about, "figures": self.figures });
        let file = folder.join("datapath.json");
        fs::write(&file, serde_json::to_string_pretty(&all)?).with_context(|| format!("writing {}", file.display()))?;
        eprintln!("datapath.json and {} plots are in {}", plots.len(), folder.display());
        if is_json {
            return Ok(());
        }
        let mut text = String::new();
        for variant in VARIANTS {
            writeln!(text, "{:<16} {}", variant.name, variant.about)?;
        }
        writeln!(io::stdout(), "{text}\n{}\n\n{}", self.table(), self.about.sentence()).context("printing the table")
    }

    /// Puts figures and plots into the documentation.
    pub(crate) fn document(&self) -> Result<()> {
        let docs = target()?.join("../docs");
        let file = docs.join("performance.md");
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let folder = docs.join("performance");
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let plots = self.draw(&folder)?;
        let text = replace(&text, &self.markdown(&plots)?).context("in docs/performance.md")?;
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
    }

    /// Every comparison that was made, with what it should come to.
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["COMPARISON", "KEY", "MEDIAN", "SPREAD", "GOAL", ""]);
        for (comparison, key, cells) in self.rows() {
            table.add_row([comparison.to_owned(), key.to_owned()].into_iter().chain(cells));
        }
        table
    }

    /// For each comparison that was made: what it is, its key; median, spread, goal, whether that is reached.
    fn rows(&self) -> impl Iterator<Item = (&'static str, &'static str, [String; 4])> {
        GOALS.iter().filter_map(|goal| {
            let figure = self.figures.get(goal.key)?;
            let Figure { value, unit, n, min, max } = figure;
            let reached = if goal.limit.is_reached(figure) { "reached" } else { "missed" };
            let spread = format!("{n}: {min:.2} to {max:.2}");
            Some((
                goal.comparison,
                goal.key,
                [format!("{value:.2} {unit}"), spread, goal.limit.text(unit), reached.to_owned()],
            ))
        })
    }

    fn markdown(&self, plots: &[(&str, &str)]) -> Result<String> {
        let mut text = format!("{}\n\n", self.about.sentence());
        text += "| comparison | key | median | spread (rounds: from, to) | goal | |\n|---|---|---|---|---|---|\n";
        for (comparison, key, cells) in self.rows() {
            writeln!(text, "| {comparison} | `{key}` | {} |", cells.join(" | "))?;
        }
        for (name, title) in plots {
            writeln!(text, "\n![{title}](performance/{name}.svg)")?;
        }
        text += "\n| figure | median | spread |\n|---|---|---|\n";
        for (name, Figure { value, unit, n, min, max }) in self.figures.iter() {
            writeln!(text, "| `{name}` | {value:.2} {unit} | {n}: {min:.2} to {max:.2} |")?;
        }
        Ok(text)
    }

    /// Draws what was measured, and returns names and titles.
    fn draw(&self, folder: &Path) -> Result<Vec<(&'static str, &'static str)>> {
        let names = VARIANTS.map(|variant| variant.name);
        let plots = PLOTS.iter().map(|plot| (plot, &names[..])).chain([(&SCALE, &SIZES[..])]);
        let mut drawn = Vec::new();
        for ((name, title, prefix), labels) in plots {
            let figure = |label: &&'static str| Some((*label, self.figures.get(&format!("{prefix}{label}"))?));
            let bars: Vec<_> = labels.iter().filter_map(figure).collect();
            if !bars.is_empty() {
                Plot { title, bars }.write(&folder.join(name).with_extension("svg"), is_overlane)?;
                drawn.push((*name, *title));
            }
        }
        Ok(drawn)
    }
}

impl About {
    fn this() -> Result<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = fs::read_to_string("/proc/loadavg").context("reading /proc/loadavg")?;
        // The last five minutes.
        let load = load.split(' ').nth(1).and_then(|load| load.parse().ok()).context("the load of the machine")?;
        let kernel = uname().context("asking for the kernel's version")?.release().to_string_lossy().into_owned();
        let mut git = Command::new("git");
        let git = git.arg("-C").arg(target()?).args(["describe", "--always", "--dirty", "--exclude=*"]).output();
        let commit = git.ok().filter(|output| output.status.success());
        Ok(Self {
            kernel,
            cpu: model.map_or("unknown", |(_, name)| name).to_owned(),
            cpus: cpus.lines().filter(|line| line.starts_with("processor")).count(),
            commit: commit.map_or_else(
                || "unknown".to_owned(),
                |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            ),
            load,
        })
    }

    fn sentence(&self) -> String {
        let Self { kernel, cpu, cpus, commit, load } = self;
        format!("Commit {commit}, kernel {kernel}, {cpus} CPUs ({cpu}), load of the machine meanwhile {load:.1}.")
    }
}

/// The folder that this program was built in.
fn target() -> Result<PathBuf> {
    let program = env::current_exe().context("looking for this program")?;
    Ok(program.parent().and_then(Path::parent).context("this program is in target/<profile>")?.to_owned())
}

/// The document with other figures between its marks.
fn replace(document: &str, figures: &str) -> Result<String> {
    let parts = document.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.context("the lines that figures are written between are missing")?;
    ensure!(!after.contains(BEGIN), "the line before the figures is there twice");
    Ok(format!("{before}{BEGIN}\n{figures}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_replace_what_was_measured_before_and_nothing_else() {
        let document = format!("# Title\n\n{BEGIN}\nold\n{END}\nThe rest.\n");
        let replaced = replace(&document, "new").expect("the marks are there");
        assert_eq!(replaced, format!("# Title\n\n{BEGIN}\nnew\n{END}\nThe rest.\n"));
        assert_eq!(replace(&replaced, "new").expect("they still are"), replaced);
        assert!(replace("# Title\n", "new").is_err());
    }

    #[test]
    fn the_table_has_a_row_for_each_comparison_that_was_made() {
        let mut figures = Figures::new(true);
        figures.add("tc_vs_kernel", "x", vec![2.5, 1.5, 2.0]);
        figures.add("tcp_vs_kernel", "x", vec![1.5, 0.9, 1.2]);
        figures.add("groups_cost", "%", vec![5.0]);
        let table = Report::new(&figures).expect("a machine").table().to_string();
        let rows: Vec<Vec<&str>> = table
            .lines()
            .skip(1)
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).skip(1).collect())
            .collect();
        assert_eq!(
            rows,
            [
                ["tc_vs_kernel", "2.00 x", "3: 1.50 to 2.50", "≥ 2 x", "reached"],
                ["tcp_vs_kernel", "1.20 x", "3: 0.90 to 1.50", "≥ 1.05 x, always ≥ 1", "missed"],
                ["groups_cost", "5.00 %", "1: 5.00 to 5.00", "≤ 4 %", "missed"],
            ]
        );
    }
}
