//! TCP with one and with eight streams, and datagrams that are handed over many at a time: bytes a second, and what they cost.

use std::time::Duration;

use anyhow::Result;

use super::{
    Effort,
    variants::{Beds, KERNEL, TC, TC_GROUPS},
};
use crate::{
    figures::Figures,
    sockets::{Bulk, Kind, Streams},
    turns::{self, Turns},
};

const SLICE: Duration = Duration::from_millis(250);
const QUICK_SLICE: Duration = Duration::from_millis(150);

pub(crate) fn measure(figures: &mut Figures, beds: &Beds, effort: Effort) -> Result<()> {
    // Receivers share their CPU with programs that forward, as they do with everything that the kernel forwards.
    beds.each(|hosts, _| hosts.forward_first(false))?;
    // Others share the machine: a figure that has a goal needs the longer slices.
    let short = if effort.is_quick { QUICK_SLICE } else { SLICE };
    measure_kind(figures, beds, ("tcp_1", Kind::Tcp(1)), (effort.turns(), SLICE))?;
    measure_kind(figures, beds, ("tcp_8", Kind::Tcp(8)), (effort.short_turns(), short))?;
    measure_kind(figures, beds, ("udp_gso", Kind::UdpSegments), (effort.short_turns(), short))?;
    beds.each(|hosts, _| hosts.forward_first(true)).map(drop)
}

fn measure_kind(
    figures: &mut Figures,
    beds: &Beds,
    (prefix, kind): (&str, Kind),
    (turns, slice): (Turns, Duration),
) -> Result<()> {
    let mut streams = beds.each(|hosts, ports| Streams::new(hosts, ports, kind))?;
    let rounds = turns::by_turns(turns, &mut streams, |streams| streams.flow(slice))?;
    let rounds: Vec<Vec<Bulk>> =
        rounds.iter().map(|round| round.iter().map(|slices| slices.iter().copied().sum()).collect()).collect();
    let of = |place: usize, value: fn(&Bulk) -> f64| -> Vec<f64> {
        rounds.iter().map(|round| value(&round[place])).collect()
    };
    for (place, (name, _)) in streams.iter().enumerate() {
        figures.add(format!("{prefix}_{name}"), "Gbit/s", of(place, Bulk::gigabits_per_sec));
        figures.add(format!("{prefix}_cpu_{name}"), "ns/KiB", of(place, |bulk| bulk.per_kib(bulk.busy)));
        figures.add(format!("{prefix}_softirq_{name}"), "ns/KiB", of(place, |bulk| bulk.per_kib(bulk.softirq)));
    }
    if kind == Kind::Tcp(1) {
        let rates = |name: &str| {
            let place = streams.iter().position(|(known, _)| known == name);
            place.map(|place| of(place, Bulk::gigabits_per_sec)).unwrap_or_default()
        };
        for (key, name) in [("tcp_vs_kernel", TC), ("tcp_groups_vs_kernel", TC_GROUPS)] {
            figures.add(key, "x", rates(name).iter().zip(rates(KERNEL)).map(|(of, to)| of / to).collect());
        }
    }
    Ok(())
}
