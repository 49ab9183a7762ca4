//! `setup`: finds what is missing, says what and why, and installs it: Debian packages, and bpf-linker into `target/tools`.
//! Finding out that nothing is missing costs a few milliseconds, so every command that needs something starts here.

use std::{
    env, fs,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::{
    compiler::{self, LLVM_MAJOR},
    progress,
    workspace::{Workspace, is_root},
};

const LINKER: &str = "bpf-linker";
/// Together with the LLVM of [`LLVM_MAJOR`] it reads what the compilers that `compiler` accepts write.
const LINKER_VERSION: &str = "0.13.0";

/// What is to be done with what is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scope {
    /// Building the eBPF programs.
    Build,
    /// Running the demo and the privileged tests.
    Run,
}

impl Scope {
    pub(crate) const ALL: [Self; 2] = [Self::Build, Self::Run];
}

/// A program that must be in the PATH.
struct Tool {
    program: &'static str,
    package: &'static str,
    why: &'static str,
}

const RUN_TOOLS: [Tool; 16] = [
    Tool { program: "ip", package: "iproute2", why: "the demo and the lab lay out hosts and machines with it" },
    Tool { program: "nsenter", package: "util-linux", why: "programs are started inside hosts and machines" },
    Tool { program: "curl", package: "curl", why: "machines fetch their metadata" },
    Tool { program: "ping", package: "iputils-ping", why: "machines ping each other" },
    Tool { program: "busybox", package: "busybox", why: "machines ask for their addresses by its DHCP client" },
    Tool { program: "dhclient", package: "isc-dhcp-client", why: "machines ask for addresses of IPv6 by it" },
    Tool { program: "dnsmasq", package: "dnsmasq-base", why: "network nodes have it as DHCP server" },
    Tool { program: "radvd", package: "radvd", why: "routers advertise themselves by it" },
    Tool { program: "keepalived", package: "keepalived", why: "routers on several hosts agree by it who is active" },
    Tool { program: "iperf3", package: "iperf3", why: "machines measure their throughput" },
    Tool { program: "ethtool", package: "ethtool", why: "offloads are switched on and off" },
    Tool { program: "nft", package: "nftables", why: "the lab looks at the guard of closed taps, and takes it away" },
    Tool {
        program: "iptables-restore",
        package: "iptables",
        why: "the lab takes over what the Linux bridge agent left",
    },
    Tool { program: "ebtables", package: "ebtables", why: "as above" },
    Tool { program: "ipset", package: "ipset", why: "as above" },
    Tool { program: "bpftool", package: "bpftool", why: "the lab reads the pinned maps as an operator does" },
];

/// Something that is missing.
#[derive(Debug, PartialEq, Eq)]
struct Missing {
    packages: Vec<&'static str>,
    what: String,
    why: String,
}

/// Sets up what `scopes` need.
pub(crate) fn run(workspace: &Workspace, scopes: &[Scope]) -> Result<()> {
    let missing: Vec<Missing> = scopes.iter().flat_map(|scope| missing(workspace, *scope)).collect();
    if !missing.is_empty() {
        install_packages(workspace, &missing)?;
    }
    if scopes.contains(&Scope::Build) && !has_linker(workspace) {
        install_linker(workspace)?;
    }
    Ok(())
}

/// Where bpf-linker is, once it is installed.
pub(crate) fn linker(workspace: &Workspace) -> PathBuf {
    workspace.target("tools/bin").join(LINKER)
}

fn missing(workspace: &Workspace, scope: Scope) -> Vec<Missing> {
    match scope {
        Scope::Build => missing_for_build(workspace),
        Scope::Run => RUN_TOOLS
            .iter()
            .filter(|tool| find_program(tool.program).is_none())
            .map(|tool| Missing {
                packages: vec![tool.package],
                what: format!("the program {}", tool.program),
                why: tool.why.to_owned(),
            })
            .collect(),
    }
}

fn missing_for_build(workspace: &Workspace) -> Vec<Missing> {
    let mut missing = Vec::new();
    let search = compiler::search();
    if search.compiler.is_none() {
        missing.push(Missing {
            packages: vec!["rustc-web", "rust-web-src"],
            what: "a Rust compiler with its library source".to_owned(),
            why: format!("the eBPF target has no prebuilt `core` ({})", search.rejected.join("; ")),
        });
    }
    if !has_linker(workspace) {
        if !llvm_prefix().join("bin/llvm-config").exists() {
            missing.push(Missing {
                packages: vec!["llvm-22-dev"],
                what: format!("LLVM {LLVM_MAJOR} with its headers"),
                why: format!("{LINKER} is built with it"),
            });
        }
        if find_program("c++").is_none() {
            missing.push(Missing {
                packages: vec!["g++"],
                what: "a C++ compiler".to_owned(),
                why: format!("{LINKER} contains C++"),
            });
        }
    }
    missing
}

