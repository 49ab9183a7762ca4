//! Real taps with several queues and virtio-net headers, this program being the guest: packets a second, system calls included, and
//! whether superpackets arrive in one piece.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use overlane_tests::{
    lab::World,
    packet::{Ends, Frame},
    superpacket::superpacket_between,
    tap::{Offload, Tap, bytes_of},
    wait::wait_for,
};

use super::{
    Effort,
    variants::{Beds, KERNEL, LINUX_BRIDGE, OVERLANE, TC, TC_GROUPS},
};
use crate::{
    cpu::{Cpu, on},
    figures::Figures,
    hosts::{Behind, SERVICE, ends},
    path::datagram,
    turns::{self, Variant},
};

const QUEUES: usize = 2;
const FLOWS: u16 = 16;
const FIRST_PORT: u16 = 0x8000;
const FRAME_LEN: usize = 60;
/// Packets that are sent before those that have arrived are read: fewer than a queue holds.
const BURST: usize = 64;
const BURSTS: usize = 256;
/// Superpackets of each kind.
const SUPERPACKETS: usize = 100;
/// Longer than a superpacket.
const BUFFER: usize = 1 << 17;
/// More than the headers of any packet of a superpacket, which has data, and more than what hosts say of their own accord.
const DATA: usize = 200;

/// The taps of two machines.
struct Path {
    taps: [Vec<Tap>; 2],
    ends: Ends,
    /// What the machines say, flow by flow.
    frames: [Vec<Vec<u8>>; 2],
    buffer: Vec<u8>,
}

pub(crate) fn measure(figures: &mut Figures, world: &World, effort: Effort) -> Result<()> {
    let mut beds = Beds::build(&world.part("taps-")?, Behind::Tap(QUEUES))?;
    let mut paths = Vec::new();
    beds.visit(|name, hosts, ports| {
        let machines = hosts.machines(ports);
        let ends = ends(machines[0], machines[1]);
        paths.push((name.to_owned(), Path::new(hosts.take_queues(ports), ends)?));
        Ok(())
    })?;
    let rates = turns::rates(effort.short_turns(), &mut paths)?;
    for name in rates.names() {
        figures.add(format!("pps_taps_{name}"), "Mpps", rates.of(name).iter().map(|rate| rate / 1e6).collect());
    }
    figures.add("pps_taps_groups_vs_linuxbridge", "x", rates.ratio(TC_GROUPS, LINUX_BRIDGE));
    figures.add("pps_taps_vs_kernel", "x", rates.ratio(TC, KERNEL));

    let mut all = Vec::new();
    for (transport, kind) in [("tcp", Offload::TCP_V4), ("udp", Offload::UDP)] {
        if kind == Offload::UDP {
            // Unlike TCP segments, datagrams are not put together again on the way: the wire must carry superpackets.
            beds.visit(|_, hosts, _| hosts.pair.lab.carry_superpackets())?;
        }
        for (name, path) in &mut paths {
            let whole = path.count_whole(kind).with_context(|| format!("superpackets of {name}"))?;
            figures.add(format!("superpackets_{transport}_{name}"), "%", vec![whole]);
            // A veth whose other end has an XDP program is sent datagrams, as NICs send them.
            let may_be_whole = kind != Offload::UDP || !name.starts_with("xdp");
            if OVERLANE.contains(&name.as_str()) && may_be_whole {
                all.push(whole);
            }
        }
    }
    // The worst lane and kind counts.
    all.sort_by(f64::total_cmp);
    figures.add("superpackets_whole", "%", all.first().copied().into_iter().collect());
    Ok(())
}

impl Path {
    /// A path whose flows are established.
    fn new(taps: [Vec<Tap>; 2], ends: Ends) -> Result<Self> {
        let all = |ends: &Ends, ports: fn(u16) -> [u16; 2]| -> Vec<Vec<u8>> {
            let frame = |flow| bytes_of(Offload::default(), &datagram(ends, ports(FIRST_PORT + flow), FRAME_LEN));
            (0..FLOWS).map(frame).collect()
        };
        let frames = [all(&ends, |port| [port, SERVICE]), all(&ends.reversed(), |port| [SERVICE, port])];
        let mut path = Self { taps, ends, frames, buffer: vec![0; BUFFER] };
        for from in [0, 1, 0, 1] {
            // The first one may wait for the host to open both ports.
            wait_for("all flows are established", || {
                path.send(from, FLOWS.into())?;
                Ok((path.receive(1 - from)? >= usize::from(FLOWS)).then_some(()))
            })?;
        }
        Ok(path)
    }

