//! What a cloud waits for, with Overlane and with the agent that it replaces: in the same cloud, one after the other.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use overlane_tests::{
    lab::{Host, Machine, Port, Stream, Waiting, now},
    neutron::{Agent, Cloud, Network, PEER, host_of},
    wait::{PATIENCE, wait_at_most, wait_with_pauses},
};
use serde_json::json;

use crate::figures::Figures;

const TAPS: usize = 15;
const TAPS_AT_ONCE: usize = 50;
const ROUNDS_AT_ONCE: usize = 2;
const RESTARTS: usize = 5;
/// Neutron's own agent takes half a minute for 50 taps.
const LIMIT: Duration = Duration::from_secs(180);

/// Between two looks, each of which is a process that needs the machine's CPUs for some milliseconds.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_AT_ONCE: Duration = Duration::from_millis(200);

/// A host that has no agent until it is taken over.
const SPARE: &str = "spare";

/// A figure's name for Overlane, and for Neutron's agent.
type Names = (&'static str, &'static str);

const TAP_TO_ACTIVE: Names = ("tap_to_active", "tap_to_active_linuxbridge");
const TAP_TO_PING: Names = ("tap_to_ping", "tap_to_ping_linuxbridge");
const TAP_50_ALL_ACTIVE: Names = ("tap_50_all_active", "tap_50_all_active_linuxbridge");
const TAP_50_SERVER_CPU: Names = ("tap_50_server_cpu", "tap_50_server_cpu_linuxbridge");
const RESTART_TO_ACTIVE: Names = ("restart_to_active", "restart_to_active_linuxbridge");
const AGENT_RSS: Names = ("agent_rss", "agent_rss_linuxbridge");
const LOST_PINGS: Names = ("lost_pings", "lost_pings_linuxbridge");

fn name(names: Names, subject: Agent) -> &'static str {
    if subject == Agent::Overlane { names.0 } else { names.1 }
}

/// Plugging, one by one and many at once, and what the agent weighs then.
pub(crate) fn measure_taps(figures: &mut Figures) -> Result<()> {
    let cloud = start()?;
    for subject in [Agent::Overlane, Agent::LinuxBridge] {
        let site = Site::make(&cloud, host_of(subject))?;
        site.plug_one_by_one(subject, figures)?;
        site.plug_many_at_once(subject, figures)?;
    }
    Ok(())
}

/// Restarts of everything, while machines talk.
pub(crate) fn measure_restarts(figures: &mut Figures) -> Result<()> {
    let cloud = start()?;
    for subject in [Agent::Overlane, Agent::LinuxBridge] {
        let site = Site::make(&cloud, host_of(subject))?;
        site.restart_to_active(subject, figures)?;
        let mut lost = site.lost_in_restarts(subject)?;
        if subject == Agent::Overlane {
            lost += lost_in_takeover(&cloud)?;
        }
        figures.add(name(LOST_PINGS, subject), "", vec![lost as f64]);
    }
    Ok(())
}

fn start() -> Result<Cloud> {
    let real: &[Agent] = &[Agent::LinuxBridge];
    let hosts = [(host_of(Agent::LinuxBridge), real), (host_of(Agent::Overlane), &[Agent::Overlane]), (PEER, real)];
    Cloud::start(&[hosts.as_slice(), &[(SPARE, &[])]].concat())
}

/// A network with a machine on the measured host and one on the peer, and a group that admits pings.
struct Site<'cloud> {
    cloud: &'cloud Cloud,
    network: Network,
    host: &'cloud str,
    group: String,
    left: Machine,
    right: Machine,
}

impl<'cloud> Site<'cloud> {
    fn make(cloud: &'cloud Cloud, host: &'cloud str) -> Result<Self> {
        let network = cloud.network(&json!({}))?;
        let group = cloud.security_group("pingable")?;
        cloud.add_rule(&group, &json!({"protocol": "icmp"}))?;
        let boot =
            |host: &str| cloud.boot(&network, &cloud.port(&network, host, &json!({"security_groups": [group]}))?);
        let (left, right) = (boot(host)?, boot(PEER)?);
        right.wait_for(left.port.ipv4())?;
        left.wait_for(right.port.ipv4())?;
        Ok(Self { cloud, network, host, group, left, right })
    }

