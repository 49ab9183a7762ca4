//! Format and lints, as strict as the checked-in settings say. The rules of the tree are tests: `xtask/tests/tidy.rs`.

use anyhow::{Result, bail};

use crate::workspace::{self, Workspace};

/// Fails on anything that `cargo fmt` would change or clippy would say.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    for component in ["fmt", "clippy"] {
        let output = workspace.cargo(component).arg("--version").output();
        if !output.is_ok_and(|output| output.status.success()) {
            bail!("cargo {component} is not installed; run: rustup component add rustfmt clippy");
        }
    }
    let mut format = workspace.cargo("fmt");
    format.args(["--all", "--", "--check"]);
    workspace::run(&mut format, "checking the format (cargo fmt --all mends it)")?;
    // The eBPF crate is checked for the host: its own target needs a toolchain that has no clippy. It has `no_main`, so
    // there is no test harness to build it with.
    clippy(workspace, &["--workspace", "--exclude", "overlane-ebpf", "--all-targets"])?;
    clippy(workspace, &["--package", "overlane-ebpf"])
}

fn clippy(workspace: &Workspace, packages: &[&str]) -> Result<()> {
    let mut command = workspace.cargo_build("clippy");
    command.args(packages).args(["--quiet", "--", "--deny", "warnings"]);
    workspace::run(&mut command, "linting")
}
