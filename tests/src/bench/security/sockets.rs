//! New TCP connections a second of real sockets, next to iptables.

use anyhow::Result;
use overlane_tests::lab::World;

use crate::{
    figures::Figures,
    hosts::{Behind, Hosts, Ports},
    sockets::Connections,
    turns::{self, Ratio, Turns},
};

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    let world = World::private()?;
    let (iptables, kernel) = (Hosts::with_iptables(&world, Behind::Veth)?, Hosts::unfiltered(&world, Behind::Veth)?);
    let overlane = Hosts::with_overlane(world.part("overlane-")?, "")?;
    let service = |name: &str, hosts, ports| Ok((name.to_owned(), Connections::new(hosts, ports)?));
    let mut services = [
        service("crr_sockets_iptables", &iptables, Ports::Few),
        service("crr_sockets_kernel", &kernel, Ports::Few),
        service("crr_sockets_groups_on", &overlane, Ports::Few),
        service("crr_sockets_1000_iptables", &iptables, Ports::Many),
        service("crr_sockets_1000", &overlane, Ports::Many),
    ]
    .into_iter()
    .collect::<Result<Vec<_>>>()?;
    let ratios = [
        Ratio { name: "crr_sockets_vs_iptables", of: "crr_sockets_groups_on", to: "crr_sockets_iptables" },
        Ratio { name: "crr_sockets_vs_kernel", of: "crr_sockets_groups_on", to: "crr_sockets_kernel" },
        Ratio { name: "crr_sockets_1000_vs_iptables", of: "crr_sockets_1000", to: "crr_sockets_1000_iptables" },
    ];
    turns::rates(Turns::THOROUGH, &mut services)?.note(figures, ("1/s", 1.0), &ratios);
    Ok(())
}