    /// Sends packets of all flows by turns, each by the queue of its flow.
    fn send(&mut self, from: usize, count: usize) -> Result<()> {
        for number in 0..count {
            let flow = number % usize::from(FLOWS);
            self.taps[from][flow % QUEUES].send_bytes(&self.frames[from][flow])?;
        }
        Ok(())
    }

    /// Reads what has arrived, and returns how many packets were ours.
    fn receive(&mut self, at: usize) -> Result<usize> {
        let mut count = 0;
        let expected = self.frames[1 - at][0].len();
        for tap in &mut self.taps[at] {
            while let Some(length) = tap.take_bytes(&mut self.buffer)? {
                count += usize::from(length == expected);
            }
        }
        Ok(count)
    }

    /// The share of superpackets that arrive in one piece, in percent.
    fn count_whole(&mut self, kind: u8) -> Result<f64> {
        if kind != Offload::UDP {
            self.connect()?;
        }
        let (offload, frame) = superpacket_between(&self.ends, kind, [FIRST_PORT, SERVICE], [1001, 5001]);
        let mut whole = 0;
        for _ in 0..SUPERPACKETS {
            self.receive(1)?;
            self.taps[0][0].send(offload, &frame)?;
            whole += usize::from(self.arrives_whole(kind, &frame)?);
        }
        Ok(whole as f64 * 100.0 / SUPERPACKETS as f64)
    }

    /// Opens the TCP connection that superpackets belong to.
    fn connect(&mut self) -> Result<()> {
        const SYN: u8 = 2;
        const ACK: u8 = 16;
        let handshake = [(0, SYN, [1000, 0]), (1, SYN | ACK, [5000, 1001]), (0, ACK, [1001, 5001])];
        for (from, flags, numbers) in handshake {
            let (ends, ports) = match from {
                0 => (self.ends, [FIRST_PORT, SERVICE]),
                _ => (self.ends.reversed(), [SERVICE, FIRST_PORT]),
            };
            let segment = ends.numbered_segment(ports, flags, numbers, &[]);
            self.taps[from][0].send(Offload::default(), &segment)?;
            let Self { taps, buffer, .. } = self;
            wait_for("a segment of the handshake arrives", || {
                for tap in &mut taps[1 - from] {
                    while let Some((_, received)) = tap.take_ready(buffer)? {
                        if received == segment {
                            return Ok(Some(()));
                        }
                    }
                }
                Ok(None)
            })?;
        }
        Ok(())
    }

    /// Whether the first packet with data that arrives is the whole superpacket.
    fn arrives_whole(&mut self, kind: u8, frame: &Frame) -> Result<bool> {
        let Self { taps, buffer, .. } = self;
        wait_for("a superpacket arrives, or a part of it", || {
            for tap in &mut taps[1] {
                while let Some((offload, received)) = tap.take_ready(buffer)? {
                    if received.0.len() > DATA {
                        return Ok(Some(offload.is_of(kind) && received.0.len() == frame.0.len()));
                    }
                }
            }
            Ok(None)
        })
    }
}

impl Variant for Path {
    fn slice(&mut self) -> Result<Option<(u64, Duration)>> {
        let (arrived, time) = on(Cpu::Last, || {
            self.receive(1)?;
            let begun = Instant::now();
            let mut arrived = 0;
            for _ in 0..BURSTS {
                self.send(0, BURST)?;
                arrived += self.receive(1)?;
            }
            Ok((arrived, begun.elapsed()))
        })?;
        ensure!(arrived > 0, "nothing has arrived");
        Ok((arrived == BURST * BURSTS).then_some((arrived as u64, time)))
    }
}
