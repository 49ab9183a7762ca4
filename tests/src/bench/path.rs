//! Packets from one machine to another, with everything that they cause on one CPU.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use overlane_abi::{Flow, FlowEnd, FlowKey4, FlowState, names};
use overlane_tests::{
    lab::{Host, Machine, Namespace},
    packet::{Ends, Frame},
};

use crate::{
    cpu::{Cpu, take},
    frames::{Conversations, Entrance, Generator, Side, Sink},
    hosts::{Hosts, Ports, ends},
    turns::Variant,
};

/// Flows that speak before they are answered.
const TOGETHER: u32 = 8_192;

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Flows that take turns: a power of two, or more than 65,536.
    pub(crate) flows: u32,
    /// Bytes of a frame.
    pub(crate) frame_len: usize,
    /// How frames get into the host.
    pub(crate) entrance: Entrance,
    /// Packets of a slice: some tenths of a second.
    pub(crate) packets: u32,
}

impl Load {
    /// The smallest frames, in flows that stay in all caches.
    pub(crate) const SMALL: Self = Self { flows: 16, frame_len: 60, entrance: Entrance::Received, packets: 1 << 16 };

    /// Source port and destination port of the first flow. More flows than there are source ports go to the next service as well.
    pub(crate) const fn ports(self) -> [u16; 2] {
        const FIRST: u16 = 0x8000;
        const SERVICE: u16 = crate::hosts::SERVICE;
        if self.flows > 1 << 16 { [crate::frames::FIRST_OF_MANY, SERVICE - 2] } else { [FIRST, SERVICE] }
    }
}

/// What sends from one machine to another, and back.
pub(crate) struct Path<'a> {
    machines: [&'a Machine; 2],
    /// Where the generators run.
    places: [&'a Namespace; 2],
    load: Load,
    forth: Generator,
    back: Generator,
    sinks: [Sink; 2],
    lost: u64,
    sent: u64,
}

impl<'a> Path<'a> {
    /// A path all of whose flows are established.
    pub(crate) fn new(hosts: &'a Hosts, ports: Ports, load: Load) -> Result<Self> {
        let machines = hosts.machines(ports);
        let [left, right] = machines;
        let (places, doors) = match load.entrance {
            Entrance::Received => (hosts.namespaces(), machines.map(|machine| machine.port.tap())),
            Entrance::Sent => (machines.map(|machine| &machine.namespace), machines.map(|_| "eth0".to_owned())),
        };
        let [source, destination] = load.ports();
        let question = datagram(&ends(left, right), [source, destination], load.frame_len);
        let answer = datagram(&ends(right, left), [destination, source], load.frame_len);
        let conversations = |side| Conversations { side, first: source, count: load.flows, is_endless: false };
        let generator = |index: usize, frame, side| {
            Generator::new(places[index], &doors[index], load.entrance, frame, conversations(side))
        };
        // Who begins a flow goes on after the answer: only then has the flow shown both of its ends.
        let mut again = generator(0, question.clone(), Side::Source)?;
        let (mut forth, mut back) = (generator(0, question, Side::Source)?, generator(1, answer, Side::Destination)?);
        let known = if hosts.forward_by_program() {
            hosts.poll(load.entrance == Entrance::Sent)?;
            (forth, back) = (forth.for_programs(hosts, 0)?, back.for_programs(hosts, 1)?);
            again = again.for_programs(hosts, 2)?;
            None
        } else {
            Some([forth.know(hosts, 0)?, back.know(hosts, 1)?, again.know(hosts, 2)?])
        };
        let sinks = [Sink::at(&left.namespace, "eth0")?, Sink::at(&right.namespace, "eth0")?];
        let mut path = Self { machines, places, load, forth, back, sinks, lost: 0, sent: 0 };
        path.establish(&again)?;
        // It is one of few places, which the programs that are measured want as well.
        drop(known);
        Ok(path)
    }

    /// Sends an answer of each of the `count` flows that come next, from another CPU than usual.
    pub(crate) fn answer(&self, count: u32) -> Result<()> {
        let generator = &self.back;
        let send = || {
            take(Cpu::First)?;
            generator.send(count)
        };
        self.places[1].inside(send).map(drop)
    }

    /// Answers that have arrived since the last time: no rule admits them, only that their flows are remembered.
    pub(crate) fn answers(&mut self) -> Result<u64> {
        self.sinks[0].take(&self.machines[0].namespace)
    }

    /// Packets that have got lost, of how many, in all slices so far.
    pub(crate) const fn lost(&self) -> (u64, u64) {
        (self.lost, self.sent)
    }

    /// Both sides speak, until nothing is lost any more: then every flow is established. Those that speak together fit into the table of
    /// flows that have not shown both of their ends.
    fn establish(&mut self, again: &Generator) -> Result<()> {
        const ATTEMPTS: usize = 10;
        let [left, right] = self.places;
        let times = self.load.flows.div_ceil(TOGETHER);
        let sent = u64::from(times * TOGETHER);
        for _ in 0..ATTEMPTS {
            for _ in 0..times {
                for (place, generator) in [(left, &self.forth), (right, &self.back), (left, again)] {
                    place.inside(|| {
                        take(Cpu::Last)?;
                        generator.send(TOGETHER)
                    })?;
                }
            }
            let mut is_whole = true;
            for ((sink, machine), sent) in self.sinks.iter_mut().zip(self.machines).zip([sent, 2 * sent]) {
                is_whole &= sink.take(&machine.namespace)? >= sent;
            }
            if is_whole {
                return Ok(());
            }
        }
        bail!("of {sent} packets in each direction some have got lost, {ATTEMPTS} times")
    }
}

impl Variant for Path<'_> {
    fn slice(&mut self) -> Result<Option<(u64, Duration)>> {
        let (generator, packets) = (&self.forth, self.load.packets);
        let time = self.places[0].inside(|| {
            take(Cpu::Last)?;
            generator.send(packets)
        })?;
        let arrived = self.sinks[1].take(&self.machines[1].namespace)?;
        self.sent += u64::from(packets);
        self.lost += u64::from(packets).saturating_sub(arrived);
        Ok((arrived >= packets.into()).then_some((arrived, time)))
    }
}

/// A UDP packet, without a checksum.
pub(crate) fn datagram(ends: &Ends, [source_port, port]: [u16; 2], frame_len: usize) -> Frame {
    const HEADERS: usize = 42;
    const CHECKSUM: usize = 40;
    let payload = vec![0; frame_len - HEADERS];
    ends.udp_between(source_port, port, &payload).with_byte(CHECKSUM, 0).with_byte(CHECKSUM + 1, 0)
}

/// Fills the connection table of a host with flows of machines that are silent for now.
pub(crate) fn remember_flows(host: &Host, count: u32) -> Result<()> {
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
