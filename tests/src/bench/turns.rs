//! Variants take turns. A machine that others use as well is now faster and now slower; what is compared is measured in slices
//! that follow each other, so that all variants have their share of both.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::figures::Figures;

/// How long something is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turns {
    /// Rounds, each of which gives every variant a value.
    pub(crate) rounds: usize,
    /// How often each variant is measured in a round.
    pub(crate) slices: usize,
}

impl Turns {
    /// As thorough as a figure needs to be that is compared with a limit.
    pub(crate) const THOROUGH: Self = Self { rounds: 7, slices: 4 };
}

/// A ratio of two variants, by their names; left out where one of them was not measured.
pub(crate) struct Ratio<'a> {
    pub(crate) name: &'a str,
    pub(crate) of: &'a str,
    pub(crate) to: &'a str,
}

/// Something that is measured for a while.
pub(crate) trait Variant {
    /// How many there were, and how long it took; `None` when some have got lost on the way, as happens when the machine stands still
    /// while queues are full: such a slice says nothing about costs.
    fn slice(&mut self) -> Result<Option<(u64, Duration)>>;
}

/// The rates of all variants, per second: a list for each round, in the order of the variants.
pub(crate) struct Rates {
    names: Vec<String>,
    rounds: Vec<Vec<f64>>,
}

/// Measures variants by turns: the slices of each variant in each round. A bar on the terminal says how far it is.
pub(crate) fn by_turns<V, S>(
    turns: Turns,
    variants: &mut [(String, V)],
    mut measure: impl FnMut(&mut V) -> Result<S>,
) -> Result<Vec<Vec<Vec<S>>>> {
    let bar = ProgressBar::new((turns.rounds * turns.slices * variants.len()) as u64);
    bar.set_style(ProgressStyle::with_template("  {wide_bar} {pos}/{len} {eta}  {msg:<24}").context("a bar")?);
    let mut rounds = Vec::new();
    for _ in 0..turns.rounds {
        let mut round: Vec<Vec<S>> = variants.iter().map(|_| Vec::new()).collect();
        for turn in 0..turns.slices {
            for place in 0..variants.len() {
                // Nobody always follows the same one.
                let index = (place + turn) % variants.len();
                let (name, variant) = &mut variants[index];
                bar.set_message(name.clone());
                round[index].push(measure(variant).with_context(|| format!("measuring {name}"))?);
                bar.inc(1);
            }
        }
        rounds.push(round);
    }
    bar.finish_and_clear();
    Ok(rounds)
}

/// Measures variants by turns, and their rates: the rate of a round is that of all its slices together.
pub(crate) fn rates<V: Variant>(turns: Turns, variants: &mut [(String, V)]) -> Result<Rates> {
    let rounds = by_turns(turns, variants, undisturbed)?;
    let rate = |slices: &Vec<(u64, Duration)>| {
        let (count, time) = slices.iter().fold((0, Duration::ZERO), |sum, slice| (sum.0 + slice.0, sum.1 + slice.1));
        count as f64 / time.as_secs_f64()
    };
    let values = rounds.iter().map(|round| round.iter().map(rate).collect()).collect();
    Ok(Rates { names: variants.iter().map(|(name, _)| name.clone()).collect(), rounds: values })
}

impl Rates {
    /// The variants.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// A variant's rates, round by round; nothing if it was not measured.
    pub(crate) fn of(&self, name: &str) -> Vec<f64> {
        let place = self.names.iter().position(|known| *known == name);
        place.map(|place| self.rounds.iter().map(|rates| rates[place]).collect()).unwrap_or_default()
    }

    /// One variant's rates by another one's, round by round.
    pub(crate) fn ratio(&self, of: &str, to: &str) -> Vec<f64> {
        self.of(of).iter().zip(self.of(to)).map(|(of, to)| of / to).collect()
    }

    /// Notes each variant's rate as a figure, and ratios as others.
    pub(crate) fn note(&self, figures: &mut Figures, (unit, per_unit): (&'static str, f64), ratios: &[Ratio]) {
        for name in &self.names {
            figures.add(name.as_str(), unit, self.of(name).iter().map(|rate| rate / per_unit).collect());
        }
        for ratio in ratios {
            figures.add(ratio.name, "x", self.ratio(ratio.of, ratio.to));
        }
    }
}

fn undisturbed<V: Variant>(variant: &mut V) -> Result<(u64, Duration)> {
    const ATTEMPTS: usize = 10;
    for _ in 0..ATTEMPTS {
        if let Some(measured) = variant.slice()? {
            return Ok(measured);
        }
    }
    bail!("something has got lost on the way {ATTEMPTS} times")
}
