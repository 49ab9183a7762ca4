//! `test`: the tiers, and one line at the end that counts their tests.

use std::{
    env, fmt,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::{
    ebpf, guest, lint, neutron,
    packages::{Need, Root},
    setup::{self, Scope},
    verifier,
    workspace::{self, Workspace, is_root},
};

/// Kinds of checks, from cheap to dear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tier {
    /// Format and lints; no root.
    Lint,
    /// Tests of pure code and of the rules of the tree; no root.
    Unit,
    /// What the kernel makes of the programs, next to their budget; needs root.
    Verifier,
    /// Frames through the loaded programs by `BPF_PROG_TEST_RUN`; needs root.
    Datapath,
    /// Hosts as network namespaces, real agents, real packets; needs root.
    Lab,
    /// A kernel of its own behind a tap, in QEMU; needs root, and Debian's packages.
    Guest,
    /// A real Neutron with its own agents, in namespaces; needs root, and Debian's packages.
    Neutron,
}

impl Tier {
    const ALL: [Self; 7] =
        [Self::Lint, Self::Unit, Self::Verifier, Self::Datapath, Self::Lab, Self::Guest, Self::Neutron];

    /// The root of Debian packages that it needs.
    const fn root(self) -> Option<&'static Need> {
        match self {
            Self::Guest => Some(&guest::NEED),
            Self::Neutron => Some(&neutron::NEED),
            Self::Lint | Self::Unit | Self::Verifier | Self::Datapath | Self::Lab => None,
        }
    }
}

/// How many tests there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: usize,
    failed: usize,
}

/// Runs one tier, or all of them, and fails when a test does or a tier had none.
pub(crate) fn run(workspace: &Workspace, only: Option<Tier>, filter: Option<&str>) -> Result<()> {
    let tiers = only.map_or(Tier::ALL.to_vec(), |tier| vec![tier]);
    let is_privileged = |tier: &Tier| !matches!(tier, Tier::Lint | Tier::Unit);
    if tiers.iter().any(is_privileged) {
        if !is_root()? {
            bail!(
                "the tiers verifier, datapath, lab, guest and neutron need root; without it there are: cargo xtask test lint, cargo xtask test unit"
            );
        }
        setup::run(workspace, &Scope::ALL)?;
        ebpf::build(workspace)?;
        let mut agent = workspace.cargo_build("build");
        workspace::run(
            agent.args(["--package", "overlane", "--package", "overlane-tests", "--bins"]),
            "building the agent",
        )?;
    }
    let mut total = Count::default();
    let mut skipped = Vec::new();
    for tier in tiers {
        eprintln!("== {tier} ==");
        // What these find is no number of tests.
        match tier {
            Tier::Lint => {
                lint::run(workspace)?;
                continue;
            }
            Tier::Verifier => {
                verifier::check(workspace)?;
                continue;
            }
            Tier::Unit | Tier::Datapath | Tier::Lab | Tier::Guest | Tier::Neutron => (),
        }
        let mut tests = command(workspace, tier, filter);
        if let Some(need) = tier.root() {
            match (need.prepare)(workspace)? {
                Root::Ready(root) => tests.env(need.variable, root),
                Root::Unavailable(reason) if only.is_none() && env::var_os("CI").is_none() => {
                    skipped.push(format!("the tier {tier}, as {} packages cannot be had: {reason}", need.whose));
                    continue;
                }
                Root::Unavailable(reason) => bail!("{} packages cannot be had: {reason}", need.whose),
            };
        }
        let count = run_tests(&mut tests)?;
        if count == Count::default() {
            bail!("{tier}: no test was run{}", filter.map(|f| format!(", none matches {f:?}")).unwrap_or_default());
        }
        total.passed += count.passed;
        total.failed += count.failed;
    }
    for tier in skipped {
        println!("NOT RUN: {tier}");
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed > 0 {
        bail!("{} tests failed", total.failed);
    }
    Ok(())
}

fn command(workspace: &Workspace, tier: Tier, filter: Option<&str>) -> Command {
    let mut command = workspace.cargo_build("test");
    command.arg("--no-fail-fast").args(match tier {
        Tier::Lint | Tier::Unit | Tier::Verifier => [].as_slice(),
        Tier::Datapath => &["--package", "overlane-tests", "--test", "datapath"],
        // With what the bench computes and prints.
        Tier::Lab => &["--package", "overlane-tests", "--test", "lab", "--bin", "overlane-bench"],
        Tier::Guest => &["--package", "overlane-tests", "--test", "guest"],
        Tier::Neutron => &["--package", "overlane-tests", "--test", "neutron"],
    });
    command
        .env("OVERLANE_BIN", workspace.target("debug/overlane"))
        .env("OVERLANE_BENCH_BIN", workspace.target("debug/overlane-bench"))
        .env("OVERLANE_DEMO_BIN", workspace.target("debug/overlane-demo"))
        .env("OVERLANE_EBPF_OBJECT", workspace.ebpf_object());
    command.args(filter);
    command
}

/// Runs `cargo test`, shows what it prints, and adds up its results.
fn run_tests(command: &mut Command) -> Result<Count> {
    let doing = "running cargo test";
    let mut child = command.stdout(Stdio::piped()).spawn().context(doing)?;
    let stdout = child.stdout.take().context(doing)?;
    let mut count = Count::default();
    let mut results = 0;
    for line in BufReader::new(stdout).lines() {
        let line = line.context(doing)?;
        println!("{line}");
        if let Some(result) = parse_result(&line) {
            results += 1;
            count.passed += result.passed;
            count.failed += result.failed;
        }
    }
    let status = child.wait().context(doing)?;
    // A failed test is counted; a test binary that does not build or dies half-way must not pass for "none failed".
    if !status.success() && (results == 0 || count.failed == 0) {
        bail!("cargo test failed before it could count its tests: {status}");
    }
    Ok(count)
}

/// Reads `test result: ok. 3 passed; 0 failed; …`.
fn parse_result(line: &str) -> Option<Count> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |name: &str| counts.split("; ").find_map(|part| part.strip_suffix(name)?.parse().ok());
    Some(Count { passed: number(" passed")?, failed: number(" failed")? })
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lint => "lint",
            Self::Unit => "unit",
            Self::Verifier => "verifier",
            Self::Datapath => "datapath",
            Self::Lab => "lab",
            Self::Guest => "guest",
            Self::Neutron => "neutron",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_line_of_a_test_binary_is_counted() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.1s";
        assert_eq!(parse_result(line), Some(Count { passed: 12, failed: 3 }));
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(parse_result("running 3 tests"), None);
        assert_eq!(parse_result("test a_name ... ok"), None);
    }
}
