//! Everything that is looked at before anything is shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use anyhow::Context as _;
use overlane_abi as abi;
use overlane_core::{
    action::Action,
    config::{Config, Control, FastPath, PhysicalDevice, UplinkLane},
    desired::{Desired, LocalPort, Network},
    model::{NetworkId, PortId, Segment, vlan_name, vxlan_name},
    observed::{DatapathState, Link, Observed},
    offload::Superpackets,
    plan::{self, Plan},
    security::compile::Policy,
    xdp::{self, Choice},
};

use crate::{
    datapath::{Counters, Datapath, DatapathError, Flow, RuleHits, Stats},
    files::{Asked, Loaded},
    kernel::Kernel,
    show::services::ServiceView,
    status::Agent,
};

/// One look at the host.
pub struct View {
    pub(super) desired: Desired,
    pub(super) observed: Observed,
    pub(super) stats: Stats,
    pub(super) plan: Plan,
    pub(super) services: ServiceView,
    pub(super) agent: Agent,
    config: Config,
}

impl View {
    /// Looks at the host that the configuration is about, and compares it with what is desired.
    ///
    /// # Errors
    /// [`overlane_core::problem::Problems`] in the topology, or no agent that knows what its server desires; otherwise what could
    /// not be read.
    pub fn observe(loaded: &Loaded) -> anyhow::Result<Self> {
        Self::compare(loaded, loaded.asked()?)
    }

    /// As [`Self::observe`]; where nobody knows what is desired, what is there can be looked at all the same.
    ///
    /// # Errors
    /// [`overlane_core::problem::Problems`] in the topology; otherwise what could not be read.
    pub fn observe_anyway(loaded: &Loaded) -> anyhow::Result<Self> {
        let asked = match (loaded.asked(), &loaded.config.control) {
            (Err(error), Control::Neutron(_)) => {
                eprintln!("overlane: {error:#}; ports are shown as far as kernel and maps know them, networks are not");
                Asked { desired: Desired { closed_by_default: true, ..Desired::default() }, services: None }
            }
            (asked, _) => asked?,
        };
        Self::compare(loaded, asked)
    }

