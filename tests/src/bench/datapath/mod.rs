//! `cargo xtask bench datapath`: what the packet path costs, next to what it replaces and next to nothing at all.
//!
//! All variants are there at the same time and take turns; the wire between two hosts carries frames of wire size for all of them.

mod bulk;
mod connections;
mod goals;
mod groups;
mod latency;
mod packets;
mod plots;
mod programs;
mod report;
mod scale;
mod taps;
mod variants;

use std::time::Instant;

use anyhow::{Context as _, Result};
use overlane_tests::lab::World;

use crate::{Part, figures::Figures, hosts::Behind, turns::Turns};
pub(crate) use report::Report;
use variants::Beds;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effort {
    /// Fewer slices, and only the loads that figures need.
    pub(crate) is_quick: bool,
}

impl Effort {
    /// For what figures of the report compare.
    const fn turns(self) -> Turns {
        if self.is_quick { Turns { rounds: 5, slices: 1 } } else { Turns { rounds: 9, slices: 4 } }
    }

    /// For what is only shown.
    const fn short_turns(self) -> Turns {
        if self.is_quick { Turns { rounds: 3, slices: 1 } } else { Turns { rounds: 5, slices: 1 } }
    }
}

/// Measures these parts.
pub(crate) fn measure(figures: &mut Figures, parts: &[Part], effort: Effort) -> Result<()> {
    let world = World::private()?;
    let needs_beds = |part: &Part| matches!(part, Part::Packets | Part::Bulk | Part::Latency | Part::Crr);
    let mut beds = Beds::default();
    for (number, part) in (1..).zip(parts) {
        let begun = Instant::now();
        eprintln!("{number} of {}: {}", parts.len(), part.name());
        if !needs_beds(part) {
            // Hosts that nobody measures any more, and their agents, would only be in the way.
            beds = Beds::default();
        } else if beds.is_empty() {
            beds = Beds::build(&world, Behind::Veth)?;
        }
        let measured = match part {
            Part::Packets => packets::measure(figures, &beds, effort),
            Part::Bulk => bulk::measure(figures, &beds, effort),
            Part::Latency => latency::measure(figures, &beds, effort),
            Part::Crr => connections::measure(figures, &beds, effort),
            Part::GroupsCost => groups::measure(figures, &world, effort),
            Part::Programs => programs::measure(figures, &world, effort),
            Part::RealTaps => taps::measure(figures, &world, effort),
            Part::Entries => scale::measure(figures, &world, effort),
            _ => unreachable!("a part of another subject"),
        };
        measured.with_context(|| format!("the part {}", part.name()))?;
        eprintln!("{} took {:.0} s", part.name(), begun.elapsed().as_secs_f64());
    }
    Ok(())
}
