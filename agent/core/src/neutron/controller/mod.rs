//! What to ask a Neutron server, what to tell it, and what follows from its answers: a state machine without input or output.
//!
//! Whatever it hears, from the server or of the host, only changes what is still to be asked or told. A question that fails is
//! asked again later, and one that makes the server stumble is cut in halves until the port that it stumbles over is alone.

mod answers;
mod due;
mod newcomers;
mod news;
mod notifications;
mod policies;
mod questions;
mod reasons;
mod status;
mod trunks;
mod waiting;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use super::{cloud::Cloud, members::Changes};
use crate::{
    desired::Desired,
    model::{NetworkId, PortId},
    update::{EntryChange, Update},
};

use due::{Due, Kind, Retry};
pub use news::News;
pub use questions::{Answer, Failure, Question, Status};
use trunks::Trunks;
use waiting::Waiting;

/// A server that does not know a tap yet may know it a moment later.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// As long as this, ports that do not come into place keep the agent from taking all that it does not know of for stale. Nothing that
/// the server has yet to answer is excused by time.
const SETTLING: Duration = Duration::from_secs(30);

/// What of the configuration matters here.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This host, as the server knows it.
    pub host: String,
    /// This host's tunnel endpoint.
    pub local_ip: Option<IpAddr>,
    /// Whether the server says who is where.
    pub l2_population: bool,
    /// Whether ports are filtered by their groups.
    pub has_groups: bool,
    /// Whether QoS policies are carried out.
    pub has_qos: bool,
    /// Whether trunks are carried out.
    pub has_trunks: bool,
    /// How many devices a question may be about (`rpc_resources_processing_step`).
    pub slice: usize,
}

/// The host, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostView {
    /// Taps by name.
    pub taps: BTreeMap<String, Tap>,
    /// Ports that forward as they should, and are held to their groups' rules and their QoS policy.
    pub in_place: BTreeSet<PortId>,
    /// Subports of trunks whose devices are there.
    pub sub_ports: BTreeSet<PortId>,
}

/// A tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tap {
    /// Its interface index; another one is another tap.
    pub ifindex: u32,
    /// Whether it is in a bridge.
    pub is_connected: bool,
    /// Whether programs of ours are attached to it.
    pub has_programs: bool,
}

/// A tap and what is known of it.
#[derive(Clone, Debug)]
struct KnownTap {
    tap: Tap,
    since: Instant,
    /// Its port, once the server has told.
    port: Option<PortId>,
    /// Whether whoever made it waits to be told that it works.
    is_awaited: bool,
    /// Why it is not connected.
    reason: Option<String>,
}

/// Everything between a Neutron server and this host.
#[derive(Debug)]
pub struct Controller {
    settings: Settings,
    cloud: Cloud,
    taps: BTreeMap<String, KnownTap>,
    in_place: BTreeSet<PortId>,
    /// When the connection was made; `None` while there is none.
    connected: Option<Instant>,
    /// Whether the server has said which ports this host has since the connection was made.
    is_listed: bool,
    /// Whether servers can be asked without side effects; old ones cannot.
    can_pull: bool,
    /// Networks of ports whose taps have gone, until the server has been told.
    left: BTreeMap<PortId, NetworkId>,
    /// The version of each port that was last read.
    revisions: BTreeMap<PortId, u64>,
    due: Due,
    trunks: Trunks,
    retry: Retry,
    /// Ports of which the server has not taken note that they are up (`true`), or down.
    untold: Waiting<(PortId, bool)>,
    /// What was asked for last; `None` before anything was.
    published: Option<Desired>,
    is_dirty: bool,
    entries: BTreeMap<NetworkId, Changes>,
    is_complete: bool,
    news: Vec<News>,
}

impl Controller {
    /// One that knows nothing.
    pub fn new(settings: Settings) -> Self {
        let mut cloud = Cloud::new(settings.has_groups, settings.has_qos);
        cloud.has_members = settings.l2_population;
        Self {
            settings,
            cloud,
            taps: BTreeMap::new(),
            in_place: BTreeSet::new(),
            connected: None,
            is_listed: false,
            can_pull: true,
            left: BTreeMap::new(),
            revisions: BTreeMap::new(),
            due: Due::default(),
            trunks: Trunks::default(),
            retry: Retry::default(),
            untold: Waiting::default(),
            published: None,
            is_dirty: true,
            entries: BTreeMap::new(),
            is_complete: false,
            news: Vec::new(),
        }
    }