    fn compare(loaded: &Loaded, Asked { desired, services }: Asked) -> anyhow::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
        let kernel = runtime.block_on(async {
            let (kernel, _monitor) = Kernel::connect().context("connecting to the kernel by netlink")?;
            kernel.observe(&desired, &loaded.config).await.context("listing the kernel's state")
        })?;
        let (datapath, stats) = match loaded.config.fast_path {
            // Filters and QoS policies need eBPF also where forwarding does not use it.
            FastPath::Off if !desired.needs_programs() => (None, Stats::default()),
            FastPath::Auto | FastPath::Off => match Datapath::observe_pinned(&loaded.config.bpffs) {
                Ok((datapath, stats)) => (Some(datapath), stats),
                // Before the agent's first start everything is still to be done.
                Err(DatapathError::NothingPinned(_)) => (Some(DatapathState::default()), Stats::default()),
                Err(error) => return Err(error).context("reading the pinned maps"),
            },
        };
        let observed = Observed { kernel, datapath, ..Observed::default() };
        let plan = plan::plan(&desired, &observed, &loaded.config);
        let services = match services {
            Some(services) => runtime.block_on(ServiceView::observe(services, &loaded.config))?,
            None => ServiceView::default(),
        };
        Ok(Self { desired, observed, stats, plan, services, agent: Agent::ask(), config: loaded.config.clone() })
    }

    /// Whether the programs forward, rather than only filter.
    pub(super) fn forwards(&self) -> bool {
        self.config.fast_path == FastPath::Auto
    }

    /// Who carries the superpackets of an uplink.
    pub(super) fn superpackets(&self, uplink: u32) -> Option<Superpackets> {
        self.config.vxlan.as_ref().map(|vxlan| plan::superpackets(&self.observed, vxlan, uplink))
    }

    /// What takes up what arrives on an uplink, and why, where XDP was asked for.
    pub(super) fn uplink_choice(&self, uplink: u32) -> Option<Choice> {
        let lane = self.config.uplink_lanes.of(&self.observed.kernel.links.get(&uplink)?.name);
        (lane != UplinkLane::Tc).then(|| xdp::settle(lane, self.observed.kernel.xdp.get(&uplink)))
    }

    /// The connection table.
    pub(super) fn flows(&self) -> anyhow::Result<Vec<Flow>> {
        Datapath::flows(&self.config.bpffs).context("reading the connection table")
    }

    /// What rules have admitted.
    pub(super) fn rule_hits(&self) -> anyhow::Result<RuleHits> {
        match Datapath::rule_hits(&self.config.bpffs) {
            Err(DatapathError::NothingPinned(_)) => Ok(RuleHits::new()),
            result => result.context("reading the counters of rules"),
        }
    }

    /// The ports that are desired on this host.
    pub(super) fn ports(&self) -> impl Iterator<Item = (PortId, &LocalPort)> {
        self.desired.networks.values().flat_map(|network| &network.local_ports).map(|(id, port)| (*id, port))
    }

    /// The port behind a tap.
    pub(super) fn port_at(&self, ifindex: u32) -> Option<PortId> {
        let name = &self.observed.kernel.links.get(&ifindex)?.name;
        self.ports().map(|(id, _)| id).find(|id| id.tap_name() == *name)
    }

    /// What the maps have of the port at a tap.
    pub(super) fn map_entry(&self, tap: &str) -> Option<&abi::Port> {
        let tap = self.observed.kernel.link_named(tap)?;
        self.observed.datapath.as_ref()?.ports.get(&tap.ifindex)
    }

    /// Whether the filters of a tap are in force.
    pub(super) fn is_filtered(&self, ifindex: u32) -> bool {
        self.observed.datapath.as_ref().is_some_and(|datapath| datapath.is_filtered(ifindex))
    }

    /// The number that the maps know a policy by.
    pub(super) fn policy_number(&self, policy: &Policy) -> Option<u32> {
        let content = policy.fingerprint();
        let known = &self.observed.datapath.as_ref()?.security.policies;
        known.iter().find(|(_, name)| name.content == content).map(|(number, _)| *number)
    }

    /// The policy that the maps know by a number.
    pub(super) fn policy(&self, number: u32) -> Option<&Policy> {
        let policies = self.desired.rulebook.policies.values().flatten();
        policies.into_iter().find(|policy| self.policy_number(policy) == Some(number))
    }

    /// What the agent would do.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What the agent would do about DHCP servers and routers, and what keeps it from that: sentences.
    pub(crate) fn service_differences(&self) -> Vec<String> {
        let obstacles = self.services.plan.obstacles.values().cloned();
        let complaints = match &self.agent {
            Agent::Running(status) => status.services.as_slice(),
            Agent::Absent | Agent::Silent { .. } => &[],
        };
        let complaints = complaints
            .iter()
            .filter(|complaint| !self.services.plan.obstacles.values().any(|known| known == *complaint));
        obstacles.chain(self.services.steps()).chain(complaints.cloned()).collect()
    }

    /// That not all is known which is desired, and why. What is there agrees with what little is.
    pub(crate) fn untold(&self) -> Option<String> {
        let why = match &self.agent {
            Agent::Running(status) => status.control.as_str(),
            Agent::Absent | Agent::Silent { .. } => "no agent answers",
        };
        (!self.desired.complete).then(|| format!("the control plane has not told everything yet: {why}"))
    }

    /// Networks of which it is not known yet who is in them on other hosts. What is there may lead to some who have gone.
    pub(crate) fn without_members(&self) -> impl Iterator<Item = String> {
        let networks = self.desired.networks.iter().filter(|(_, network)| network.has_unknown_members);
        networks.map(|(id, network)| {
            format!(
                "the control plane has not told yet who is on other hosts in network {} ({id}): nothing that leads there is taken for stale",
                network.name
            )
        })
    }

    /// What trouble the control plane has with a tap, if it has any.
    pub(crate) fn why_not_here(&self, tap: &str) -> Option<&str> {
        self.agent.why_not_here(tap)
    }

    /// Why the agent's last attempt at a step failed.
    pub(crate) fn failure(&self, action: &Action) -> Option<&str> {
        let text = action.to_string();
        let failure = self.agent.failures().iter().find(|failure| failure.action == text)?;
        Some(&failure.error)
    }

    /// Taps by Neutron's rule for names that no port of this host has.
    pub(crate) fn taps_without_port(&self) -> impl Iterator<Item = &str> {
        let ports = self.desired.networks.values().flat_map(|network| network.local_ports.keys());
        let known: BTreeSet<String> = ports.map(PortId::tap_name).collect();
        let names = self.observed.kernel.links.values().map(|link| link.name.as_str());
        names.filter(move |name| PortId::is_tap_name(name) && !known.contains(*name))
    }

    /// Taps of ports of this host that the control plane has trouble with all the same, and why.
    pub(crate) fn ports_in_trouble(&self) -> impl Iterator<Item = (&str, &str)> {
        let without_port: BTreeSet<&str> = self.taps_without_port().collect();
        self.agent.refused().filter(move |(tap, _)| self.has_link(tap) && !without_port.contains(tap))
    }

    /// A network that is desired on this host.
    pub(crate) fn desired_network(&self, id: NetworkId) -> Option<&Network> {
        self.desired.networks.get(&id)
    }

    /// Whether there is a link called `name`.
    pub(crate) fn has_link(&self, name: &str) -> bool {
        self.observed.kernel.link_named(name).is_some()
    }

    /// The MTU of an interface in bytes.
    pub(crate) fn mtu(&self, ifindex: u32) -> Option<u32> {
        self.observed.kernel.links.get(&ifindex).map(|link| link.mtu)
    }

    /// The name of an interface, or its index when it is gone.
    pub(crate) fn interface(&self, ifindex: u32) -> String {
        self.observed.kernel.links.get(&ifindex).map_or_else(|| format!("#{ifindex}"), |link| link.name.clone())
    }

    /// An action's text with names in the place of interface indices.
    pub(crate) fn name_interfaces(&self, text: &str) -> String {
        let mut words = text.split(' ').peekable();
        let mut named = Vec::new();
        while let Some(word) = words.next() {
            let is_index = word.ends_with("interface");
            named.push(word.to_owned());
            if let Some(next) = words.peek().filter(|_| is_index) {
                let digits = next.trim_end_matches(|c: char| !c.is_ascii_digit());
                if let Ok(ifindex) = digits.parse() {
                    named.push(format!("{}{}", self.interface(ifindex), &next[digits.len()..]));
                    words.next();
                }
            }
        }
        named.join(" ")
    }

    /// The network that the maps know by a local index.
    pub(super) fn network(&self, index: u32) -> Option<(&NetworkId, &Network)> {
        let datapath = self.observed.datapath.as_ref()?;
        let has_index =
            |key: abi::NetworkKey| datapath.networks.get(&key).is_some_and(|network| network.index == index);
        self.desired.networks.iter().find(|(id, network)| match network.segment.vni() {
            Some(vni) => has_index(abi::NetworkKey::vni(vni.get())),
            None => {
                let bridge = self.bridge(**id, network);
                bridge.is_some_and(|bridge| has_index(abi::NetworkKey::interface(bridge.ifindex)))
            }
        })
    }

    /// The bridge of a network, if it is there.
    pub(super) fn bridge(&self, id: NetworkId, network: &Network) -> Option<&Link> {
        self.observed.kernel.link_named(&self.bridge_name(id, network))
    }

    /// The name that a network's bridge has or should have.
    pub(super) fn bridge_name(&self, id: NetworkId, network: &Network) -> String {
        match &network.segment {
            Segment::Flat { physical_network } => match self.config.untagged_device(physical_network) {
                Some(PhysicalDevice::Bridge(name)) => name,
                _ => id.bridge_name(),
            },
            Segment::Vxlan(_) | Segment::Vlan { .. } | Segment::Local => id.bridge_name(),
        }
    }

    /// What leads to the other hosts, if it is there.
    pub(super) fn uplink(&self, network: &Network) -> Option<&Link> {
        self.observed.kernel.link_named(&self.uplink_name(network)?)
    }

    /// The name of what leads from a network's bridge to the other hosts: the vxlan device, the VLAN device, or the NIC.
    pub(super) fn uplink_name(&self, network: &Network) -> Option<String> {
        match &network.segment {
            Segment::Vxlan(vni) => Some(vxlan_name(*vni)),
            Segment::Flat { physical_network } => match self.config.untagged_device(physical_network) {
                Some(PhysicalDevice::Interface(name)) => Some(name),
                _ => None,
            },
            Segment::Vlan { physical_network, vid } => {
                let nic = self.config.vlan_interface(physical_network)?;
                Some(vlan_name(nic, *vid))
            }
            Segment::Local => None,
        }
    }

    /// As `network`, for a table.
    pub(super) fn network_name(&self, index: u32) -> String {
        self.network(index).map_or_else(|| format!("#{index}"), |(_, network)| network.name.clone())
    }

    /// What a program has counted on an interface.
    pub(super) fn counters(&self, ifindex: u32, hook: abi::Hook) -> Counters {
        self.stats.counters.get(&(ifindex, hook)).copied().unwrap_or_default()
    }

    /// Frames dropped on an interface.
    pub(super) fn dropped(&self, ifindex: u32) -> u64 {
        self.stats.drops.iter().filter(|drop| drop.ifindex == ifindex).map(|drop| drop.packets).sum()
    }

    /// Whether a program is attached to an interface.
    pub(super) fn is_attached(&self, hook: abi::Hook, ifindex: u32) -> bool {
        self.observed.datapath.as_ref().is_some_and(|datapath| datapath.attached.contains(&(hook, ifindex)))
    }

    /// The tunnel endpoints that the maps know.
    pub(super) fn vteps(&self) -> BTreeMap<IpAddr, abi::Vtep> {
        let entries = self.observed.datapath.iter().flat_map(|datapath| &datapath.vteps);
        entries.map(|(address, vtep)| (IpAddr::from(*address), *vtep)).collect()
    }
}
