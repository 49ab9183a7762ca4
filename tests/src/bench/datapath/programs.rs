//! What each program costs by itself: its time by `BPF_PROG_TEST_RUN`, on the maps of a running agent and in an established flow; what
//! the verifier has looked at; and the memory of the maps.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    maps::MapInfo,
    programs::{
        ProgramInfo,
        links::{FdLink, PinnedLink},
        loaded_programs,
    },
};
use overlane_abi::Hook;
use overlane_tests::{
    lab::{HOSTS, UPLINK, World},
    packet::{Ends, Frame, Vxlan},
    wait::wait_until,
};

use super::{Effort, variants::XDP};
use crate::{
    bpf::{self, load},
    cpu::{Cpu, stay},
    figures::Figures,
    frames::ending,
    hosts::{Behind, Hosts, Lane, Ports, ends},
    path::{Load, Path},
    test_run::{Ran, TestRun},
};

/// `TC_ACT_UNSPEC` and `TC_ACT_REDIRECT` of the kernel's `uapi/linux/pkt_cls.h`, `XDP_REDIRECT` of its `uapi/linux/bpf.h`.
const PASSED: i32 = -1;
const REDIRECTED: i32 = 7;
const REDIRECTED_BY_XDP: i32 = 4;
/// Runs of each program in a round. A program changes its packet, so each run has one of its own.
const RUNS: usize = 2_000;
/// Payload of a frame of sixty bytes.
const PAYLOAD: usize = 18;

/// A program at its place, and what it is to do with a frame.
struct Place<'a> {
    hook: Hook,
    device: &'a str,
    frame: Frame,
    action: i32,
}

pub(crate) fn measure(figures: &mut Figures, world: &World, effort: Effort) -> Result<()> {
    let rounds = effort.turns().rounds;
    let hosts = Hosts::with_overlane(world.part("programs-")?, "")?;
    time(figures, &hosts, bpf::Hook::TcIngress, rounds)?;
    measure_maps(figures, &hosts)?;
    drop(hosts);
    let lane = Lane { more_config: XDP, from_port_xdp: true, ..Lane::USUAL };
    let hosts = Hosts::of(world.part("xdp-programs-")?, Behind::Veth, lane)?;
    time(figures, &hosts, bpf::Hook::Xdp, rounds)
}

/// Times the programs of a kind of hook, in turns, and less what it takes to run one that does nothing.
fn time(figures: &mut Figures, hosts: &Hosts, kind: bpf::Hook, rounds: usize) -> Result<()> {
    // Both machines have spoken in each of its flows.
    let _path = Path::new(hosts, Ports::Few, Load::SMALL)?;
    let [namespace, _] = hosts.namespaces();
    let tap = hosts.machines(Ports::Few)[0].port.tap();
    let mut loaded = Vec::new();
    for place in places(hosts, kind, &tap) {
        let interface = bpf::index(namespace, place.device)?;
        let program = attached(hosts, place.hook, interface)?;
        let verified = program.verified_instruction_count().context("the kernel counts what it verifies")?;
        figures.add(format!("program_verified_{}", place.hook.name()), "instructions", vec![verified.into()]);
        loaded.push((place, program.fd()?, interface, Vec::new()));
    }
    let nothing = load(kind, &ending(PASSED))?;
    namespace.inside(|| {
        stay(Cpu::Last)?;
        for _ in 0..rounds {
            for (place, program, interface, times) in &mut loaded {
                let run = |program, interface| TestRun { hook: kind, program, frame: &place.frame, interface };
                let idle = median(&run(nothing.as_fd(), bpf::LOOPBACK), PASSED)?;
                let busy = median(&run(program.as_fd(), *interface), place.action).context(place.hook.name())?;
                times.push(busy.saturating_sub(idle).as_nanos() as f64);
            }
        }
        Ok(())
    })?;
    for (place, .., times) in loaded {
        figures.add(format!("program_ns_{}", place.hook.name()), "ns", times);
    }
    Ok(())
}

