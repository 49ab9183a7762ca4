//! What an operator's changes cost: plugging, restarting, taking over, backing out.

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use overlane_tests::{
    lab::{Host, Lanes, Machine, Pair, Port, Process, Stream, Waiting, nothing_to_do, now, plug_times},
    wait::wait_for,
};
use serde_json::Value;

use crate::figures::Figures;

const PLUGS: usize = 21;
const PORTS_AT_ONCE: u8 = 50;
const KILLS: usize = 20;
/// What iperf3 reports on, and with that the resolution of a stall.
const INTERVAL_MILLIS: f64 = 100.0;

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    plug_one_by_one(figures).context("plugging one by one")?;
    plug_many_at_once(figures).context("plugging many at once")?;
    kill_and_restart(figures).context("killing and restarting")?;
    take_over_and_detach(figures).context("taking over and detaching")
}

fn plug_one_by_one(figures: &mut Figures) -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    let port = pair.topology.add_port(&pair.network, "left", 9);
    pair.topology.write(&pair.topology_file)?;
    let machine = Machine::off(pair.lab.world(), "probe", &port)?;
    let times = plug_times(&machine, pair.host("left"), pair.folder(), pair.ports[1].ipv4(), PLUGS)?;
    figures.add("plug_to_ping", "ms", times);
    Ok(())
}

/// Each round is the time until the last of all has its answer.
fn plug_many_at_once(figures: &mut Figures) -> Result<()> {
    let mut rounds = Vec::new();
    for _ in 0..3 {
        let mut pair = Pair::running(Lanes::Both)?;
        let numbers = 10..10 + PORTS_AT_ONCE;
        let ports: Vec<_> = numbers.map(|number| pair.topology.add_port(&pair.network, "left", number)).collect();
        pair.topology.write(&pair.topology_file)?;
        let host = pair.lab.host("left");
        let machine = |port: &Port| Machine::off(pair.lab.world(), &format!("vm-{}", port.tap()), port);
        let machines: Vec<Machine> = ports.iter().map(machine).collect::<Result<_>>()?;
        let target = pair.ports[1].ipv4();
        let prepare = |machine: &Machine| Waiting::prepare(machine, host, pair.folder(), target);
        let waiting: Vec<Waiting> = machines.iter().map(prepare).collect::<Result<_>>()?;
        let batch = pair.folder().join("batch");
        std::fs::write(&batch, waiting.iter().map(Waiting::appear).collect::<String>())?;
        let begun = now()?;
        host.run(&format!("ip -batch {}", batch.display()))?;
        let answers: Vec<f64> = waiting.into_iter().map(Waiting::first_answer).collect::<Result<_>>()?;
        rounds.push(answers.into_iter().fold(begun, f64::max) - begun);
    }
    figures.add("plug_50_taps", "ms", rounds);
    Ok(())
}

fn kill_and_restart(figures: &mut Figures) -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    let stream = Stream::start(pair.folder(), &pair.left().namespace, pair.ports[1].ipv4())?;
    let bulk = Bulk::start(&pair)?;
    for _ in 0..KILLS {
        pair.agents.remove(0).stop(Signal::SIGKILL)?;
        let agent = pair.host("left").start_agent(&pair.topology_file, Lanes::Both)?;
        pair.agents.insert(0, agent);
        nothing_to_do(pair.host("left"))?;
    }
    figures.add("restart_lost_pings", "", vec![stream.lost()? as f64]);
    figures.add("restart_tcp_stall", "ms", vec![bulk.longest_stall()?]);
    Ok(())
}

/// A TCP stream whose receiver notes how much has come in every interval.
struct Bulk {
    client: Process,
    server: Process,
}

impl Bulk {
    fn start(pair: &Pair) -> Result<Self> {
        let output = pair.folder().join("bulk-server.json");
        let server = "iperf3 --server --one-off --json --interval 0.1";
        let server = pair.right().namespace.start(server, &output)?;
        let line = format!("iperf3 --client {} --time 600 --bitrate 500M --forceflush", pair.ports[1].ipv4());
        let log = pair.folder().join("bulk-client.log");
        let mut running: Option<Process> = None;
        // The server says nothing before its end: it listens when a client gets through.
        let client = wait_for("the stream flows", || {
            let mut client = match running.take() {
                Some(client) => client,
                None => pair.left().namespace.start(&line, &log)?,
            };
            anyhow::ensure!(client.ended()?.is_none(), "{}", client.output()?);
            if client.output()?.contains("bits/sec") {
                return Ok(Some(client));
            }
            running = Some(client);
            Ok(None)
        })?;
        Ok(Self { client, server })
    }

    /// The longest time without a byte, in milliseconds, rounded up to the interval.
    fn longest_stall(mut self) -> Result<f64> {
        self.client.end_by(Signal::SIGINT)?;
        let report = || serde_json::from_str::<Value>(&self.server.output()?).context("reading iperf3's report");
        let report = wait_for("iperf3 reports", || report().map(Some))?;
        let intervals = report["intervals"].as_array().context("intervals")?;
        // The last interval ends when the client does.
        let bytes = intervals.iter().rev().skip(1).map(|interval| interval["sum"]["bytes"].as_u64().unwrap_or(0));
        let (mut longest, mut current) = (0_u32, 0_u32);
        for bytes in bytes {
            current = if bytes == 0 { current + 1 } else { 0 };
            longest = longest.max(current);
        }
        Ok(f64::from(longest) * INTERVAL_MILLIS)
    }
}

fn take_over_and_detach(figures: &mut Figures) -> Result<()> {
    let mut pair = Pair::bare()?;
    pair.boot()?;
    for index in [0, 1] {
        pair.set_up_like_the_linux_bridge_agent(index)?;
    }
    pair.left().wait_for(pair.ports[1].ipv4())?;
    let stream = Stream::start(pair.folder(), &pair.left().namespace, pair.ports[1].ipv4())?;
    let hosts: Vec<&Host> = pair.lab.hosts().iter().collect();
    let mut agents = Vec::new();
    for host in &hosts {
        agents.push(host.start_agent(&pair.topology_file, Lanes::Both)?);
        nothing_to_do(host)?;
    }
    figures.add("takeover_lost_pings", "", vec![stream.lost()? as f64]);
    let stream = Stream::start(pair.folder(), &pair.left().namespace, pair.ports[1].ipv4())?;
    for (agent, host) in agents.into_iter().zip(&hosts) {
        agent.stop(Signal::SIGTERM)?;
        host.overlane("detach")?;
    }
    figures.add("detach_lost_pings", "", vec![stream.lost()? as f64]);
    Ok(())
}
