//! `build-ebpf`: compiles crate overlane-ebpf, links it with the pinned bpf-linker, and leaves the object where the agent's
//! build script looks for it. The rest of the workspace never needs this toolchain.

use std::{
    env, fs,
    io::{self, IsTerminal},
    path::Path,
};

use anyhow::{Context, Result, bail};

use crate::{
    compiler::{Compiler, LLVM_MAJOR},
    progress,
    setup::{self, Scope},
    workspace::{Workspace, isolate_from_user_settings},
};

const PACKAGE: &str = "overlane-ebpf";

/// Sets up what is missing, then builds the eBPF object.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    setup::run(workspace, &[Scope::Build])?;
    let search = crate::compiler::search();
    let compiler = search.compiler.with_context(|| search.rejected.join("; "))?;
    compile(workspace, &compiler)?;
    let built = workspace.target("ebpf-build").join(target()).join("release").join(PACKAGE);
    let object = workspace.ebpf_object();
    let changed = install(&built, &object)?;
    let changed = if changed { "" } else { ", unchanged" };
    eprintln!("eBPF object: {} (by {compiler}{changed})", workspace.display(&object));
    Ok(())
}

fn compile(workspace: &Workspace, compiler: &Compiler) -> Result<()> {
    let outer_cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let cargo = compiler.cargo.as_ref().map_or(outer_cargo.as_os_str(), |path| path.as_os_str());
    let mut command = workspace.cargo_program(cargo);
    isolate_from_user_settings(&mut command);
    command
        .args(["build", "--release", "--package", PACKAGE, "-Z", "build-std=core", "--target", target()])
        .arg("--target-dir")
        .arg(workspace.target("ebpf-build"))
        .env("RUSTC", &compiler.rustc)
        // `-Z build-std` is all we want of it: a stable compiler that has its library source is as good as a nightly.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(&setup::linker(workspace)))
        .env("CARGO_TERM_COLOR", if io::stderr().is_terminal() { "always" } else { "never" });

    let log = workspace.target("setup/build-ebpf.log");
    let (output, succeeded) = progress::try_step("building the eBPF programs", &log, &mut command)?;
    if !succeeded {
        eprintln!("{output}");
        if let Some(hint) = explain(&output) {
            bail!("building the eBPF programs with {compiler} failed, as above; {hint}");
        }
        bail!("building the eBPF programs with {compiler} failed, as above");
    }
    Ok(())
}

/// The flags, separated the way cargo's CARGO_ENCODED_RUSTFLAGS wants them: a path may hold spaces.
fn rustflags(linker: &Path) -> String {
    let linker = format!("linker={}", linker.display());
    let arch = format!("bpf_target_arch=\"{}\"", env::consts::ARCH);
    ["-C", "debuginfo=2", "-C", "link-arg=--btf", "-C", &linker, "--cfg", &arch].join("\x1f")
}

/// A BPF program has the byte order of the host it runs on.
fn target() -> &'static str {
    if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" }
}

/// What a failed link most likely means.
fn explain(output: &str) -> Option<String> {
    let mentions = |needles: &[&str]| needles.iter().any(|needle| output.contains(needle));
    if mentions(&["error while loading shared libraries", "linker `", "could not exec the linker"]) {
        return Some(
            "bpf-linker itself does not start: remove target/tools and run `cargo xtask setup --only build`".to_owned(),
        );
    }
    mentions(&["Invalid bitcode", "Unknown attribute kind", "Invalid record", "Opaque pointers", "bitcode reader"]).then(|| {
        format!(
            "the compiler's bitcode is not what bpf-linker's LLVM {LLVM_MAJOR} reads, so their versions do not fit: \
             remove target/tools and target/ebpf-build and run `cargo xtask build-ebpf` again"
        )
    })
}

/// Copies the object if it is new; the same bytes keep their time stamp, so that the agent is not built again.
fn install(built: &Path, object: &Path) -> Result<bool> {
    let bytes = fs::read(built).with_context(|| format!("reading {}", built.display()))?;
    if fs::read(object).is_ok_and(|present| present == bytes) {
        return Ok(false);
    }
    let doing = || format!("writing {}", object.display());
    fs::create_dir_all(object.parent().with_context(doing)?).with_context(doing)?;
    let partial = object.with_extension("partial");
    fs::write(&partial, bytes).with_context(doing)?;
    fs::rename(&partial, object).with_context(doing)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bitcode_error_is_explained_as_a_version_mismatch() {
        let hint = explain("error: linking with bpf-linker failed: Unknown attribute kind (102)").expect("a hint");
        assert!(hint.contains("versions do not fit"), "{hint}");
    }

    #[test]
    fn an_ordinary_compile_error_gets_no_hint() {
        assert_eq!(explain("error[E0308]: mismatched types"), None);
    }

    #[test]
    fn a_linker_path_with_a_space_stays_one_flag() {
        let flags = rustflags(Path::new("/a b/bpf-linker"));
        assert!(flags.split('\x1f').any(|flag| flag == "linker=/a b/bpf-linker"));
    }
}
