//! A host in a cloud of 100,000 machines: what it costs to know them all, and to learn that one has changed.

use anyhow::{Context as _, Result, ensure};
use overlane_tests::lab::{Lanes, Pair};

use crate::{edits::edit, figures::Figures};

const CROWD: u32 = 100_000;
/// To compare with: the cost of a change must not follow the size.
const SMALL_CROWD: u32 = 1_000;
const CHANGES: usize = 20;

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    change_in_a_crowd(figures, SMALL_CROWD, "fdb_change_at_1k", None)?;
    change_in_a_crowd(figures, CROWD, "fdb_change_at_100k", Some("fdb_load_100k"))
}

/// Each machine is an FDB entry and a neighbour in the maps, an entry of the vxlan device and one of the bridge.
fn change_in_a_crowd(figures: &mut Figures, size: u32, change: &'static str, load: Option<&'static str>) -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    pair.topology.add_crowd(&pair.network, "right", size);
    let (apply, whole) = edit(&pair)?;
    if let Some(load) = load {
        figures.add(load, "ms", vec![apply]);
        figures.add("fdb_load_100k_with_reading", "ms", vec![whole]);
    }
    let known = pair.host("left").show("fdb")?.len();
    ensure!(known > size as usize, "only {known} of {size} entries are there");
    let mut times = Vec::new();
    for _ in 0..CHANGES / 2 {
        let last = pair.topology.ports.pop().context("the crowd")?;
        times.push(edit(&pair)?.0);
        pair.topology.ports.push(last);
        times.push(edit(&pair)?.0);
    }
    figures.add(change, "ms", times);
    Ok(())
}
