//! The budget, and how programs compare with it.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::{Measured, Measures};

/// By how many per cent of its budget a program may grow before somebody has to agree.
const TOLERANCE_PERCENT: u64 = 10;

const HEADING: &str = "\
# What each eBPF program may cost. `cargo xtask verifier` and `cargo xtask test verifier` fail when any of these grows by more than
# 10 %; `cargo xtask verifier --update` rewrites this file, and the commit that has it says why.
";

/// What programs may cost, and who has said so.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Budget {
    /// The kernel that it was measured on, as `6.18`: verifiers and machine code differ.
    kernel: String,
    /// What the programs were built with.
    compiler: String,
    #[serde(default)]
    programs: BTreeMap<String, Costs>,
}

/// What is compared of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Costs {
    /// Of the program as it runs.
    instructions: u32,
    /// Instructions that the verifier looks at, of the million that it is willing to.
    verified: u32,
    /// Bytes, of all functions together.
    stack: u32,
    /// Machine code; 0 if it is not known.
    jited_bytes: u32,
}

impl Costs {
    fn of(measures: &Measures) -> Self {
        let &Measures { instructions, verified, jited_bytes, .. } = measures;
        Self { instructions, verified, stack: measures.stack.iter().sum(), jited_bytes }
    }

    fn named(self) -> [(&'static str, u32); 4] {
        [
            ("instructions", self.instructions),
            ("verified", self.verified),
            ("stack", self.stack),
            ("jited_bytes", self.jited_bytes),
        ]
    }
}

impl Budget {
    pub(super) fn parse(text: &str) -> Result<Self> {
        toml::from_str(text).context("parsing the budget")
    }

    pub(super) fn of(measured: &Measured, compiler: String) -> Self {
        let programs = measured.programs.iter().map(|(name, measures)| (name.clone(), Costs::of(measures))).collect();
        Self { kernel: measured.kernel.clone(), compiler, programs }
    }

    pub(super) fn to_toml(&self) -> Result<String> {
        Ok(format!("{HEADING}{}", toml::to_string(self).context("writing the budget")?))
    }
}

/// Every program next to its budget.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    kernel: String,
    /// The kernel and the compiler of the budget.
    budget_kernel: String,
    budget_compiler: String,
    programs: BTreeMap<String, Row>,
    /// What is not as it should be, in sentences.
    failures: Vec<String>,
    /// What somebody may want to know.
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    measures: Measures,
    budget: Option<Costs>,
    /// By how many per cent of the budget each measure has grown.
    growth_percent: BTreeMap<&'static str, f64>,
}

impl Comparison {
    pub(super) fn new(budget: &Budget, measured: &Measured) -> Self {
        let mut comparison = Self {
            kernel: measured.kernel.clone(),
            budget_kernel: budget.kernel.clone(),
            budget_compiler: budget.compiler.clone(),
            programs: BTreeMap::new(),
            failures: Vec::new(),
            notes: Vec::new(),
        };
        for (name, measures) in &measured.programs {
            let costs = budget.programs.get(name).copied();
            let growth_percent = comparison.compare(name, costs, Costs::of(measures));
            let row = Row { measures: measures.clone(), budget: costs, growth_percent };
            comparison.programs.insert(name.clone(), row);
        }
        for gone in budget.programs.keys().filter(|name| !measured.programs.contains_key(*name)) {
            comparison.failures.push(format!(
                "{gone}: has a budget, but there is no such program; `cargo xtask verifier --update` removes it from ebpf/budget.toml"
            ));
        }
        comparison
    }

