//! The real host: kernel and datapath behind the one interface that the reconciler knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use overlane_abi::Hook;
use overlane_core::{
    action::{Action, DatapathAction, KernelAction},
    config::{Config, Control, FastPath},
    desired::Desired,
    observed::{Link, Observed},
    offload::Superpackets,
    plan,
    security::PortSecurity,
    xdp::{self, Choice},
};

use crate::{
    datapath::{self, Datapath, DatapathError, LoadSettings},
    flow_log::FlowLog,
    kernel::{self, Changes, FdbChange, Kernel, Monitor},
    reconcile::{Host, Look},
    takeover::{self, Leftover},
};

/// For how long connections are taken up in mid-stream after a host has come from another filter.
const TAKE_OVER: Duration = Duration::from_secs(300);

/// This host.
pub struct LinuxHost {
    kernel: Kernel,
    monitor: Monitor,
    config: Config,
    /// What was asked of the programs; `None` before the control plane has said anything.
    asked: Option<Asked>,
    fast_lane: FastLane,
    /// When the host came from another filter, if it was a short while ago.
    taken_over: Option<Instant>,
    flow_log: Option<FlowLog>,
    /// Who carries the superpackets of each uplink, as the log says.
    uplinks: BTreeMap<u32, (Choice, Superpackets)>,
    /// The Linux bridge agent's rules for taps whose filters are in force.
    rules: Leftover,
    /// That agent's limits and marks of taps whose packets are ours to limit and mark.
    policies: Leftover,
}

/// What decides about lanes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Asked {
    /// Whether there are security groups, so that taps are closed until they are filtered.
    is_closed: bool,
    /// Whether programs are wanted at all.
    needs_programs: bool,
}

enum FastLane {
    /// By configuration, and nothing has to be filtered, limited or marked.
    Off,
    On(Box<Datapath>),
    /// Wanted, but not to be had for the moment: tried again with every full pass.
    Unavailable {
        reason: String,
    },
}

impl LinuxHost {
    /// The host as this agent finds it; which lanes it takes follows from the first look.
    pub fn new((kernel, monitor): (Kernel, Monitor), config: &Config) -> Self {
        Self {
            kernel,
            monitor,
            config: config.clone(),
            asked: None,
            fast_lane: FastLane::Off,
            taken_over: None,
            flow_log: None,
            uplinks: BTreeMap::new(),
            rules: Leftover::of("iptables, ebtables and ipset rules"),
            policies: Leftover::of("limits and marks"),
        }
    }

    /// Takes up whatever lane the configuration and the system allow, and logs which and why. Filters and QoS policies need eBPF
    /// also where forwarding does not use it.
    fn choose_lanes(&mut self, asked: Asked) -> anyhow::Result<()> {
        if self.asked.replace(asked) == Some(asked) {
            return Ok(());
        }
        // Its programs stay attached until the new ones take their place.
        self.fast_lane = FastLane::Off;
        if !asked.needs_programs {
            Datapath::remove(&self.config.bpffs).context("detaching the programs of an earlier agent")?;
            tracing::info!("fast path off by configuration: the kernel lane carries everything");
            return Ok(());
        }
        let is_new = !datapath::pin_directory(&self.config.bpffs).exists();
        self.taken_over = is_new.then(Instant::now);
        self.fast_lane = FastLane::open(&self.config, asked.is_closed);
        Ok(())
    }

    /// Takes what was looked at to whoever needs to know.
    fn tell(&mut self, desired: &Desired, observed: &Observed) {
        if let FastLane::On(datapath) = &mut self.fast_lane
            && let Some(events) = datapath.take_events()
        {
            self.flow_log = Some(FlowLog::start(events));
        }
        if let Some(log) = &self.flow_log {
            log.learn(desired, observed);
        }
        self.say_who_carries(observed);
        self.rules.note(|| filtered_taps(desired, observed));
        self.policies.note(|| sending_taps(observed));
    }

    /// Logs it for every uplink, and again when it changes: NICs come and go, and what they do is switched on and off.
    fn say_who_carries(&mut self, observed: &Observed) {
        let vxlan = self.config.vxlan.as_ref().filter(|_| self.config.fast_path == FastPath::Auto);
        let (Some(vxlan), Some(_)) = (vxlan, &observed.datapath) else { return };
        let links = &observed.kernel.links;
        let uplinks = observed.kernel.nics.keys().filter_map(|uplink| links.get(uplink));
        let choice = |link: &Link| {
            let lane = xdp::settle(self.config.uplink_lanes.of(&link.name), observed.kernel.xdp.get(&link.ifindex));
            (link.ifindex, (lane, plan::superpackets(observed, vxlan, link.ifindex)))
        };
        let now: BTreeMap<u32, (Choice, Superpackets)> = uplinks.map(choice).collect();
        for (ifindex, chosen) in &now {
            if self.uplinks.get(ifindex) != Some(chosen) {
                let (lane, Superpackets { sent, received }) = chosen;
                let uplink = &links[ifindex].name;
                let driver = observed.kernel.nics[ifindex].as_ref().map(|nic| nic.driver.as_str()).unwrap_or_default();
                tracing::info!(uplink, driver, %lane, %sent, %received, "who carries packets, and superpackets");
            }
        }
        self.uplinks = now;
    }
}

