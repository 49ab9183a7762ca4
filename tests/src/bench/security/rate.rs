//! Packets a second of established flows, with everything that they cause on one CPU.

use anyhow::Result;
use overlane_tests::lab::{HOSTS, World};

use crate::{
    figures::Figures,
    hosts::{Behind, Hosts, Ports},
    path::{Load, Path, remember_flows},
    turns::{self, Ratio, Turns},
};

/// What the connection tables hold besides.
const FEW_FLOWS: u32 = 1_000;
const MANY_FLOWS: u32 = 1_000_000;
/// So many that no flow has two packets soon after each other.
const ACTIVE_FLOWS: u32 = 16_384;

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    let world = World::private()?;
    let (iptables, kernel) = (Hosts::with_iptables(&world, Behind::Veth)?, Hosts::unfiltered(&world, Behind::Veth)?);
    let overlane = Hosts::with_overlane(world.part("overlane-")?, "")?;
    // The table holds a few more than are asked for: it throws out before it is full.
    let full = Hosts::with_overlane(world.part("full-")?, &format!("flows_max = {}\n", MANY_FLOWS / 4 * 5))?;
    for (hosts, flows) in [(&overlane, FEW_FLOWS), (&full, MANY_FLOWS)] {
        for (name, _) in HOSTS {
            remember_flows(hosts.pair.host(name), flows)?;
        }
    }
    let active = Load { flows: ACTIVE_FLOWS, ..Load::SMALL };
    let path = |name: &str, hosts, ports, load| Ok((name.to_owned(), Path::new(hosts, ports, load)?));
    let mut paths = [
        path("pps_iptables", &iptables, Ports::Few, Load::SMALL),
        path("pps_kernel", &kernel, Ports::Few, Load::SMALL),
        path("pps_groups_off", &overlane, Ports::Open, Load::SMALL),
        path("pps_groups_on", &overlane, Ports::Few, Load::SMALL),
        path("pps_1000_rules", &overlane, Ports::Many, Load::SMALL),
        path("pps_1m_flows", &full, Ports::Few, Load::SMALL),
        path("pps_16k_active_flows", &full, Ports::Many, active),
    ]
    .into_iter()
    .collect::<Result<Vec<_>>>()?;
    let ratios = [
        Ratio { name: "pps_vs_iptables", of: "pps_groups_on", to: "pps_iptables" },
        Ratio { name: "pps_vs_kernel", of: "pps_groups_on", to: "pps_kernel" },
        Ratio { name: "pps_vs_groups_off", of: "pps_groups_on", to: "pps_groups_off" },
        Ratio { name: "pps_1000_rules_vs_10", of: "pps_1000_rules", to: "pps_groups_on" },
        Ratio { name: "pps_1m_flows_vs_1k", of: "pps_1m_flows", to: "pps_groups_on" },
        Ratio { name: "pps_16k_active_flows_vs_16", of: "pps_16k_active_flows", to: "pps_1m_flows" },
    ];
    turns::rates(Turns::THOROUGH, &mut paths)?.note(figures, ("Mpps", 1e6), &ratios);
    Ok(())
}
