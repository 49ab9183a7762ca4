//! How long an answer takes.

use std::time::Duration;

use anyhow::Result;

use super::{
    Effort,
    variants::{Beds, LINUX_BRIDGE, TC_GROUPS},
};
use crate::{
    figures::Figures,
    sockets::{Requests, Transport},
    turns,
};

const SLICE: Duration = Duration::from_millis(100);

pub(crate) fn measure(figures: &mut Figures, beds: &Beds, effort: Effort) -> Result<()> {
    for (prefix, transport) in [("tcp_rr", Transport::Tcp), ("udp_rr", Transport::Udp)] {
        let mut requests = beds.each(|hosts, ports| Requests::new(hosts, ports, transport))?;
        let rounds = turns::by_turns(effort.turns(), &mut requests, |requests| requests.ask(SLICE))?;
        let percentiles = |place: usize, percent: usize| -> Vec<f64> {
            rounds.iter().map(|round| percentile(round[place].concat(), percent)).collect()
        };
        let median = |name: &str| {
            let place = requests.iter().position(|(known, _)| known == name);
            place.map(|place| percentiles(place, 50)).unwrap_or_default()
        };
        for (place, (name, _)) in requests.iter().enumerate() {
            for percent in [50, 99] {
                figures.add(format!("{prefix}_p{percent}_{name}"), "µs", percentiles(place, percent));
            }
        }
        if transport == Transport::Tcp {
            let ratios = median(TC_GROUPS).iter().zip(median(LINUX_BRIDGE)).map(|(of, to)| of / to).collect();
            figures.add("rr_p50_vs_linuxbridge", "x", ratios);
        }
    }
    Ok(())
}

/// The value that so many percent of all values do not exceed.
fn percentile(mut values: Vec<f64>, percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((values.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