impl Host for LinuxHost {
    async fn observe(&mut self, desired: &Desired, look: Look, observed: &mut Observed) -> anyhow::Result<()> {
        let before = self.asked;
        let needs_programs = self.config.fast_path == FastPath::Auto || desired.needs_programs();
        self.choose_lanes(Asked { is_closed: desired.closed_by_default, needs_programs })?;
        if plan::may_use_xdp(desired, &self.config) {
            // Before the first look at what devices can do.
            self.monitor.follow_xdp();
        }
        let taken_over = observed.taken_over.take().filter(|_| before == self.asked);
        let follows_others = self.monitor.follow(desired.learned(self.config.multicast.is_some()));
        let known = match look {
            // Another lane has other maps, and what was learned before it was followed is not known.
            _ if before != self.asked || follows_others => None,
            Look::Everything => None,
            Look::Devices | Look::Nothing => Some(std::mem::take(observed)),
        };
        let (fdb, maps) = known.map(|known| (known.kernel.fdb, known.datapath)).unzip();
        let kernel = match fdb {
            Some(fdb) => self.kernel.observe_devices(desired, &self.config, fdb).await,
            None => self.kernel.observe(desired, &self.config).await,
        };
        observed.kernel = kernel.context("listing the kernel's state")?;
        observed.datapath = match &self.fast_lane {
            FastLane::On(datapath) => Some(datapath.observe(maps.flatten()).context("reading the pinned maps")?),
            FastLane::Off | FastLane::Unavailable { .. } => None,
        };
        self.taken_over.take_if(|since| since.elapsed() >= TAKE_OVER);
        let connected = || observed.kernel.links.values().filter(|link| link.master.is_some()).map(|link| link.ifindex);
        let taps = match (taken_over, self.taken_over) {
            (_, None) => BTreeSet::new(),
            (Some(taps), Some(_)) => taps,
            // The first look since then.
            (None, Some(_)) => connected().collect(),
        };
        observed.taken_over = Some(taps);
        self.tell(desired, observed);
        Ok(())
    }

    async fn apply(&mut self, actions: &[&Action]) -> Vec<anyhow::Result<()>> {
        let mut results = Vec::with_capacity(actions.len());
        while let Some(action) = actions.get(results.len()) {
            let left = &actions[results.len()..];
            let changes: Vec<FdbChange> = left.iter().map_while(|action| fdb_change(action)).collect();
            if !changes.is_empty() {
                results.extend(self.kernel.change_fdb(&changes).into_iter().map(|result| result.map_err(Into::into)));
                continue;
            }
            match action {
                Action::Kernel(step) => results.push(self.apply_to_kernel(step).await),
                Action::Datapath(_) => {
                    let steps: Vec<&DatapathAction> = left.iter().map_while(|action| datapath_step(action)).collect();
                    results.extend(self.apply_to_datapath(&steps));
                }
            }
        }
        results
    }

    async fn changed(&mut self) -> Changes {
        self.monitor.changed().await
    }

    fn changed_by_now(&mut self) -> Changes {
        self.monitor.changed_by_now()
    }

    fn settled(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        self.policies.remove(now, takeover::remove_policies);
        self.rules.remove(now, takeover::remove_leftovers);
        match &mut self.fast_lane {
            FastLane::On(datapath) => datapath.settle().context("completing the datapath"),
            FastLane::Off | FastLane::Unavailable { .. } => Ok(()),
        }
    }

    fn fast_path(&self) -> String {
        match &self.fast_lane {
            FastLane::Off => "off".to_owned(),
            FastLane::On(_) => "on".to_owned(),
            FastLane::Unavailable { reason, .. } => reason.clone(),
        }
    }

    fn is_degraded(&self) -> bool {
        matches!(self.fast_lane, FastLane::Unavailable { .. })
    }

    fn look_closer(&mut self) {
        match &mut self.fast_lane {
            FastLane::Off => (),
            FastLane::On(datapath) => {
                if let Err(error) = datapath.look_for_dead_links() {
                    tracing::warn!(error = describe(error), "could not look for dead attachments");
                }
            }
            FastLane::Unavailable { reason } => {
                let is_closed = self.asked.is_some_and(|asked| asked.is_closed);
                match Datapath::open(&self.config.bpffs, &load_settings(&self.config, is_closed)) {
                    Ok(datapath) => {
                        tracing::info!("fast path available again");
                        self.fast_lane = FastLane::On(Box::new(datapath));
                    }
                    Err(error) => reason.clone_from(&describe(error)),
                }
            }
        }
    }
}

