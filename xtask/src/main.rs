//! Overlane's development commands: `cargo xtask help`. Imports no other crate of the workspace: it runs cargo and what
//! cargo has built.

mod compiler;
mod ebpf;
mod guest;
mod lint;
mod neutron;
mod open_vswitch;
mod packages;
mod progress;
mod setup;
mod test;
mod verifier;
mod workspace;

use std::{os::unix::process::CommandExt as _, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::{packages::Root, setup::Scope, test::Tier, workspace::Workspace};

/// Sets up, builds, demonstrates and tests Overlane. Everything it makes is below `target`; what it installs besides are
/// Debian packages, and it says which and why.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing for the other commands; they do this themselves.
    Setup {
        /// Only what this needs; everything when not given.
        #[arg(long, value_enum)]
        only: Option<Scope>,
    },
    /// Build the eBPF programs into target/ebpf/overlane.bpf.o.
    BuildEbpf,
    /// Build the agent, eBPF programs included, into target/release/overlane.
    Build,
    /// Run the reference deployment in network namespaces and show that it works (needs root).
    Demo {
        /// Options of the demo, such as --json, --keep or --down; see `cargo xtask demo -- --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
        options: Vec<String>,
    },
    /// Measure; `cargo xtask bench -- --help` lists what (needs root).
    Bench {
        /// What to measure, and options such as --json.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
        options: Vec<String>,
    },
    /// Compare what the kernel makes of the eBPF programs with the budget in ebpf/budget.toml (needs root).
    Verifier {
        /// Write what it is now into the budget.
        #[arg(long)]
        update: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Check format, lints and tests; the tiers `verifier`, `datapath`, `lab`, `guest` and `neutron` need root.
    Test {
        /// Only this tier.
        #[arg(value_enum)]
        tier: Option<Tier>,
        /// Only tests whose names contain this.
        filter: Option<String>,
    },
}

fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<()> {
    let workspace = Workspace::find()?;
    match command {
        Command::Setup { only } => setup::run(&workspace, only.as_ref().map_or(&Scope::ALL, std::slice::from_ref)),
        Command::BuildEbpf => ebpf::build(&workspace),
        Command::Build => build(&workspace, "release", &["--package", "overlane"]),
        Command::Demo { options } => run_built(&workspace, "overlane-demo", &options, None),
        Command::Bench { options } => {
            let root = root_for_bench(&workspace, &options)?;
            run_built(&workspace, "overlane-bench", &options, root)
        }
        Command::Verifier { update, json } => verifier::run(&workspace, update, json),
        Command::Test { tier, filter } => test::run(&workspace, tier, filter.as_deref()),
    }
}

/// Builds the eBPF programs and then packages that embed or use them.
fn build(workspace: &Workspace, profile: &str, packages: &[&str]) -> Result<()> {
    ebpf::build(workspace)?;
    let mut command = workspace.cargo_build("build");
    command.args(["--profile", profile]).args(packages);
    workspace::run(&mut command, "building the agent")
}

/// The root of packages that a bench uses, with the variable that tells it where that is.
fn root_for_bench(workspace: &Workspace, options: &[String]) -> Result<Option<(&'static str, PathBuf)>> {
    let measures = |subject: &str| options.iter().any(|option| option == subject);
    if measures("neutron") {
        return Ok(Some((neutron::NEED.variable, neutron::NEED.require(workspace)?)));
    }
    if measures("datapath") {
        let need = open_vswitch::NEED;
        match (need.prepare)(workspace)? {
            Root::Ready(root) => return Ok(Some((need.variable, root))),
            // Everything else is worth measuring.
            Root::Unavailable(reason) => {
                eprintln!("NOT MEASURED: ovs: {} packages cannot be had: {reason}", need.whose);
            }
        }
    }
    Ok(None)
}

/// Sets up and builds everything, and then becomes one of the programs of the tests crate, which may use a root of packages.
fn run_built(
    workspace: &Workspace,
    program: &str,
    options: &[String],
    root: Option<(&'static str, PathBuf)>,
) -> Result<()> {
    setup::run(workspace, &Scope::ALL)?;
    build(workspace, "release", &["--package", "overlane", "--package", "overlane-tests", "--bins"])?;
    let error = std::process::Command::new(workspace.target("release").join(program))
        .args(options)
        .envs(root)
        .env("OVERLANE_BIN", workspace.target("release/overlane"))
        // It takes over: Ctrl-C and its exit status are its own business.
        .exec();
    Err(error).with_context(|| format!("starting {program}"))
}
