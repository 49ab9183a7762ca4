//! Packets a second of established flows, with everything that they cause on one CPU.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overlane_abi::{Flow, FlowEnd, FlowKey4, FlowState, names};
use overlane_tests::{
    lab::{HOSTS, Host, World},
    packet::{Ends, Frame},
};

use super::{
    labs::{Cpu, Hosts, Ports, SERVICE, ends, take},
    turns::{self, Ratio, Variant},
};
use crate::{
    figures::Figures,
    frames::{Conversations, Generator, Side, Sink},
};

/// Packets of a slice: some tenths of a second.
const PACKETS: u32 = 1 << 16;
/// What the connection tables hold besides.
const FEW_FLOWS: u32 = 1_000;
const MANY_FLOWS: u32 = 1_000_000;
/// Flows that take turns.
const FLOWS: u32 = 16;
/// So many that no flow has two packets soon after each other.
const ACTIVE_FLOWS: u32 = 16_384;
const FIRST_PORT: u16 = 0x8000;

/// What sends from one machine to another, and back.
pub(super) struct Path<'a> {
    hosts: &'a Hosts,
    ports: Ports,
    forth: Generator,
    back: Generator,
    sinks: [Sink; 2],
}

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    let world = World::private()?;
    let (iptables, kernel) = (Hosts::with_iptables(&world)?, Hosts::unfiltered(&world)?);
    let overlane = Hosts::with_overlane(world.part("overlane-")?, "")?;
    // The table holds a few more than are asked for: it throws out before it is full.
    let full = Hosts::with_overlane(world.part("full-")?, &format!("flows_max = {}\n", MANY_FLOWS / 4 * 5))?;
    for (hosts, flows) in [(&overlane, FEW_FLOWS), (&full, MANY_FLOWS)] {
        for (name, _) in HOSTS {
            remember_flows(hosts.pair.host(name), flows)?;
        }
    }
    let mut paths = [
        ("pps_iptables", Path::new(&iptables, Ports::Few)?),
        ("pps_kernel", Path::new(&kernel, Ports::Few)?),
        ("pps_groups_off", Path::new(&overlane, Ports::Open)?),
        ("pps_groups_on", Path::new(&overlane, Ports::Few)?),
        ("pps_1000_rules", Path::new(&overlane, Ports::Many)?),
        ("pps_1m_flows", Path::new(&full, Ports::Few)?),
        ("pps_16k_active_flows", Path::with_flows(&full, Ports::Many, ACTIVE_FLOWS)?),
    ];
    let ratios = [
        Ratio { name: "pps_vs_iptables", of: 3, to: 0 },
        Ratio { name: "pps_vs_kernel", of: 3, to: 1 },
        Ratio { name: "pps_vs_groups_off", of: 3, to: 2 },
        Ratio { name: "pps_1000_rules_vs_10", of: 4, to: 3 },
        Ratio { name: "pps_1m_flows_vs_1k", of: 5, to: 3 },
        Ratio { name: "pps_16k_active_flows_vs_16", of: 6, to: 5 },
    ];
    turns::measure(figures, &mut paths, ("Mpps", 1e6), &ratios)
}

impl<'a> Path<'a> {
    fn new(hosts: &'a Hosts, ports: Ports) -> Result<Self> {
        Self::with_flows(hosts, ports, FLOWS)
    }

    /// A path for that many flows, all of them established.
    pub(super) fn with_flows(hosts: &'a Hosts, ports: Ports, flows: u32) -> Result<Self> {
        let [left, right] = hosts.machines(ports);
        let [left_host, right_host] = hosts.namespaces();
        let question = datagram(&ends(left, right), FIRST_PORT, SERVICE);
        let answer = datagram(&ends(right, left), SERVICE, FIRST_PORT);
        let conversations = |side| Conversations { side, first: FIRST_PORT, count: flows, is_endless: false };
        let forth = Generator::new(left_host, &left.port.tap(), question, conversations(Side::Source))?;
        let back = Generator::new(right_host, &right.port.tap(), answer, conversations(Side::Destination))?;
        let sinks = [Sink::at(&left.namespace, "eth0")?, Sink::at(&right.namespace, "eth0")?];
        let mut path = Self { hosts, ports, forth, back, sinks };
        path.establish()?;
        Ok(path)
    }

    /// Sends an answer of each of the `count` flows that come next, from another CPU than usual.
    pub(super) fn answer(&self, count: u32) -> Result<()> {
        let ([_, right], generator) = (self.hosts.namespaces(), &self.back);
        let send = || {
            take(Cpu::First)?;
            generator.send(count)
        };
        right.inside(send).map(drop)
    }

    /// Answers that have arrived since the last time: no rule admits them, only that their flows are remembered.
    pub(super) fn answers(&mut self) -> Result<u64> {
        let [client, _] = self.hosts.machines(self.ports);
        self.sinks[0].take(&client.namespace)
    }

    /// Both sides speak, so that every flow is established.
    fn establish(&mut self) -> Result<()> {
        const EACH: u32 = ACTIVE_FLOWS;
        let [left, right] = self.hosts.namespaces();
        for _ in 0..2 {
            for (host, generator) in [(left, &self.forth), (right, &self.back)] {
                host.inside(|| {
                    take(Cpu::Last)?;
                    generator.send(EACH)
                })?;
            }
        }
        for (sink, machine) in self.sinks.iter_mut().zip(self.hosts.machines(self.ports)) {
            let arrived = sink.take(&machine.namespace)?;
            ensure!(arrived >= u64::from(2 * EACH), "{arrived} of {} packets have arrived", 2 * EACH);
        }
        Ok(())
    }
}

/// Fills the connection table of a host with flows of machines that are silent for now.
fn remember_flows(host: &Host, count: u32) -> Result<()> {
    let mut table = host.map::<FlowKey4, Flow>(names::CONNTRACK4)?;
    let nobody = FlowEnd { ifindex: 0, policy: 0, revision: 0, generation: 0, rule: 0, flags: 0 };
    let state = FlowState::Established as u8;
    let flow = Flow { expires: u64::MAX, created: 0, state, flags: Flow::ANSWERED, pad: [0; 6], ends: [nobody; 2] };
    for number in 0..count {
        let [_, high, middle, low] = number.to_be_bytes();
        let addresses = [[10, 0, 10, 1], [172, 16 + high, middle, low]];
        let key = FlowKey4 { zone: 1, addresses, ports: [443, 50_000], protocol: 6, pad: [0; 3] };
        table.insert(key, flow, 0).context("remembering a flow")?;
    }
    Ok(())
}

/// A minimal UDP packet, without a checksum.
fn datagram(ends: &Ends, source_port: u16, port: u16) -> Frame {
    const PAYLOAD: usize = 18;
    const CHECKSUM: usize = 40;
    ends.udp_between(source_port, port, &[0; PAYLOAD]).with_byte(CHECKSUM, 0).with_byte(CHECKSUM + 1, 0)
}

impl Variant for Path<'_> {
    fn slice(&mut self) -> Result<Option<(u64, Duration)>> {
        let [left, _] = self.hosts.namespaces();
        let time = left.inside(|| {
            take(Cpu::Last)?;
            self.forth.send(PACKETS)
        })?;
        let [_, server] = self.hosts.machines(self.ports);
        let arrived = self.sinks[1].take(&server.namespace)?;
        Ok((arrived >= PACKETS.into()).then_some((arrived, time)))
    }
}