    fn compare(&mut self, name: &str, budget: Option<Costs>, now: Costs) -> BTreeMap<&'static str, f64> {
        let Some(budget) = budget else {
            self.failures.push(format!(
                "{name}: has no budget; if what it costs is what it should cost, `cargo xtask verifier --update` adds it to \
                 ebpf/budget.toml"
            ));
            return BTreeMap::new();
        };
        let mut growth = BTreeMap::new();
        for ((measure, before), (_, now)) in budget.named().into_iter().zip(now.named()) {
            // A kernel that does not show machine code says 0.
            if measure == "jited_bytes" && (before == 0 || now == 0) {
                continue;
            }
            let percent = if now == before { 0.0 } else { (f64::from(now) / f64::from(before.max(1)) - 1.0) * 100.0 };
            growth.insert(measure, percent);
            let (hundred_now, before_times) = (u64::from(now) * 100, |percent| u64::from(before) * percent);
            if hundred_now > before_times(100 + TOLERANCE_PERCENT) {
                self.has_grown(format!(
                    "{name}: {measure} is {now}, {percent:.1} % more than its budget of {before} ({TOLERANCE_PERCENT} % are \
                     allowed); make it smaller, or say in a commit why it must be so, after `cargo xtask verifier --update`"
                ));
            } else if hundred_now < before_times(100 - TOLERANCE_PERCENT) {
                self.notes.push(format!(
                    "{name}: {measure} is {now}, {:.1} % less than its budget of {before}; `cargo xtask verifier --update` keeps it so",
                    -percent
                ));
            }
        }
        growth
    }

    /// Another kernel has another verifier: what it makes of the programs is nobody's fault.
    fn has_grown(&mut self, sentence: String) {
        if self.kernel == self.budget_kernel { self.failures.push(sentence) } else { self.notes.push(sentence) }
    }

    pub(super) fn verdict(&self) -> Result<()> {
        if self.failures.is_empty() {
            return Ok(());
        }
        bail!(
            "the eBPF programs are not within their budget (of kernel {}, {}):\n  {}",
            self.budget_kernel,
            self.budget_compiler,
            self.failures.join("\n  ")
        )
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<16}{:<5}{:>20}{:>22}{:>32}{:>24}",
            "PROGRAM", "TYPE", "INSTRUCTIONS", "VERIFIED", "STACK", "MACHINE CODE"
        )?;
        for (name, row) in &self.programs {
            let of_budget = |measure, text: String| match row.growth_percent.get(measure) {
                Some(percent) => format!("{text} ({percent:+.1} %)"),
                None => text,
            };
            let Measures { kind, instructions, verified, stack, jited_bytes } = &row.measures;
            let stack = format!("{} B in {} functions", stack.iter().sum::<u32>(), stack.len());
            writeln!(
                f,
                "{name:<16}{kind:<5}{:>20}{:>22}{:>32}{:>24}",
                of_budget("instructions", instructions.to_string()),
                of_budget("verified", verified.to_string()),
                of_budget("stack", stack),
                of_budget("jited_bytes", format!("{jited_bytes} B")),
            )?;
        }
        if self.kernel != self.budget_kernel && !self.budget_kernel.is_empty() {
            writeln!(
                f,
                "The budget is of kernel {}, and this is {}: growth is told, and does not fail.",
                self.budget_kernel, self.kernel
            )?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: &str = "
        kernel = '6.18'
        compiler = 'rustc'
        [programs.from_port]
        instructions = 1000
        verified = 1000
        stack = 400
        jited_bytes = 1000
    ";

    fn measured(kernel: &str, program: &str, instructions: u32, verified: u32) -> Measured {
        let measures =
            Measures { kind: "tc".to_owned(), instructions, verified, stack: vec![300, 100], jited_bytes: 1000 };
        Measured { kernel: kernel.to_owned(), programs: BTreeMap::from([(program.to_owned(), measures)]) }
    }

    fn compare(measured: &Measured) -> Comparison {
        Comparison::new(&Budget::parse(BUDGET).expect("a budget"), measured)
    }

    #[test]
    fn growth_within_a_tenth_is_nobodys_business() {
        let comparison = compare(&measured("6.18", "from_port", 1100, 900));
        assert!(comparison.verdict().is_ok() && comparison.notes.is_empty(), "{comparison:?}");
        assert!(comparison.to_string().contains("1100 (+10.0 %)"), "{comparison}");
        assert!(comparison.to_string().contains("400 B in 2 functions (+0.0 %)"), "{comparison}");
    }

    #[test]
    fn growth_by_more_names_program_measure_budget_figure_and_per_cent() {
        let comparison = compare(&measured("6.18", "from_port", 1000, 1101));
        let error = comparison.verdict().expect_err("too much").to_string();
        for part in ["from_port", "verified is 1101", "10.1 % more", "budget of 1000", "--update", "6.18", "rustc"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert_eq!(comparison.failures.len(), 1);
    }

    #[test]
    fn a_smaller_program_is_told_and_does_not_fail() {
        let comparison = compare(&measured("6.18", "from_port", 500, 1000));
        assert!(comparison.verdict().is_ok());
        assert!(comparison.to_string().contains("instructions is 500, 50.0 % less"), "{comparison}");
    }

    #[test]
    fn another_kernel_is_told_and_does_not_fail() {
        let comparison = compare(&measured("6.12", "from_port", 1000, 5000));
        assert!(comparison.verdict().is_ok());
        assert!(comparison.to_string().contains("The budget is of kernel 6.18, and this is 6.12"), "{comparison}");
        assert!(comparison.to_string().contains("verified is 5000, 400.0 % more"), "{comparison}");
    }

    #[test]
    fn a_program_without_budget_and_a_budget_without_program_say_what_to_do() {
        let error = compare(&measured("6.18", "to_port_xdp", 1, 1)).verdict().expect_err("two").to_string();
        for part in ["to_port_xdp: has no budget", "adds it", "from_port: has a budget", "removes it"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn machine_code_that_the_kernel_does_not_show_is_not_compared() {
        let mut measured = measured("6.18", "from_port", 1000, 1000);
        measured.programs.get_mut("from_port").expect("it").jited_bytes = 0;
        let comparison = compare(&measured);
        assert!(comparison.verdict().is_ok() && comparison.notes.is_empty(), "{comparison:?}");
    }

    #[test]
    fn a_budget_that_was_written_is_read_again_and_holds() {
        let measured = measured("6.18", "to_port", 12, 34);
        let text = Budget::of(&measured, "rustc".to_owned()).to_toml().expect("TOML");
        let comparison = Comparison::new(&Budget::parse(&text).expect("a budget"), &measured);
        assert!(comparison.verdict().is_ok() && comparison.notes.is_empty(), "{comparison:?}");
    }
}
