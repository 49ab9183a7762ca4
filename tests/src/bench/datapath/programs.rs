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
    programs::{ProgramInfo, SchedClassifier, TcAttachType, TestRun as _, TestRunOptions},
};
use overlane_abi::Hook;
use overlane_tests::{
    lab::{HOSTS, Namespace, UPLINK, World},
    packet::{Ends, Frame, Vxlan},
};

use super::Effort;
use crate::{
    bpf::{self, attach, load},
    cpu::{Cpu, stay},
    figures::Figures,
    frames::ending,
    hosts::{Hosts, Ports, ends},
    path::{Load, Path},
};

/// `TC_ACT_UNSPEC` and `TC_ACT_REDIRECT` of the kernel's `uapi/linux/pkt_cls.h`.
const PASSED: i32 = -1;
const REDIRECTED: i32 = 7;
/// Length of the kernel's `struct __sk_buff`, and the offset of the interface in it.
const CONTEXT: usize = 192;
const IFINDEX: usize = 40;
/// Room for an outer header.
const HEADROOM: usize = 256;
/// Runs of each program in a round. A program changes its packet, so each run has one of its own.
const RUNS: usize = 2_000;
/// Payload of a frame of sixty bytes.
const PAYLOAD: usize = 18;

/// A program at its place, and what it is to do with a frame.
struct Place<'a> {
    name: &'static str,
    device: &'a str,
    side: TcAttachType,
    frame: Frame,
    action: i32,
}

pub(crate) fn measure(figures: &mut Figures, world: &World, effort: Effort) -> Result<()> {
    let hosts = Hosts::with_overlane(world.part("programs-")?, "")?;
    // Both machines have spoken in each of its flows.
    let path = Path::new(&hosts, Ports::Few, Load::SMALL)?;
    let [left, right] = hosts.machines(Ports::Few);
    let [namespace, _] = hosts.namespaces();
    let (tap, [source, service]) = (left.port.tap(), Load::SMALL.ports());
    let question = ends(left, right).udp_between(source, service, &[0; PAYLOAD]);
    let answer = ends(right, left).udp_between(service, source, &[0; PAYLOAD]);
    let local_ip = |index: usize| hosts.pair.host(HOSTS[index].0).local_ip;
    let outer = Ends { source: local_ip(1), destination: local_ip(0), traffic_class: 0, ..ends(right, left) };
    let tunnel = Vxlan { outer, source_port: 40_000, port: 4789, vni: 10, has_checksum: false };
    let (ingress, egress) = (TcAttachType::Ingress, TcAttachType::Egress);
    let of = |hook: Hook, device, side, frame, action| Place { name: hook.name(), device, side, frame, action };
    let places = [
        of(Hook::FromPort, &tap, ingress, question, REDIRECTED),
        of(Hook::ToPort, &tap, egress, answer.clone(), PASSED),
        of(Hook::FromUplink, UPLINK, ingress, tunnel.wrap(&answer), REDIRECTED),
        of(Hook::FromOverlay, "vxlan-10", ingress, answer, REDIRECTED),
    ];
    namespace.inside(|| time(figures, namespace, &places, effort.turns().rounds))?;
    drop(path);
    measure_maps(figures, &hosts)
}

/// In turns, and less what it takes to run a program that does nothing.
fn time(figures: &mut Figures, namespace: &Namespace, places: &[Place<'_>], rounds: usize) -> Result<()> {
    let nothing = load(bpf::Hook::TcIngress, &ending(PASSED))?;
    let _link = attach(bpf::Hook::TcIngress, &nothing, namespace, "lo")?;
    let (nothing, _) = program("lo", TcAttachType::Ingress, None)?;
    let mut loaded = Vec::new();
    for place in places {
        let (program, info) = program(place.device, place.side, Some(place.name))?;
        let verified = info.verified_instruction_count().context("the kernel counts what it verifies")?;
        figures.add(format!("program_verified_{}", place.name), "instructions", vec![verified.into()]);
        loaded.push((place, program, bpf::index(namespace, place.device)?, Vec::new()));
    }
    stay(Cpu::Last)?;
    for _ in 0..rounds {
        for (place, program, ifindex, times) in &mut loaded {
            let idle = median(&nothing, 1, &place.frame, PASSED)?;
            let busy = median(program, *ifindex, &place.frame, place.action).with_context(|| place.name)?;
            times.push(busy.saturating_sub(idle).as_nanos() as f64);
        }
    }
    for (place, .., times) in loaded {
        figures.add(format!("program_ns_{}", place.name), "ns", times);
    }
    Ok(())
}

/// The program of a name, or any, at a device of the calling thread's namespace.
fn program(device: &str, side: TcAttachType, name: Option<&'static str>) -> Result<(SchedClassifier, ProgramInfo)> {
    let find = || -> Result<ProgramInfo> {
        let (_, programs) = SchedClassifier::query_tcx(device, side).context("asking for programs")?;
        let is_meant = |info: &ProgramInfo| name.is_none_or(|name| info.name_as_str() == Some(name));
        programs.into_iter().find(is_meant).with_context(|| format!("{name:?} is not attached to {device}"))
    };
    Ok((SchedClassifier::from_program_info(find()?, name.unwrap_or_default().into())?, find()?))
}

/// How long a program takes for a frame, in the middle of many runs.
fn median(program: &SchedClassifier, ifindex: u32, frame: &Frame, action: i32) -> Result<Duration> {
    let mut output = vec![0; frame.0.len() + HEADROOM];
    let mut context = [0; CONTEXT];
    context[IFINDEX..IFINDEX + 4].copy_from_slice(&ifindex.to_ne_bytes());
    let mut times = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let options = TestRunOptions {
            data_in: Some(&frame.0),
            data_out: Some(&mut output),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        };
        let result = program.test_run(options)?;
        ensure!(result.return_value as i32 == action, "its action is {}, not {action}", result.return_value as i32);
        times.push(result.duration);
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
