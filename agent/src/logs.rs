//! Logging to stderr, where the service manager picks it up.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts logging: what an operator needs, or with `debug` what a developer needs. `RUST_LOG` overrides both.
pub fn start(debug: bool) {
    let default = if debug { "overlane=debug,warn" } else { "overlane=info,warn" };
    let mut filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    // It says of a lost connection what the agent says better, and at its finest level what was sent, passwords included.
    if let Ok(silence) = "lapin=off".parse() {
        filter = filter.add_directive(silence);
    }
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}
