//! `cargo xtask demo`: the reference deployment on three namespaces, shown and checked.

mod compare;
mod deployment;
mod network_node;
mod picture;
mod plug;
mod report;
mod story;
mod teardown;

use std::{
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result};
use clap::Parser;

use crate::report::Report;

/// What shells say of a program that Ctrl-C has ended.
const EXIT_INTERRUPTED: i32 = 130;

static STORY_HAS_ENDED: AtomicBool = AtomicBool::new(false);

/// Runs three hosts, each with an agent, two VXLAN networks on them, and a network node with DHCP, a router, a floating IP and
/// metadata; pings, measures, and checks which lane has carried what. Everything is in network namespaces and is gone when the demo ends, however it ends.
#[derive(Clone, Copy, Parser)]
#[command(name = "cargo xtask demo --", version)]
struct Options {
    /// Leave everything running, and print how to enter it.
    #[arg(long, conflicts_with = "down")]
    keep: bool,
    /// Take down what --keep has left.
    #[arg(long)]
    down: bool,
    /// Print one JSON object on stdout: `ok`, and under `checks` a list of `name`, `ok` and `detail`.
    #[arg(long, conflicts_with = "down")]
    json: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match execute(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every check has passed.
fn execute(options: Options) -> Result<bool> {
    if options.down {
        teardown::take_down()?;
        return Ok(true);
    }
    clean_up_when_interrupted(options)?;
    let mut report = Report::new(options.json);
    if options.keep {
        // What an earlier one has left would be in the way.
        teardown::take_down()?;
    }
    let result = story::tell(options.keep, &mut report);
    STORY_HAS_ENDED.store(true, Ordering::Relaxed);
    if let Err(error) = result {
        report.check("the demo runs to its end", false, format!("{error:#}"));
    }
    if options.keep && !report.is_ok() {
        teardown::take_down()?;
    }
    report.finish()
}

/// Namespaces of the private world vanish with the process; those of `--keep` must be taken down.
fn clean_up_when_interrupted(options: Options) -> Result<()> {
    ctrlc::set_handler(move || {
        if options.keep
            && let Err(error) = teardown::take_down_for_good(&STORY_HAS_ENDED)
        {
            eprintln!("error: taking down what was made: {error:#}");
        }
        eprintln!("interrupted; everything that was made is gone");
        std::process::exit(EXIT_INTERRUPTED);
    })
    .context("listening for Ctrl-C")
}