    /// Takes in what is on the host.
    pub fn host_changed(&mut self, view: &HostView, now: Instant) {
        let gone: Vec<String> = self.taps.keys().filter(|name| !view.taps.contains_key(*name)).cloned().collect();
        for name in gone {
            self.tap_is_gone(&name);
        }
        for (name, tap) in &view.taps {
            match self.taps.get_mut(name) {
                Some(known) if known.tap.ifindex == tap.ifindex => known.tap = *tap,
                Some(known) => {
                    // Whoever has made it anew waits to be told that it works.
                    (known.tap, known.since) = (*tap, now);
                    self.ask_about(name);
                }
                None => {
                    let known = KnownTap { tap: *tap, since: now, port: None, is_awaited: false, reason: None };
                    self.taps.insert(name.clone(), known);
                    if self.is_listed {
                        self.ask_about(name);
                    }
                }
            }
        }
        self.in_place.clone_from(&view.in_place);
        self.sub_ports_are_wired(&view.sub_ports);
    }

    fn tap_is_gone(&mut self, name: &str) {
        let Some(KnownTap { port, .. }) = self.taps.remove(name) else { return };
        self.forget_groups(name);
        self.due.forget_tap(name);
        if let Some(port) = port {
            let network = self.cloud.ports.get(&port).map(|port| port.network);
            self.remove_port(port);
            self.due.downs.insert(port);
            self.left.extend(network.map(|network| (port, network)));
            self.news.push(News::TapGone { tap: name.to_owned(), port, network });
        }
    }

    /// The groups of a tap do not matter any more. If it is, or was to be, asked about them, that may have been for others that have
    /// the same: one of these is asked about then.
    fn forget_groups(&mut self, tap: &str) {
        let heirs = self.cloud.groups.forget(tap);
        if self.due.asked.contains(&Kind::Security) || self.due.security.contains(tap) {
            self.ask_about_groups(&heirs);
        }
    }

    fn remove_port(&mut self, port: PortId) {
        self.revisions.remove(&port);
        self.due.ports.remove(&port);
        self.due.ups.remove(&port);
        self.forget_untold(port);
        self.trunks.forget_port(port);
        self.retry.objects.forget(&(Kind::Trunks, port.0));
        let Some(removed) = self.cloud.remove(port) else { return };
        if !self.cloud.networks.contains_key(&removed.network) {
            self.retry.objects.forget(&(Kind::Networks, removed.network.0));
        }
        self.is_dirty = true;
    }

    /// The port of a tap does not work here: what it was is forgotten.
    fn disown(&mut self, tap: &str, reason: &str) {
        self.mark(tap, reason);
        self.forget_groups(tap);
        if let Some(port) = self.taps.get_mut(tap).and_then(|known| known.port.take()) {
            self.remove_port(port);
        }
    }

    /// The connection was made: everything may have changed meanwhile.
    pub fn connected(&mut self, now: Instant) {
        self.connected = Some(now);
        self.retry = Retry::default();
        self.untold = Waiting::default();
        self.resync();
    }

    /// The connection is gone, and with it what was asked.
    pub fn lost(&mut self) {
        self.connected = None;
    }

    /// The server has given this host up, or messages may have been lost: asks for everything again.
    pub fn resync(&mut self) {
        self.is_listed = false;
        // It may be another server now.
        self.can_pull = true;
        self.due.list = true;
        for network in self.cloud.networks.values_mut() {
            network.members.forget_question();
        }
        self.due.lists = self.cloud.networks.keys().copied().collect();
        if self.settings.has_groups {
            let ports = self.cloud.groups.who_has(&self.cloud.groups.all());
            self.due.security.extend(ports.iter().map(PortId::tap_name));
        }
        self.due.networks = self.cloud.networks.keys().copied().collect();
        self.due.policies = self.cloud.policies.all();
        if self.settings.has_trunks {
            let ports = self.cloud.ports.iter().filter(|(_, port)| !port.is_sub_port());
            self.trunks.ask_again(ports.map(|(id, _)| *id).collect());
        }
    }

