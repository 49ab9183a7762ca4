//! Where things are in the checkout, and how this crate starts cargo. Every path and every cargo command of xtask comes
//! from here, so that an outer cargo's environment never leaks into a build.

use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// The checkout that this xtask was built from.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Finds the checkout.
    pub(crate) fn find() -> Result<Self> {
        // Cargo sets the variable when it runs us; a binary started by hand knows where it was built.
        let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let manifest = manifest.filter(|path| path.ends_with("xtask"));
        let manifest = manifest.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        let root = manifest.parent().context("finding the checkout")?;
        if !root.join("Cargo.toml").is_file() {
            bail!("{} holds no Cargo.toml: run `cargo xtask` inside the checkout", root.display());
        }
        Ok(Self { root: root.to_path_buf() })
    }

    /// A path below `target`. Builds always go there, whatever CARGO_TARGET_DIR says.
    pub(crate) fn target(&self, relative: &str) -> PathBuf {
        self.root.join("target").join(relative)
    }

    /// A path in the checkout.
    pub(crate) fn file(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// The linked eBPF programs.
    pub(crate) fn ebpf_object(&self) -> PathBuf {
        self.target("ebpf/overlane.bpf.o")
    }

    /// A path as a person reads it: relative to the checkout where possible.
    pub(crate) fn display<'a>(&self, path: &'a Path) -> std::path::Display<'a> {
        path.strip_prefix(&self.root).unwrap_or(path).display()
    }

    /// A cargo command that works on this checkout with the toolchain that runs us.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut command = self.cargo_program(&env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.arg(subcommand);
        command
    }

    /// A cargo command that builds into this checkout's `target`.
    pub(crate) fn cargo_build(&self, subcommand: &str) -> Command {
        let mut command = self.cargo(subcommand);
        command.arg("--target-dir").arg(self.target(""));
        command
    }

    /// A cargo other than the one that runs us, or ours for a build unlike the workspace's.
    pub(crate) fn cargo_program(&self, program: &OsStr) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).stdin(Stdio::null());
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(is_of_an_outer_build) {
                command.env_remove(name);
            }
        }
        command
    }
}

/// Whether a variable describes the build that started us: passed on, it would redirect an inner build.
fn is_of_an_outer_build(name: &str) -> bool {
    const PREFIXES: [&str; 5] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BUILD_TARGET", "CARGO_BIN_", "DEP_"];
    const NAMES: [&str; 3] = ["CARGO_TARGET_DIR", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || NAMES.contains(&name)
}

/// Drops what would change which compiler, flags or profile an eBPF build uses. What tells cargo how to reach a registry
/// stays.
pub(crate) fn isolate_from_user_settings(command: &mut Command) {
    const PREFIXES: [&str; 7] =
        ["CARGO_BUILD_", "CARGO_ENCODED_", "CARGO_PROFILE_", "CARGO_TARGET_", "CARGO_UNSTABLE_", "RUSTC", "RUSTDOC"];
    const NAMES: [&str; 4] = ["CARGO", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH"];
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        if PREFIXES.iter().any(|prefix| text.starts_with(prefix)) || NAMES.contains(&text) {
            command.env_remove(&name);
        }
    }
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> Result<bool> {
    // The owner of a process's folder is its effective user.
    let owner = fs::metadata("/proc/self").context("finding out who runs this")?.uid();
    Ok(owner == 0)
}

/// Runs a command whose output is for the user to see, and fails when it does.
pub(crate) fn run(command: &mut Command, doing: &str) -> Result<()> {
    let status = command.status().with_context(|| doing.to_owned())?;
    if !status.success() {
        bail!("{doing}: {status}");
    }
    Ok(())
}
