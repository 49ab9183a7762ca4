//! The bench of the packet path, as `cargo xtask bench datapath` runs it, as short as it can be.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// With what is compared; besides, there are lanes of Overlane.
const VARIANTS: [&str; 6] = ["raw", "kernel", "linuxbridge", "tc", "tc_groups", "fast_path_off"];

#[test]
fn the_bench_measures_every_variant_in_one_run_and_prints_one_json_object() -> Result<()> {
    let bench = std::env::var_os("OVERLANE_BENCH_BIN").context("cargo xtask test sets OVERLANE_BENCH_BIN")?;
    let words = ["datapath", "--quick", "--only", "crr", "--json"];
    // Which `cargo xtask bench` makes, and tests do not download.
    let mut bench = Command::new(bench);
    bench.env_remove("OVERLANE_OPEN_VSWITCH_ROOT");
    let output = bench.args(words).output().context("running the bench")?;
    let messages = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{messages}");
    let figures: Value = serde_json::from_slice(&output.stdout).context("reading the bench's figures")?;
    ensure!(messages.contains("NOT MEASURED: ovs: "), "{messages}");
    ensure!(figures["tcp_crr_ovs"].is_null(), "{figures}");
    let keys = VARIANTS.iter().map(|variant| format!("tcp_crr_{variant}"));
    for key in keys.chain(["crr_groups_vs_linuxbridge".to_owned(), "crr_vs_kernel".to_owned()]) {
        let figure = &figures[&key];
        let number = |field: &str| figure[field].as_f64().with_context(|| format!("{field} of {key}: {figure}"));
        let (min, value, max) = (number("min")?, number("value")?, number("max")?);
        ensure!(0.0 < min && min <= value && value <= max && number("n")? >= 3.0, "{key}: {figure}");
    }
    Ok(())
}