    fn port(&self) -> Result<Port> {
        self.cloud.port(&self.network, self.host, &json!({"security_groups": [self.group]}))
    }

    fn lab_host(&self) -> &Host {
        self.cloud.lab().host(self.host)
    }

    /// A machine that asks for the peer's already, whose tap is in the bridge under another name.
    fn waiting(&self, port: &Port) -> Result<(Machine, Waiting)> {
        let machine = Machine::off(self.cloud.world(), &port.id[..11], port)?;
        let waiting = Waiting::prepare(&machine, self.lab_host(), self.cloud.world().folder(), self.right.port.ipv4())?;
        waiting.connect(self.lab_host(), &self.network.bridge())?;
        Ok((machine, waiting))
    }

    fn plug_one_by_one(&self, subject: Agent, figures: &mut Figures) -> Result<()> {
        let (mut active, mut ping, mut rpc) = (Vec::new(), Vec::new(), Vec::new());
        // They stay, so that the agent has nothing else to tell the server meanwhile.
        let mut machines = Vec::new();
        for _ in 0..TAPS {
            let port = self.port()?;
            let (machine, waiting) = self.waiting(&port)?;
            machines.push(machine);
            let logged = self.cloud.node(self.host).log(subject)?.len();
            let begun = now()?;
            self.lab_host().run(&format!("ip {}", waiting.appear()))?;
            self.wait_until_active(port)?;
            active.push(now()? - begun);
            ping.push(waiting.first_answer()? - begun);
            if subject == Agent::Overlane {
                rpc.push(time_in_calls(&self.cloud.node(self.host).log(subject)?[logged..]));
            }
        }
        figures.add(name(TAP_TO_ACTIVE, subject), "ms", active);
        figures.add(name(TAP_TO_PING, subject), "ms", ping);
        figures.add("server_rpc_time", "ms", rpc);
        Ok(())
    }

    fn plug_many_at_once(&self, subject: Agent, figures: &mut Figures) -> Result<()> {
        let (mut rounds, mut server) = (Vec::new(), Vec::new());
        for round in 1..=ROUNDS_AT_ONCE {
            let ports: Vec<Port> = (0..TAPS_AT_ONCE).map(|_| self.port()).collect::<Result<_>>()?;
            let guests: Vec<_> = ports.iter().map(|port| self.waiting(port)).collect::<Result<_>>()?;
            let batch = self.cloud.world().folder().join("batch");
            fs::write(&batch, guests.iter().map(|(_, waiting)| waiting.appear()).collect::<String>())?;
            self.wait_until_quiet()?;
            let used = self.cloud.controller().cpu_seconds()?;
            let begun = now()?;
            self.lab_host().run(&format!("ip -batch {}", batch.display()))?;
            self.wait_until_all_active(&ports, PAUSE_AT_ONCE)?;
            rounds.push(now()? - begun);
            server.push((self.cloud.controller().cpu_seconds()? - used) * 1000.0);
            if round == ROUNDS_AT_ONCE {
                let resident = self.cloud.node(self.host).container().resident_bytes()?;
                figures.add(name(AGENT_RSS, subject), "MiB", vec![resident as f64 / f64::from(1 << 20)]);
            }
        }
        figures.add(name(TAP_50_ALL_ACTIVE, subject), "ms", rounds);
        figures.add(name(TAP_50_SERVER_CPU, subject), "ms", server);
        Ok(())
    }

    /// From the start of the next agent's process until a tap that appears right then is ACTIVE.
    fn restart_to_active(&self, subject: Agent, figures: &mut Figures) -> Result<()> {
        let mut times = Vec::new();
        for _ in 0..RESTARTS {
            let port = self.port()?;
            let (_machine, waiting) = self.waiting(&port)?;
            self.cloud.node(self.host).stop_agent(subject, Signal::SIGTERM)?;
            let begun = now()?;
            self.cloud.node(self.host).start_agent(subject)?;
            self.lab_host().run(&format!("ip {}", waiting.appear()))?;
            self.wait_until_active(port)?;
            times.push(now()? - begun);
        }
        figures.add(name(RESTART_TO_ACTIVE, subject), "ms", times);
        Ok(())
    }

