//! `verifier`: what the kernel makes of the eBPF programs, next to a budget that is checked in.

mod budget;

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{compiler, ebpf, setup, setup::Scope, workspace, workspace::Workspace};
use budget::{Budget, Comparison};

/// What `overlane-verifier` prints.
#[derive(Debug, Deserialize)]
struct Measured {
    kernel: String,
    programs: BTreeMap<String, Measures>,
}

/// A program, as the kernel has taken it; `tests/src/verifier` says what these are.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Measures {
    kind: String,
    instructions: u32,
    verified: u32,
    stack: Vec<u32>,
    jited_bytes: u32,
}

/// Builds everything, compares, prints, and rewrites the budget if that is wanted.
pub(crate) fn run(workspace: &Workspace, update: bool, json: bool) -> Result<()> {
    if !workspace::is_root()? {
        bail!("only root may load eBPF programs; run: sudo cargo xtask verifier");
    }
    setup::run(workspace, &[Scope::Build])?;
    ebpf::build(workspace)?;
    let mut build = workspace.cargo_build("build");
    build.args(["--package", "overlane-tests", "--bin", "overlane-verifier"]);
    workspace::run(&mut build, "building overlane-verifier")?;
    let measured = measure(workspace)?;
    let budget = read(workspace);
    // A new one needs no old one.
    let budget = if update { budget.unwrap_or_default() } else { budget? };
    let comparison = Comparison::new(&budget, &measured);
    if json {
        println!("{}", serde_json::to_string_pretty(&comparison).context("writing JSON")?);
    } else {
        print!("{comparison}");
    }
    if update {
        let path = path(workspace);
        let budget = Budget::of(&measured, compiler_name());
        fs::write(&path, budget.to_toml()?).with_context(|| format!("writing {}", path.display()))?;
        eprintln!("{} is rewritten", workspace.display(&path));
        return Ok(());
    }
    comparison.verdict()
}

/// As `run`, for a test: the programs are built, and only what is not as it should be matters.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let comparison = Comparison::new(&read(workspace)?, &measure(workspace)?);
    print!("{comparison}");
    comparison.verdict()
}

fn measure(workspace: &Workspace) -> Result<Measured> {
    let program = workspace.target("debug/overlane-verifier");
    let doing = || format!("running {}", program.display());
    let output = Command::new(&program).arg(workspace.ebpf_object()).output().with_context(doing)?;
    if !output.status.success() {
        bail!("{}: {}", doing(), String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).with_context(doing)
}

fn path(workspace: &Workspace) -> PathBuf {
    workspace.file("ebpf/budget.toml")
}

fn read(workspace: &Workspace) -> Result<Budget> {
    let path = path(workspace);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Budget::parse(&text).with_context(|| format!("reading {}", workspace.display(&path)))
}

fn compiler_name() -> String {
    compiler::search().compiler.map_or_else(|| "an unknown compiler".to_owned(), |compiler| compiler.to_string())
}
