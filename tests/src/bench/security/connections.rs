//! New TCP connections a second, as the hosts between two machines see them: every segment of a short connection passes both
//! hosts, and what the machines' own TCP costs is not counted, as in [`super::rate`]. With it, see [`super::sockets`].

use std::time::Duration;

use anyhow::Result;
use overlane_tests::lab::World;

use crate::{
    cpu::{Cpu, take},
    figures::Figures,
    frames::{Conversations, Entrance, Generator, Side, Sink},
    hosts::{Behind, Hosts, Ports, SERVICE, ends},
    turns::{self, Ratio, Turns, Variant},
};

/// Connections of a slice, which go through each of their stages together.
const TOGETHER: u32 = 4096;
/// Ports of the client, before the first one is used again.
const CLIENTS: u16 = 0x8000;

const FIN: u8 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// A short connection: who sends (the client on the left host, the server on the right one), flags, sequence numbers, and
/// whether there is a byte of data. The server closes with its answer.
const STAGES: [(Side, u8, [u32; 2], bool); 8] = [
    (Side::Source, SYN, [1000, 0], false),
    (Side::Destination, SYN | ACK, [5000, 1001], false),
    (Side::Source, ACK, [1001, 5001], false),
    (Side::Source, ACK, [1001, 5001], true),
    (Side::Destination, FIN | ACK, [5001, 1002], true),
    (Side::Source, ACK, [1002, 5003], false),
    (Side::Source, FIN | ACK, [1002, 5003], false),
    (Side::Destination, ACK, [5003, 1003], false),
];

/// What opens connections from one machine to another.
struct Path<'a> {
    hosts: &'a Hosts,
    ports: Ports,
    stages: Vec<(Side, Generator)>,
    sinks: [Sink; 2],
}

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    let world = World::private()?;
    let (iptables, kernel) = (Hosts::with_iptables(&world, Behind::Veth)?, Hosts::unfiltered(&world, Behind::Veth)?);
    let overlane = Hosts::with_overlane(world.part("overlane-")?, "")?;
    let path = |name: &str, hosts, ports| Ok((name.to_owned(), Path::new(hosts, ports)?));
    let mut paths = [
        path("crr_iptables", &iptables, Ports::Few),
        path("crr_kernel", &kernel, Ports::Few),
        path("crr_groups_on", &overlane, Ports::Few),
        path("crr_1000_rules_iptables", &iptables, Ports::Many),
        path("crr_1000_rules", &overlane, Ports::Many),
    ]
    .into_iter()
    .collect::<Result<Vec<_>>>()?;
    let ratios = [
        Ratio { name: "crr_vs_iptables", of: "crr_groups_on", to: "crr_iptables" },
        Ratio { name: "crr_vs_kernel", of: "crr_groups_on", to: "crr_kernel" },
        Ratio { name: "crr_1000_rules_vs_iptables", of: "crr_1000_rules", to: "crr_1000_rules_iptables" },
    ];
    turns::rates(Turns::THOROUGH, &mut paths)?.note(figures, ("1/s", 1.0), &ratios);
    Ok(())
}

impl<'a> Path<'a> {
    fn new(hosts: &'a Hosts, ports: Ports) -> Result<Self> {
        let [left, right] = hosts.machines(ports);
        let [left_host, right_host] = hosts.namespaces();
        let mut stages = Vec::new();
        for (side, flags, numbers, has_data) in STAGES {
            let payload = if has_data { &b"x"[..] } else { &[] };
            let conversations = Conversations { side, first: CLIENTS, count: CLIENTS.into(), is_endless: false };
            let generator = if side == Side::Source {
                let frame = ends(left, right).numbered_segment([0, SERVICE], flags, numbers, payload);
                Generator::new(left_host, &left.port.tap(), Entrance::Received, frame, conversations)?
            } else {
                let frame = ends(right, left).numbered_segment([SERVICE, 0], flags, numbers, payload);
                Generator::new(right_host, &right.port.tap(), Entrance::Received, frame, conversations)?
            };
            stages.push((side, generator));
        }
        let sinks = [Sink::at(&left.namespace, "eth0")?, Sink::at(&right.namespace, "eth0")?];
        Ok(Self { hosts, ports, stages, sinks })
    }
}

impl Variant for Path<'_> {
    fn slice(&mut self) -> Result<Option<(u64, Duration)>> {
        let mut time = Duration::ZERO;
        let [left, right] = self.hosts.namespaces();
        for (side, generator) in &self.stages {
            let host = if *side == Side::Source { left } else { right };
            time += host.inside(|| {
                take(Cpu::Last)?;
                generator.send(TOGETHER)
            })?;
        }
        let mut is_whole = true;
        for (sink, machine) in self.sinks.iter_mut().zip(self.hosts.machines(self.ports)) {
            let expected = u64::from(TOGETHER) * if machine.port.host == "left" { 3 } else { 5 };
            is_whole &= sink.take(&machine.namespace)? >= expected;
        }
        Ok(is_whole.then_some((TOGETHER.into(), time)))
    }
}
