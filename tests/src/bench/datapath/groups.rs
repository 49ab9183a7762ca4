//! What security groups cost an established flow, where a host remembers a million flows and a port has a thousand rules.

use anyhow::Result;
use overlane_tests::lab::{HOSTS, World};

use super::Effort;
use crate::{
    figures::Figures,
    hosts::{Hosts, Ports},
    path::{Load, Path, remember_flows},
    turns,
};

const FLOWS: u32 = 1_000_000;

pub(crate) fn measure(figures: &mut Figures, world: &World, effort: Effort) -> Result<()> {
    // The table holds a few more than are asked for: it throws out before it is full.
    let hosts = Hosts::with_overlane(world.part("full-")?, &format!("flows_max = {}\n", FLOWS / 4 * 5))?;
    for (name, _) in HOSTS {
        remember_flows(hosts.pair.host(name), FLOWS)?;
    }
    let load = Load::SMALL;
    let (on, off) = ("groups_on_1m_flows_1000_rules", "groups_off_1m_flows");
    let mut paths = [
        (on.to_owned(), Path::new(&hosts, Ports::Many, load)?),
        (off.to_owned(), Path::new(&hosts, Ports::Open, load)?),
    ];
    let rates = turns::rates(effort.turns(), &mut paths)?;
    rates.note(figures, ("Mpps", 1e6), &[]);
    figures.add("groups_cost", "%", rates.ratio(on, off).iter().map(|ratio| (1.0 - ratio) * 100.0).collect());
    Ok(())
}
