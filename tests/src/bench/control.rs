//! What an operator's changes cost: plugging, restarting, taking over, backing out.

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use overlane_tests::lab::{Host, Lanes, Machine, Pair, Port, Stream, Waiting, nothing_to_do, now, plug_times};

use crate::{bytes::Bytes, figures::Figures};

const PLUGS: usize = 21;
const PORTS_AT_ONCE: u8 = 50;
const KILLS: usize = 20;
/// To the agent that starts, what the killed one has pinned has another layout.
const UPGRADES: usize = 5;

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    plug_one_by_one(figures).context("plugging one by one")?;
    plug_many_at_once(figures).context("plugging many at once")?;
    kill_and_upgrade(figures).context("killing, restarting and upgrading")?;
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

/// One stream of pings and one of bytes run through all of it.
fn kill_and_upgrade(figures: &mut Figures) -> Result<()> {
    let mut pair = Pair::running(Lanes::Both)?;
    let traffic = Traffic::start(&pair)?;
    for round in 0..KILLS + UPGRADES {
        let is_upgrade = round >= KILLS;
        let meanwhile = |host: &Host| if is_upgrade { host.pretend_to_be_older() } else { Ok(()) };
        pair.replace_agent(Signal::SIGKILL, Lanes::Both, meanwhile)?;
    }
    traffic.end(figures, "restart_lost_pings", "restart_tcp_stall")
}

fn take_over_and_detach(figures: &mut Figures) -> Result<()> {
    let mut pair = Pair::bare()?;
    pair.boot()?;
    for index in [0, 1] {
        pair.set_up_like_the_linux_bridge_agent(index)?;
    }
    pair.left().wait_for(pair.ports[1].ipv4())?;
    let traffic = Traffic::start(&pair)?;
    let hosts: Vec<&Host> = pair.lab.hosts().iter().collect();
    let mut agents = Vec::new();
    for host in &hosts {
        agents.push(host.start_agent(&pair.topology_file, Lanes::Both)?);
        nothing_to_do(host)?;
    }
    traffic.end(figures, "takeover_lost_pings", "takeover_tcp_stall")?;
    let traffic = Traffic::start(&pair)?;
    for (agent, host) in agents.into_iter().zip(&hosts) {
        agent.stop(Signal::SIGTERM)?;
        host.overlane("detach")?;
    }
    traffic.end(figures, "detach_lost_pings", "detach_tcp_stall")
}

/// What must not notice anything: a ping every millisecond, and a TCP stream, from the left machine to the right one.
struct Traffic {
    pings: Stream,
    bytes: Bytes,
}

impl Traffic {
    fn start(pair: &Pair) -> Result<Self> {
        let (left, right) = (&pair.left().namespace, &pair.right().namespace);
        let address = pair.ports[1].ipv4();
        let pings = Stream::start(pair.folder(), left, address)?;
        Ok(Self { pings, bytes: Bytes::start(left, right, address)? })
    }

    fn end(self, figures: &mut Figures, lost: &'static str, stall: &'static str) -> Result<()> {
        figures.add(lost, "", vec![self.pings.lost()? as f64]);
        figures.add(stall, "ms", vec![self.bytes.longest_stall()?]);
        Ok(())
    }
}