fn install_packages(workspace: &Workspace, missing: &[Missing]) -> Result<()> {
    eprintln!("Missing on this machine:");
    for Missing { packages, what, why } in missing {
        eprintln!("  {what}: {why} (Debian: {})", packages.join(", "));
    }
    let mut packages: Vec<&str> = missing.iter().flat_map(|missing| missing.packages.iter().copied()).collect();
    packages.sort_unstable();
    packages.dedup();
    let install = format!("apt-get install --no-install-recommends {}", packages.join(" "));
    if !is_debian_12() {
        bail!(
            "this is not Debian 12, so nothing was installed; on Debian 12 it would be:\n    apt-get update && {install}\n\
             For the compiler, `rustup toolchain install nightly --component rust-src` does as well"
        );
    }
    if !is_root()? {
        bail!(
            "not root, so nothing was installed; run this, then the same command again:\n    sudo apt-get update && sudo {install}"
        );
    }
    progress::step("reading the package lists", &log(workspace, "apt-update"), &mut apt(&["update"]))?;
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(&packages);
    let title = format!("installing {}", packages.join(", "));
    progress::step(&title, &log(workspace, "apt-install"), &mut apt(&arguments))?;
    Ok(())
}

fn has_linker(workspace: &Workspace) -> bool {
    let output = Command::new(linker(workspace)).arg("--version").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == format!("{LINKER} {LINKER_VERSION}"))
}

fn install_linker(workspace: &Workspace) -> Result<()> {
    let feature = format!("llvm-{LLVM_MAJOR}");
    let mut command = workspace.cargo("install");
    command
        .args([LINKER, "--version", LINKER_VERSION, "--locked", "--no-default-features", "--features", &feature])
        .args(["--force", "--root"])
        .arg(workspace.target("tools"))
        .arg("--target-dir")
        .arg(workspace.target("tools-build"))
        .env("LLVM_PREFIX", llvm_prefix())
        .env("CARGO_TERM_COLOR", if io::stderr().is_terminal() { "always" } else { "never" });
    let title = format!("building {LINKER} {LINKER_VERSION} into target/tools");
    progress::step(&title, &log(workspace, LINKER), &mut command)?;
    if !has_linker(workspace) {
        bail!("{} does not start; its build log is {}", linker(workspace).display(), log(workspace, LINKER).display());
    }
    Ok(())
}

/// Where LLVM is: what bpf-linker's build looks for as well.
fn llvm_prefix() -> PathBuf {
    env::var_os("LLVM_PREFIX").map_or_else(|| PathBuf::from(format!("/usr/lib/llvm-{LLVM_MAJOR}")), PathBuf::from)
}

/// An `apt-get` command that asks nothing, and waits when somebody else uses apt.
pub(crate) fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-o", "DPkg::Lock::Timeout=120", "-q"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Where the output of a step of the set-up goes.
pub(crate) fn log(workspace: &Workspace, step: &str) -> PathBuf {
    workspace.target("setup").join(step).with_extension("log")
}

fn find_program(name: &str) -> Option<PathBuf> {
    // Debian keeps administrators' programs where a user's PATH does not look.
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|path: &PathBuf| Path::is_file(path))
}

/// Whether this machine is one that packages are installed on.
pub(crate) fn is_debian_12() -> bool {
    says_debian_12(&fs::read_to_string("/etc/os-release").unwrap_or_default())
}

fn says_debian_12(os_release: &str) -> bool {
    let has = |line: &str| os_release.lines().any(|candidate| candidate.replace('"', "") == line);
    has("ID=debian") && has("VERSION_ID=12")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_12_is_known_by_its_id_and_version() {
        assert!(says_debian_12("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n"));
        assert!(!says_debian_12("ID=debian\nVERSION_ID=\"13\"\n"));
        assert!(!says_debian_12("ID=ubuntu\nVERSION_ID=\"12\"\nID_LIKE=debian\n"));
        assert!(!says_debian_12(""));
    }
}