/// The change of a kernel's FDB that an action is, if it is one.
fn fdb_change(action: &Action) -> Option<FdbChange> {
    match action {
        Action::Kernel(KernelAction::AddFdb(entry)) => Some(FdbChange::Add(*entry)),
        Action::Kernel(KernelAction::DeleteFdb(entry)) => Some(FdbChange::Delete(*entry)),
        _ => None,
    }
}

fn datapath_step<'a>(action: &&'a Action) -> Option<&'a DatapathAction> {
    match action {
        Action::Datapath(step) => Some(step),
        Action::Kernel(_) => None,
    }
}

impl LinuxHost {
    async fn apply_to_kernel(&mut self, step: &KernelAction) -> anyhow::Result<()> {
        let begun = Instant::now();
        self.kernel.apply(step).await?;
        tracing::debug!(action = %step, micros = begun.elapsed().as_micros() as u64, "applied");
        Ok(())
    }

    fn apply_to_datapath(&mut self, steps: &[&DatapathAction]) -> Vec<anyhow::Result<()>> {
        match &mut self.fast_lane {
            FastLane::On(datapath) => {
                datapath.apply(steps).into_iter().map(|result| result.map_err(Into::into)).collect()
            }
            FastLane::Off | FastLane::Unavailable { .. } => {
                steps.iter().map(|_| Err(anyhow::anyhow!("the fast path is off"))).collect()
            }
        }
    }
}

/// Taps that are filtered as their ports' groups say, or need no filter.
fn filtered_taps(desired: &Desired, observed: &Observed) -> BTreeSet<String> {
    let ports = desired.networks.values().flat_map(|network| &network.local_ports);
    let ports: BTreeMap<String, &PortSecurity> = ports.map(|(id, port)| (id.tap_name(), &port.security)).collect();
    let Some(datapath) = &observed.datapath else { return BTreeSet::new() };
    let links = observed.kernel.links.values().filter(|link| datapath.is_filtered(link.ifindex));
    // A port that the topology gives no groups may still need the old agent's.
    let is_replaced = |name: &String| {
        ports.get(name).is_some_and(|security| security.has_rules() || **security == PortSecurity::Open)
    };
    links.map(|link| link.name.clone()).filter(is_replaced).collect()
}

/// Taps from which our program takes what is sent.
fn sending_taps(observed: &Observed) -> BTreeSet<String> {
    let attached = observed.datapath.iter().flat_map(|datapath| &datapath.attached);
    let taps = attached.filter(|(hook, _)| *hook == Hook::FromPort);
    taps.filter_map(|(_, ifindex)| Some(observed.kernel.links.get(ifindex)?.name.clone())).collect()
}

impl FastLane {
    fn open(config: &Config, is_closed: bool) -> Self {
        match Datapath::open(&config.bpffs, &load_settings(config, is_closed)) {
            Ok(datapath) => {
                let bpffs = config.bpffs.display();
                match config.fast_path {
                    FastPath::Auto => tracing::info!(%bpffs, "fast path on: eBPF programs loaded, maps pinned"),
                    FastPath::Off => {
                        tracing::info!(%bpffs, "fast path off by configuration: eBPF programs only filter, limit and mark");
                    }
                }
                Self::On(Box::new(datapath))
            }
            Err(error) => {
                let reason = describe(error);
                let consequence = if is_closed {
                    "the kernel lane carries everything, but PORTS WITH SECURITY GROUPS STAY CLOSED"
                } else {
                    "the kernel lane carries everything"
                };
                tracing::error!(error = reason, "fast path unavailable: {consequence}");
                Self::Unavailable { reason }
            }
        }
    }
}

fn describe(error: DatapathError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

/// What the programs are loaded with.
pub(crate) fn load_settings(config: &Config, is_closed: bool) -> LoadSettings {
    let source_ports = config.vxlan.and_then(|vxlan| vxlan.source_ports);
    LoadSettings {
        // Without tunnels no packet is for their endpoint: nothing is sent to the unspecified address.
        local_vtep: config.local_ip().unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        vxlan_port: config.vxlan.map_or(0, |vxlan| vxlan.udp_dstport),
        source_ports: source_ports.unwrap_or_else(kernel::local_port_range),
        vteps_are_all: matches!(config.control, Control::File(_)),
        logs: config.log.debug,
        forwards: config.fast_path == FastPath::Auto,
        is_closed,
        flows: config.flows.clone(),
    }
}
