//! Which compiler builds the eBPF programs. Their target has no prebuilt `core`, so it must be one whose own library
//! source is installed, new enough for the workspace, and not newer than the LLVM that bpf-linker is linked to.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

/// The LLVM that bpf-linker is built with: the newest that Debian 12 packages.
pub(crate) const LLVM_MAJOR: u32 = 22;

/// The oldest compiler that builds the workspace: `rust-version` in Cargo.toml.
const OLDEST_MINOR: u32 = 95;

/// A compiler that can build `core`.
pub(crate) struct Compiler {
    /// The `rustc` program.
    pub(crate) rustc: PathBuf,
    /// The cargo of the same toolchain, where there is one.
    pub(crate) cargo: Option<PathBuf>,
    version: Version,
    origin: Origin,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Rustup,
    System,
}

#[derive(Debug, PartialEq, Eq)]
struct Version {
    release: String,
    minor: u32,
    llvm: String,
    llvm_major: u32,
}

/// What the search found: a compiler, or why each candidate was passed over.
pub(crate) struct Search {
    /// The first that fits.
    pub(crate) compiler: Option<Compiler>,
    /// One sentence for each candidate that does not.
    pub(crate) rejected: Vec<String>,
}

/// Looks for a compiler: rustup's nightlies first, then the one of Debian's packages. Installs nothing.
pub(crate) fn search() -> Search {
    let mut rejected = Vec::new();
    let system = (Origin::System, PathBuf::from("/usr"));
    let candidates = nightlies().into_iter().map(|sysroot| (Origin::Rustup, sysroot)).chain([system]);
    for (origin, sysroot) in candidates {
        match examine(origin, &sysroot) {
            Ok(Ok(compiler)) => return Search { compiler: Some(compiler), rejected },
            Ok(Err(reason)) => rejected.push(reason),
            Err(err) => rejected.push(format!("{err:#}")),
        }
    }
    Search { compiler: None, rejected }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Version { release, llvm, .. } = &self.version;
        let origin = match self.origin {
            Origin::Rustup => "rustup's nightly",
            Origin::System => "the system's packages",
        };
        write!(f, "rustc {release} from {origin}, LLVM {llvm}")
    }
}

/// The sysroots of rustup's nightlies, the undated one first.
fn nightlies() -> Vec<PathBuf> {
    let home = env::var_os("RUSTUP_HOME").map(PathBuf::from);
    let Some(home) = home.or_else(|| Some(env::home_dir()?.join(".rustup"))) else {
        return Vec::new();
    };
    let Ok(entries) = fs::read_dir(home.join("toolchains")) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nightly")))
        .collect();
    // A dated name starts with a digit where the undated one has its host, and the newest date comes first.
    found.sort();
    found.reverse();
    found
}

/// Whether the toolchain at `sysroot` can build the eBPF programs; the inner error is the reason why not.
fn examine(origin: Origin, sysroot: &Path) -> Result<std::result::Result<Compiler, String>> {
    let rustc = sysroot.join("bin/rustc");
    if !rustc.is_file() {
        return Ok(Err(format!("{}: not installed", rustc.display())));
    }
    let source = sysroot.join("lib/rustlib/src/rust");
    if !source.join("library/core/src/lib.rs").is_file() {
        return Ok(Err(format!("{}: the library source is not installed with it", rustc.display())));
    }
    let output = Command::new(&rustc).arg("-vV").output();
    let output = output.with_context(|| format!("asking {} for its version", rustc.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = parse_version(&text).with_context(|| format!("reading the version of {}", rustc.display()))?;
    if version.minor < OLDEST_MINOR {
        return Ok(Err(format!("{} is {}, older than 1.{OLDEST_MINOR}", rustc.display(), version.release)));
    }
    if version.llvm_major > LLVM_MAJOR {
        return Ok(Err(format!(
            "{} uses LLVM {}, newer than the LLVM {LLVM_MAJOR} of bpf-linker",
            rustc.display(),
            version.llvm
        )));
    }
    // Debian packages the source on its own, so an upgrade may leave it behind.
    if origin == Origin::System && !source_is_of(&source, &version.release) {
        return Ok(Err(format!("{} is {}, its library source another version", rustc.display(), version.release)));
    }
    let cargo = Some(sysroot.join("bin/cargo")).filter(|path| origin == Origin::Rustup && path.is_file());
    Ok(Ok(Compiler { rustc, cargo, version, origin }))
}

fn source_is_of(source: &Path, release: &str) -> bool {
    let folder = fs::canonicalize(source).ok();
    let folder = folder.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy());
    folder.is_some_and(|name| name == format!("rustc-{release}"))
}

/// Reads the output of `rustc -vV`.
fn parse_version(text: &str) -> Result<Version> {
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.map(str::to_owned).with_context(|| format!("finding {name:?} in the output of rustc -vV"))
    };
    let number = |text: &str, index: usize| {
        let part = text.split(['.', '-']).nth(index);
        part.and_then(|part| part.parse::<u32>().ok()).with_context(|| format!("reading version {text:?}"))
    };
    let (release, llvm) = (field("release")?, field("LLVM version")?);
    Ok(Version { minor: number(&release, 1)?, llvm_major: number(&llvm, 0)?, release, llvm })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_a_nightlys_answer() {
        let text = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n";
        let version = parse_version(text).expect("a complete answer");
        let expected = Version { release: "1.97.0-nightly".into(), minor: 97, llvm: "22.1.4".into(), llvm_major: 22 };
        assert_eq!(version, expected);
    }

    #[test]
    fn an_answer_without_an_llvm_version_is_an_error() {
        assert!(parse_version("release: 1.97.0\n").is_err());
    }
}
