//! The demo itself, as `cargo xtask demo --json` runs it.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

#[test]
fn the_demo_passes_its_checks_and_prints_one_json_object() -> Result<()> {
    let demo = std::env::var_os("OVERLANE_DEMO_BIN").context("cargo xtask test sets OVERLANE_DEMO_BIN")?;
    let output = Command::new(demo).arg("--json").output().context("running the demo")?;
    let report: Value = serde_json::from_slice(&output.stdout).context("reading the demo's report")?;
    let checks = report["checks"].as_array().context("checks")?;
    let failed: Vec<&Value> = checks.iter().filter(|check| check["ok"] != true).collect();
    ensure!(failed.is_empty() && report["ok"] == true && output.status.success(), "{failed:#?}");
    let kinds =
        ["ping ", "DHCP ", "routing table", "metadata", "iperf3 ", "fast lane", "ARP responder", "plug to first ping"];
    for kind in kinds {
        let has_kind = |check: &Value| check["name"].as_str().is_some_and(|name| name.starts_with(kind));
        ensure!(checks.iter().any(has_kind), "no check is about {kind}");
    }
    Ok(())
}
