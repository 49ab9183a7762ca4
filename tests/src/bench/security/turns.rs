//! Variants take turns. A machine that others use as well is now faster and now slower; what is compared is measured in slices
//! that follow each other, so that all variants have their share of both.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::figures::Figures;

const ROUNDS: usize = 7;
/// How often each variant is measured in a round.
const TURNS: usize = 4;

/// A ratio of two variants, by their places in the list.
pub(super) struct Ratio {
    pub(super) name: &'static str,
    pub(super) of: usize,
    pub(super) to: usize,
}

/// Something that is measured for a while.
pub(super) trait Variant {
    /// How many there were, and how long it took; `None` when some have got lost on the way, as happens when the machine stands still
    /// while queues are full: such a slice says nothing about costs.
    fn slice(&mut self) -> Result<Option<(u64, Duration)>>;
}

/// Measures variants, and notes each one's rate as a figure and the ratios of rates within a round as others.
pub(super) fn measure<V: Variant>(
    figures: &mut Figures,
    variants: &mut [(&'static str, V)],
    (unit, per_unit): (&'static str, f64),
    ratios: &[Ratio],
) -> Result<()> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut sums = vec![(0, Duration::ZERO); variants.len()];
        for turn in 0..TURNS {
            for place in 0..variants.len() {
                // Nobody always follows the same one.
                let index = (place + turn) % variants.len();
                let (name, variant) = &mut variants[index];
                let (count, time) = undisturbed(variant).with_context(|| format!("measuring {name}"))?;
                sums[index] = (sums[index].0 + count, sums[index].1 + time);
            }
        }
        rounds.push(sums.iter().map(|(count, time)| *count as f64 / time.as_secs_f64()).collect::<Vec<f64>>());
    }
    for (index, (name, _)) in variants.iter().enumerate() {
        figures.add(name, unit, rounds.iter().map(|rates| rates[index] / per_unit).collect());
    }
    for ratio in ratios {
        figures.add(ratio.name, "x", rounds.iter().map(|rates| rates[ratio.of] / rates[ratio.to]).collect());
    }
    Ok(())
}

fn undisturbed(variant: &mut impl Variant) -> Result<(u64, Duration)> {
    const ATTEMPTS: usize = 10;
    for _ in 0..ATTEMPTS {
        if let Some(measured) = variant.slice()? {
            return Ok(measured);
        }
    }
    bail!("something has got lost on the way {ATTEMPTS} times")
}