/// What programs do on the left host. The kernel runs none by itself that is for a map of devices (`bpf_prog_test_run_xdp`), so
/// `to_port_xdp` is not among them.
fn places<'a>(hosts: &Hosts, kind: bpf::Hook, tap: &'a str) -> Vec<Place<'a>> {
    let [left, right] = hosts.machines(Ports::Few);
    let [source, service] = Load::SMALL.ports();
    let question = ends(left, right).udp_between(source, service, &[0; PAYLOAD]);
    let answer = ends(right, left).udp_between(service, source, &[0; PAYLOAD]);
    let local_ip = |index: usize| hosts.pair.host(HOSTS[index].0).local_ip;
    let outer = Ends { source: local_ip(1), destination: local_ip(0), traffic_class: 0, ..ends(right, left) };
    let tunnel = Vxlan { outer, source_port: 40_000, port: 4789, vni: 10, has_checksum: false };
    let tunnelled = tunnel.wrap(&answer);
    let of = |hook, device, frame, action| Place { hook, device, frame, action };
    match kind {
        bpf::Hook::TcIngress => vec![
            of(Hook::FromPort, tap, question, REDIRECTED),
            of(Hook::ToPort, tap, answer.clone(), PASSED),
            of(Hook::FromUplink, UPLINK, tunnelled, REDIRECTED),
            of(Hook::FromOverlay, "vxlan-10", answer, REDIRECTED),
        ],
        bpf::Hook::Xdp => vec![
            of(Hook::FromPortXdp, tap, question, REDIRECTED_BY_XDP),
            of(Hook::FromUplinkXdp, UPLINK, tunnelled, REDIRECTED_BY_XDP),
        ],
    }
}

/// The program that the left host's agent has attached to an interface.
fn attached(hosts: &Hosts, hook: Hook, interface: u32) -> Result<ProgramInfo> {
    let pin = hosts.pair.host(HOSTS[0].0).pins().join(format!("links/{}-{interface}", hook.name()));
    let link = PinnedLink::from_pin(&pin).with_context(|| format!("opening {}", pin.display()))?;
    let id = FdLink::from(link).info()?.program_id();
    let programs = loaded_programs().filter_map(Result::ok);
    programs.into_iter().find(|program| program.id() == id).with_context(|| format!("program {id} is gone"))
}

/// How long a program takes for a frame, in the middle of many runs.
fn median(run: &TestRun, expected: i32) -> Result<Duration> {
    // An agent follows what devices can do, a moment later.
    wait_until("it does what it is to do", || Ok(run.once()?.action == expected))?;
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let Ran { action, time } = run.once()?;
        ensure!(action == expected, "its action is {action}, not {expected}");
        times.push(time);
    }
    times.sort_unstable();
    Ok(times[RUNS / 2])
}

/// What the kernel has set aside for the pinned maps, as it says in `/proc`.
fn measure_maps(figures: &mut Figures, hosts: &Hosts) -> Result<()> {
    const MIB: f64 = (1 << 20) as f64;
    let mut total = 0.0;
    for entry in fs::read_dir(hosts.pair.host(HOSTS[0].0).pins()).context("listing pins")? {
        let path = entry?.path();
        if path.is_dir() {
            continue;
        }
        let map = MapInfo::from_pin(&path).with_context(|| format!("opening {}", path.display()))?.fd()?;
        let said = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd()))?;
        let bytes = said.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse::<f64>().ok());
        let mib = bytes.context("the kernel says what a map takes")? / MIB;
        total += mib;
        if mib >= 1.0
            && let Some(name) = path.file_name().and_then(|name| name.to_str())
        {
            figures.add(format!("map_memory_{name}"), "MiB", vec![mib]);
        }
    }
    figures.add("map_memory", "MiB", vec![total]);
    Ok(())
}