    /// One stream of pings through a restart and a kill of the agent, and through restarts of broker and server.
    fn lost_in_restarts(&self, subject: Agent) -> Result<u64> {
        let (cloud, node) = (self.cloud, self.cloud.node(self.host));
        let stream = Stream::start(cloud.world().folder(), &self.right.namespace, self.left.port.ipv4())?;
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            node.stop_agent(subject, signal)?;
            node.start_agent(subject)?;
            self.plug_and_wait()?;
        }
        cloud.broker.kill()?;
        cloud.broker.start_again()?;
        cloud.wait_for_server()?;
        self.plug_and_wait()?;
        cloud.server.stop(Signal::SIGTERM)?;
        cloud.server.start_again()?;
        cloud.wait_for_server()?;
        self.plug_and_wait()?;
        stream.lost()
    }

    /// Shows that the host is in charge of its ports.
    fn plug_and_wait(&self) -> Result<()> {
        let port = self.port()?;
        let _machine = self.cloud.plug(&self.network, &port)?;
        self.wait_until_active(port)
    }

    fn wait_until_active(&self, port: Port) -> Result<()> {
        self.wait_until_all_active(&[port], PAUSE)
    }

    fn wait_until_all_active(&self, ports: &[Port], pause: Duration) -> Result<()> {
        wait_with_pauses(pause, LIMIT, "the ports are ACTIVE", || self.are_active(ports).map(Some))
    }

    /// What the server is told of machines that have gone takes as long as what it is told of new ones.
    fn wait_until_quiet(&self) -> Result<()> {
        wait_with_pauses(PAUSE_AT_ONCE, LIMIT, "the ports of earlier machines are DOWN", || {
            let active = self.active()?;
            let own = [&self.left, &self.right].map(|machine| machine.port.id.as_str());
            ensure!(active.lines().all(|id| own.contains(&id)), "ACTIVE are {active:?}");
            Ok(Some(()))
        })
    }

    fn are_active(&self, ports: &[Port]) -> Result<()> {
        let active = self.active()?;
        let missing = ports.iter().filter(|port| !active.lines().any(|id| id == port.id)).count();
        ensure!(missing == 0, "{missing} of {} are not", ports.len());
        Ok(())
    }

    /// Looks into the server's database: the server would be busy for a tenth of a second with each answer.
    fn active(&self) -> Result<String> {
        self.cloud
            .server
            .query(&format!("SELECT id FROM ports WHERE network_id = '{}' AND status = 'ACTIVE'", self.network.id))
    }
}

/// A host of Neutron's agent is taken over while it runs and machines talk.
fn lost_in_takeover(cloud: &Cloud) -> Result<u64> {
    let node = cloud.node(SPARE);
    node.start_agent(Agent::LinuxBridge)?;
    cloud.wait_until_alive(SPARE, Agent::LinuxBridge)?;
    let site = Site::make(cloud, SPARE)?;
    let stream = Stream::start(cloud.world().folder(), &site.right.namespace, site.left.port.ipv4())?;
    node.stop_agent(Agent::LinuxBridge, Signal::SIGTERM)?;
    node.start_agent(Agent::Overlane)?;
    site.plug_and_wait()?;
    wait_at_most(PATIENCE, "the host is taken over", || {
        Ok(node.log(Agent::Overlane)?.contains("ready: ").then_some(()))
    })?;
    stream.lost()
}

/// What leads from a tap to an `ACTIVE` port, one after the other.
const STEPS: [&str; 4] = ["security_group_info_for_devices", "bulk_pull", "get_devices_details_list", "update_device"];

/// How long the agent waited for the server, in milliseconds, as its log says.
fn time_in_calls(log: &str) -> f64 {
    let is_step = |line: &&str| STEPS.iter().any(|step| line.contains(&format!("method=\"{step}")));
    let calls = log.lines().filter(is_step);
    calls.filter_map(|line| line.split("millis=").nth(1)?.trim().parse::<f64>().ok()).sum()
}
