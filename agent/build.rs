//! Embeds the eBPF object that `cargo xtask build-ebpf` leaves in `target/ebpf`. Without it the agent builds all the
//! same, and runs with the kernel lane only.

use std::{env, fs, path::PathBuf};

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let object = manifest.join("../target/ebpf/overlane.bpf.o");
    println!("cargo::rerun-if-changed={}", object.display());
    let embedded = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("overlane.bpf.o");
    // A missing object becomes an empty one, which the agent reports when it would load it.
    let bytes = fs::read(&object).unwrap_or_default();
    fs::write(&embedded, bytes).expect("OUT_DIR is writable");
}
