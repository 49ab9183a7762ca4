//! The `overlane` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    overlane::cli::main()
}
