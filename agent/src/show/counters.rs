//! `show drops` and `show counters`.

use std::collections::BTreeMap;

use overlane_abi::Outcome;
use overlane_core::model::PortId;
use serde::Serialize;

use super::{Selection, View, table::Row};

/// What was dropped on one interface for one reason.
#[derive(Serialize)]
pub(super) struct DropRow {
    interface: String,
    /// The port whose tap it is.
    port_id: Option<PortId>,
    reason: &'static str,
    packets: u64,
    bytes: u64,
    explanation: &'static str,
}

impl Row for DropRow {
    const TITLES: &'static [&'static str] = &["INTERFACE", "PORT", "REASON", "PACKETS", "BYTES", "EXPLANATION"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.interface.clone(),
            self.port_id.map(|id| id.to_string()).unwrap_or_default(),
            self.reason.to_owned(),
            self.packets.to_string(),
            self.bytes.to_string(),
            self.explanation.to_owned(),
        ]
    }
}

pub(super) fn drops(view: &View, selection: &Selection) -> Vec<DropRow> {
    let row = |drop: &crate::datapath::Drop| DropRow {
        interface: if drop.ifindex == 0 { "(all others)".to_owned() } else { view.interface(drop.ifindex) },
        port_id: view.port_at(drop.ifindex),
        reason: drop.reason.name(),
        packets: drop.packets,
        bytes: drop.bytes,
        explanation: drop.reason.explanation(),
    };
    view.stats.drops.iter().map(row).filter(|row| selection.selects_tap(&row.interface)).collect()
}

/// What one program has seen on one interface. The outcomes add up to the packets.
#[derive(Serialize)]
pub(super) struct CounterRow {
    interface: String,
    program: &'static str,
    packets: u64,
    bytes: u64,
    /// Frames by outcome; those that never happened are left out.
    outcomes: BTreeMap<&'static str, u64>,
}

impl Row for CounterRow {
    const TITLES: &'static [&'static str] = &["INTERFACE", "PROGRAM", "PACKETS", "BYTES", "OUTCOMES"];

    fn cells(&self) -> Vec<String> {
        let outcomes: Vec<String> = self.outcomes.iter().map(|(name, count)| format!("{name} {count}")).collect();
        vec![
            self.interface.clone(),
            self.program.to_owned(),
            self.packets.to_string(),
            self.bytes.to_string(),
            outcomes.join(", "),
        ]
    }
}

pub(super) fn counters(view: &View) -> Vec<CounterRow> {
    let row = |(&(ifindex, hook), counters): (&(u32, overlane_abi::Hook), &crate::datapath::Counters)| CounterRow {
        interface: view.interface(ifindex),
        program: hook.name(),
        packets: counters.packets,
        bytes: counters.bytes,
        outcomes: Outcome::ALL
            .into_iter()
            .map(|outcome| (outcome.name(), counters.outcome(outcome)))
            .filter(|(_, count)| *count > 0)
            .collect(),
    };
    view.stats.counters.iter().map(row).collect()
}
