//! A host with 1,000 taps in 200 networks.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use overlane_tests::{
    lab::{Agent, Host, Lab, Lanes, Topology},
    wait::{let_time_pass, wait_for},
};

use crate::figures::Figures;

const NETWORKS: u8 = 200;
const PORTS_PER_NETWORK: u8 = 5;
const PLANS: usize = 11;
/// Twice the agent's safety net, so that its share of passes is measured.
const IDLE: Duration = Duration::from_secs(60);
/// Of the process statistics (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    let lab = Lab::new(&[("left", "10.10.10.11"), ("right", "10.10.10.12")])?;
    let mut topology = Topology::of(lab.hosts());
    let mut batch = String::new();
    for vni in 1..=NETWORKS {
        let network = topology.add_network(vni);
        for number in 1..=PORTS_PER_NETWORK {
            let port = topology.add_port(&network, "left", number);
            let tap = port.tap();
            batch += &format!("tuntap add dev {tap} mode tap\nlink set {tap} up\n");
        }
    }
    let file = lab.world().folder().join("topology.toml");
    topology.write(&file)?;
    let host = lab.host("left");
    let taps = lab.world().folder().join("taps");
    fs::write(&taps, batch)?;
    host.run(&format!("ip -batch {}", taps.display()))?;

    host.configure(&file, Lanes::Both)?;
    let begun = Instant::now();
    let agent = Agent::launch(host)?;
    let expected = usize::from(NETWORKS) * usize::from(PORTS_PER_NETWORK);
    // The kernel lane forwards once every tap is in its bridge and up.
    wait_for("all taps are connected", || {
        let links = host.run("ip -o link show up")?;
        let connected = links.lines().filter(|line| line.contains(": tap") && line.contains(" master brq")).count();
        Ok((connected == expected).then_some(()))
    })?;
    figures.add("cold_start_1000_taps", "ms", vec![begun.elapsed().as_secs_f64() * 1000.0]);
    let ready = loop_until_ready(&agent)?;
    ensure!(ready, "the agent has not become ready: {}", agent.log()?);
    figures.add("cold_start_1000_taps_fast", "ms", vec![begun.elapsed().as_secs_f64() * 1000.0]);
    measure_idle(figures, host, &agent)
}

/// Attaching 2,000 programs takes longer than a test's patience.
fn loop_until_ready(agent: &Agent) -> Result<bool> {
    for _ in 0..10 {
        if agent.wait_for_log("ready: ").is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn measure_idle(figures: &mut Figures, host: &Host, agent: &Agent) -> Result<()> {
    let pid = agent.pid();
    let mut plans = Vec::new();
    for _ in 0..PLANS {
        let begun = Instant::now();
        host.overlane("plan")?;
        // A whole process that loads everything anew: more than a pass of the agent, never less.
        plans.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    figures.add("idle_reconcile", "ms", plans);
    let (begun, ticks) = (Instant::now(), cpu_ticks(pid)?);
    let_time_pass(IDLE);
    let share = (cpu_ticks(pid)? - ticks) / TICKS_PER_SECOND / begun.elapsed().as_secs_f64() * 100.0;
    figures.add("idle_cpu", "%", vec![share]);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("reading a process's status")?;
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    figures.add("agent_rss", "MiB", vec![kib.context("the resident memory")? / 1024.0]);
    Ok(())
}

/// User and system time of a process.
fn cpu_ticks(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("reading a process's statistics")?;
    // Behind the name, which may hold anything, in fields 14 and 15 (proc(5)).
    let (_, fields) = text.rsplit_once(") ").context("a process's name")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks =
        |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).context("a process's time");
    Ok(ticks(11)? + ticks(12)?)
}
