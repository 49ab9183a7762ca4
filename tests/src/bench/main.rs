//! `cargo xtask bench`: what the project measures of itself.

mod bytes;
mod control;
mod figures;
mod scale;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::figures::Figures;

/// Measures, and prints every figure with its unit, how often it was measured, and its spread.
#[derive(Parser)]
#[command(name = "cargo xtask bench", version)]
struct Options {
    /// What to measure.
    #[arg(value_enum)]
    subject: Subject,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Plugging, restarting, taking over, and a host with a thousand ports.
    Control,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut figures = Figures::new(options.json);
    let result = match options.subject {
        Subject::Control => control::measure(&mut figures).and_then(|()| scale::measure(&mut figures)),
    };
    // What was measured before something failed is worth printing.
    let printed = figures.finish();
    match result.and(printed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