    /// What is different from what was asked for before; at first, everything.
    pub fn update(&mut self, now: Instant) -> Option<Update> {
        self.tick(now);
        let is_complete = self.is_complete || self.knows_everything(now);
        self.is_dirty |= is_complete != self.is_complete || self.has_new_list();
        self.is_complete = is_complete;
        let entries = std::mem::take(&mut self.entries);
        let is_dirty = std::mem::take(&mut self.is_dirty);
        if let Some(published) = self.published.as_mut().filter(|_| !is_dirty)
            && let Some(changes) = entry_changes(&self.cloud, published, &entries)
        {
            for change in &changes {
                change.apply(published);
            }
            return (!changes.is_empty()).then_some(Update::Entries(changes));
        }
        self.cloud.sub_ports = self.settings.has_trunks.then(|| self.trunks.sub_ports());
        let desired = self.cloud.desired(self.is_complete);
        let update = match &self.published {
            None => Some(Update::Whole(Box::new(desired.clone()))),
            Some(published) => Update::between(published, &desired),
        };
        self.published = Some(desired);
        update
    }

    fn tick(&mut self, now: Instant) {
        for (id, network) in &mut self.cloud.networks {
            let mut changes = Changes::default();
            network.members.tick(now, &mut changes);
            if !changes.is_empty() {
                merge(self.entries.entry(*id).or_default(), changes);
            }
        }
    }

    /// Whether it is known of a network since a moment ago who else is in it.
    fn has_new_list(&self) -> bool {
        let is_known = |id| self.cloud.networks.get(id).is_some_and(|network| network.members.are_known());
        let mut networks = self.published.iter().flat_map(|published| &published.networks);
        networks.any(|(id, network)| network.has_unknown_members && is_known(id))
    }

    /// Whether all that is not asked for is stale: until then, it is only unknown. Of who is on other hosts, every network knows for
    /// itself.
    fn knows_everything(&self, now: Instant) -> bool {
        let Some(connected) = self.connected.filter(|_| self.is_listed && self.due.is_answered()) else { return false };
        // Without a list of this host's ports, only that question tells which subports are bound here already.
        let is_binding = || self.trunks.has_unbound() || self.due.asked.contains(&Kind::SubPorts);
        if self.cloud.unknown_groups().next().is_some() || !self.trunks.are_read() || !self.can_pull && is_binding() {
            return false;
        }
        // While it is not known what limits a port, the port is not asked for, and yet stays.
        if self.cloud.unknown_policies().next().is_some() {
            return false;
        }
        let is_settled = |(id, port): (&PortId, &super::port::Port)| {
            // What no trunk has any more will not come into place.
            let is_left = || self.settings.has_trunks && port.is_sub_port() && !self.trunks.has_sub_port(*id);
            self.in_place.contains(id) || !port.admin_state_up || is_left()
        };
        self.cloud.ports.iter().all(is_settled) || now >= connected + SETTLING
    }

    /// Whether the server tells who is where in a network.
    fn is_populated(&self, network: NetworkId) -> bool {
        self.settings.l2_population
            && self.cloud.ports.values().any(|port| port.network == network && port.segment.vni().is_some())
    }

    /// When something is to be done even if nothing happens.
    pub fn next_wake(&self, now: Instant) -> Option<Instant> {
        let ticks = self.cloud.networks.values().filter_map(|network| network.members.next_tick());
        let settling = self.connected.filter(|_| !self.is_complete).map(|connected| connected + SETTLING);
        let retries =
            self.retry.next(now).into_iter().chain(self.untold.next(now)).filter(|_| self.connected.is_some());
        ticks.chain(settling).chain(retries).chain(self.trunks.wakes()).filter(|wake| *wake > now).min()
    }

    /// What is worth a line in the log.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Whether a port is one of this host.
    pub fn has(&self, port: PortId) -> bool {
        self.taps.contains_key(&port.tap_name())
    }

    /// How many taps there are.
    pub fn devices(&self) -> usize {
        self.taps.len()
    }
}

fn merge(all: &mut Changes, more: Changes) {
    all.macs.extend(more.macs);
    all.addresses.extend(more.addresses);
    all.flood |= more.flood;
}

/// Changes as single entries, unless they are more than that.
fn entry_changes(
    cloud: &Cloud,
    published: &Desired,
    changes: &BTreeMap<NetworkId, Changes>,
) -> Option<Vec<EntryChange>> {
    let mut entries = Vec::new();
    for (network, changes) in changes.iter().filter(|(id, _)| published.networks.contains_key(id)) {
        if changes.flood {
            return None;
        }
        entries.extend(cloud.entries(*network, &changes.macs, &changes.addresses));
    }
    let is_new_vtep = |change: &EntryChange| match change {
        EntryChange::RemoteMac(_, _, Some(vtep)) => !published.vteps.contains(vtep),
        _ => false,
    };
    if entries.iter().any(is_new_vtep) { None } else { Some(entries) }
}
