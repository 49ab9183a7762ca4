//! Trunks: ports whose taps carry the frames of other ports, the subports, with tags.
//!
//! A subport has nobody who makes a tap for it: once the server has bound it to this host, which it does when told so, its device is
//! asked for, and is a tap like any other when it appears. How the trunk is, follows from its subports' devices.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    Controller, News,
    due::Kind,
    questions::{BULK, Question},
    waiting::take,
};
use crate::{
    desired::SubPort,
    model::{PortId, Vid},
    neutron::messages::{
        Entries, objects,
        ports::ApiPort,
        resources::{Gone, Push, Resource},
    },
};

/// All subports are connected to the trunk.
const ACTIVE: &str = "ACTIVE";
/// Some are not.
const DEGRADED: &str = "DEGRADED";
/// What the server makes of a trunk whose subports it binds.
const BUILD: &str = "BUILD";
/// The only way to tell subports apart that a Linux bridge has.
const VLAN: &str = "vlan";
/// A device is made within milliseconds, unless something stands in its way.
const WIRING: Duration = Duration::from_secs(10);

/// The trunks of this host's ports.
#[derive(Clone, Debug, Default)]
pub(super) struct Trunks {
    known: BTreeMap<PortId, Trunk>,
    /// Ports of which it has been asked whether they have one.
    read: BTreeSet<PortId>,
    /// Ports of which that is still to be asked.
    due: BTreeSet<PortId>,
    /// Subports that the server has to be told of, so that it binds them to this host.
    unbound: BTreeSet<PortId>,
    /// Subports that it has bound.
    bound: BTreeSet<PortId>,
    /// Subports whose devices are there.
    wired: BTreeSet<PortId>,
    /// Whether the server answers only questions about one port.
    is_one_by_one: bool,
    /// Whether the server is too old for all this.
    is_unsupported: bool,
}

#[derive(Clone, Debug)]
struct Trunk {
    id: Uuid,
    sub_ports: BTreeMap<PortId, Vid>,
    /// How it is, as far as the server knows or has just been told.
    status: String,
    /// Since when the host has been asked for the devices of its subports.
    since: Instant,
}

impl Trunks {
    /// Whether it has been said of every port what trunk it has.
    pub(super) fn are_read(&self) -> bool {
        self.due.is_empty()
    }

    /// Whether there are subports that the server has yet to be told of.
    pub(super) fn has_unbound(&self) -> bool {
        !self.unbound.is_empty()
    }

    /// A port is known; a subport has no trunk of its own.
    pub(super) fn has_port(&mut self, port: PortId) {
        if !self.is_unsupported && !self.read.contains(&port) {
            self.due.insert(port);
        }
    }

    /// A port is not known any more.
    pub(super) fn forget_port(&mut self, port: PortId) {
        self.read.remove(&port);
        self.due.remove(&port);
        self.unbound.remove(&port);
        if let Some(trunk) = self.known.remove(&port) {
            trunk.sub_ports.keys().for_each(|port| self.forget_sub_port(*port));
        }
    }

    fn forget_sub_port(&mut self, port: PortId) {
        self.unbound.remove(&port);
        self.bound.remove(&port);
    }

    /// It is to be asked again of all ports, perhaps of another server. What is known stays until then.
    pub(super) fn ask_again(&mut self, ports: BTreeSet<PortId>) {
        (self.is_one_by_one, self.is_unsupported) = (false, false);
        self.read.clear();
        self.due = ports;
    }

    /// Which ports the server has bound to this host.
    pub(super) fn are_bound(&mut self, ports: BTreeSet<PortId>) {
        self.bound = ports;
        let sub_ports = self.known.values().flat_map(|trunk| trunk.sub_ports.keys());
        self.unbound = sub_ports.filter(|port| !self.bound.contains(port)).copied().collect();
    }

    /// Whether a port is a subport of a trunk that is known.
    pub(super) fn has_sub_port(&self, port: PortId) -> bool {
        self.known.values().any(|trunk| trunk.sub_ports.contains_key(&port))
    }

    /// The subports that are to have a device.
    pub(super) fn sub_ports(&self) -> BTreeMap<PortId, SubPort> {
        let of_trunk = |(parent, trunk): (&PortId, &Trunk)| {
            let parent = *parent;
            trunk.sub_ports.clone().into_iter().map(move |(port, vid)| (port, SubPort { parent, vid }))
        };
        self.known.iter().flat_map(of_trunk).filter(|(port, _)| self.bound.contains(port)).collect()
    }

    /// What the server should take a trunk for; `None` while that remains to be seen.
    fn status(&self, trunk: &Trunk, now: Instant) -> Option<&'static str> {
        let mut ports = trunk.sub_ports.keys();
        if !ports.clone().all(|port| self.bound.contains(port)) {
            // What it could not bind the server has noted by itself.
            return None;
        }
        if ports.all(|port| self.wired.contains(port)) {
            return Some(ACTIVE);
        }
        (now >= trunk.since + WIRING).then_some(DEGRADED)
    }

    /// When trunks have waited for their devices for too long.
    pub(super) fn wakes(&self) -> impl Iterator<Item = Instant> {
        let is_wired = |trunk: &&Trunk| trunk.sub_ports.keys().all(|port| self.wired.contains(port));
        self.known.values().filter(move |trunk| !is_wired(trunk)).map(|trunk| trunk.since + WIRING)
    }

    /// The trunk of a port, and its subports.
    pub(super) fn of(&self, port: PortId) -> Option<(Uuid, impl Iterator<Item = PortId>)> {
        self.known.get(&port).map(|trunk| (trunk.id, trunk.sub_ports.keys().copied()))
    }

    fn sub_port(&self, port: PortId) -> Option<objects::SubPort> {
        self.known.values().find_map(|trunk| {
            let segmentation_id = trunk.sub_ports.get(&port)?.get().into();
            let segmentation_type = VLAN.to_owned();
            Some(objects::SubPort { port_id: port, trunk_id: trunk.id, segmentation_type, segmentation_id })
        })
    }
}

impl Controller {
    /// What to ask and tell about trunks.
    pub(super) fn about_trunks(&mut self, now: Instant) -> Vec<Question> {
        let mut questions = Vec::new();
        let is_one_by_one = self.trunks.is_one_by_one;
        if let Some(size) = self.room(Kind::Trunks, if is_one_by_one { 1 } else { BULK }, now) {
            let due = self.trunks.due.iter().copied();
            let ready = self.retry.objects.ready(due, |port| (Kind::Trunks, port.0), now);
            let ports = take(&mut self.trunks.due, ready, size);
            self.trunks.read.extend(&ports);
            match ports[..] {
                [] => (),
                [port] if is_one_by_one => questions.push(Question::Trunk(port)),
                _ => questions.push(Question::Trunks(ports)),
            }
        }
        if let Some(size) = self.room(Kind::SubPorts, self.settings.slice, now) {
            let due = self.trunks.unbound.iter().copied();
            let ready = self.retry.objects.ready(due, |port| (Kind::SubPorts, port.0), now);
            let ports = take(&mut self.trunks.unbound, ready, size);
            let sub_ports: Vec<_> = ports.into_iter().filter_map(|port| self.trunks.sub_port(port)).collect();
            questions.extend((!sub_ports.is_empty()).then_some(Question::SubPorts(sub_ports)));
        }
        if self.room(Kind::TrunkStatus, 1, now).is_some() {
            let new = self.trunks.known.iter().filter_map(|(port, trunk)| {
                let status = self.trunks.status(trunk, now).filter(|status| *status != trunk.status)?;
                Some((trunk.id, *port, status))
            });
            let new = self.retry.objects.ready(new, |(trunk, ..)| (Kind::TrunkStatus, trunk), now);
            if let Some((_, port, status)) = new.first().copied()
                && let Some(trunk) = self.trunks.known.get_mut(&port)
            {
                status.clone_into(&mut trunk.status);
                questions.push(Question::TrunkStatus { trunk: trunk.id, status });
            }
        }
        questions
    }

    /// Takes in whose devices are there.
    pub(super) fn sub_ports_are_wired(&mut self, wired: &BTreeSet<PortId>) {
        self.trunks.wired.clone_from(wired);
    }

    pub(super) fn read_trunks(&mut self, asked: &[PortId], objects: Entries<Resource>, now: Instant) {
        self.not_understood(&objects.bad);
        let trunks = objects.good.into_iter().filter_map(|object| match object {
            Resource::Trunk(trunk) => Some((trunk.port_id, trunk)),
            _ => None,
        });
        let mut trunks: BTreeMap<PortId, objects::Trunk> = trunks.collect();
        let here: Vec<PortId> = asked.iter().copied().filter(|port| self.cloud.ports.contains_key(port)).collect();
        for port in here {
            match trunks.remove(&port) {
                Some(trunk) => self.take_trunk(&trunk, now),
                // It may be the one that is not understood.
                None if !objects.bad.is_empty() => (),
                None => self.has_no_trunk(port),
            }
        }
    }

    fn has_no_trunk(&mut self, port: PortId) {
        if let Some(trunk) = self.trunks.known.remove(&port) {
            trunk.sub_ports.keys().for_each(|port| self.trunks.forget_sub_port(*port));
            self.news.push(News::Trunk { port, trunk: trunk.id, sub_ports: None });
            self.is_dirty = true;
        }
    }

    fn take_trunk(&mut self, object: &objects::Trunk, now: Instant) {
        let mut sub_ports = BTreeMap::new();
        for sub_port in object.sub_ports.iter().map(|object| &object.data) {
            match Vid::try_from(sub_port.segmentation_id) {
                Ok(vid) if sub_port.segmentation_type == VLAN => _ = sub_ports.insert(sub_port.port_id, vid),
                _ => self.news.push(News::NotUnderstood {
                    what: format!(
                        "subport {} of trunk {} has segmentation {} {}: expected vlan, and 1 to 4094",
                        sub_port.port_id, object.id, sub_port.segmentation_type, sub_port.segmentation_id
                    ),
                }),
            }
        }
        let former = self.trunks.known.get(&object.port_id).filter(|known| known.id == object.id);
        let is_same = former.is_some_and(|former| former.sub_ports == sub_ports);
        let since = former.filter(|_| is_same).map_or(now, |former| former.since);
        if !is_same {
            let count = Some(sub_ports.len());
            self.news.push(News::Trunk { port: object.port_id, trunk: object.id, sub_ports: count });
            self.is_dirty = true;
        }
        let left: Vec<PortId> = former.into_iter().flat_map(|former| former.sub_ports.keys().copied()).collect();
        left.iter().filter(|port| !sub_ports.contains_key(port)).for_each(|port| self.trunks.forget_sub_port(*port));
        self.trunks.unbound.extend(sub_ports.keys().filter(|port| !self.trunks.bound.contains(port)));
        let trunk = Trunk { id: object.id, sub_ports, status: object.status.clone(), since };
        self.trunks.known.insert(object.port_id, trunk);
    }

    /// The server has bound subports; those that it leaves out it cannot bind, and has noted that.
    pub(super) fn sub_ports_bound(
        &mut self,
        asked: &[objects::SubPort],
        bound: BTreeMap<Uuid, Entries<ApiPort>>,
        now: Instant,
    ) {
        for ports in bound.into_values() {
            self.not_understood(&ports.bad);
            let here = ports.good.iter().filter(|port| port.host == self.settings.host).map(|port| port.id);
            self.trunks.bound.extend(here);
        }
        for sub_port in asked {
            if let Some(trunk) = self.trunks.known.values_mut().find(|trunk| trunk.id == sub_port.trunk_id) {
                BUILD.clone_into(&mut trunk.status);
                trunk.since = now;
            }
            if !self.trunks.bound.contains(&sub_port.port_id) {
                let (port, trunk) = (sub_port.port_id, sub_port.trunk_id);
                self.news.push(News::NotBound { port, trunk });
            }
        }
        self.is_dirty = true;
    }

    /// A question about trunks was not answered.
    pub(super) fn ask_again_about_trunks(&mut self, question: Question) {
        match question {
            Question::Trunks(ports) => {
                self.trunks.due.extend(ports.into_iter().filter(|port| self.cloud.ports.contains_key(port)));
            }
            Question::Trunk(port) => self.ask_again_about_trunks(Question::Trunks(vec![port])),
            Question::SubPorts(sub_ports) => self.trunks.unbound.extend(sub_ports.iter().map(|port| port.port_id)),
            Question::TrunkStatus { trunk, .. } => {
                if let Some(trunk) = self.trunks.known.values_mut().find(|known| known.id == trunk) {
                    trunk.status.clear();
                }
            }
            _ => (),
        }
    }

    /// The server is too old to be asked about many ports at once.
    pub(super) fn read_trunks_one_by_one(&mut self, ports: &[PortId]) {
        self.trunks.is_one_by_one = true;
        self.ask_again_about_trunks(Question::Trunks(ports.to_vec()));
    }

    /// The server is too old to say which trunks there are, or has none.
    pub(super) fn cannot_read_trunks(&mut self, reason: String) {
        self.trunks.is_unsupported = true;
        self.trunks.due.clear();
        self.news.push(News::NoTrunks { reason });
    }

    /// What is said may be older than what is known already: it only says that there is something to read.
    pub(super) fn trunks_changed(&mut self, push: &Push) {
        let mut ports = BTreeSet::new();
        match push {
            Push::Changed(objects) => {
                for object in &objects.good {
                    match object {
                        Resource::Trunk(trunk) => _ = ports.insert(trunk.port_id),
                        Resource::SubPort(sub_port) => {
                            let known = self.trunks.known.iter().filter(|(_, trunk)| trunk.id == sub_port.trunk_id);
                            ports.extend(known.map(|(port, _)| *port));
                        }
                        _ => (),
                    }
                }
            }
            Push::Deleted(gone) => {
                for Gone { kind, id } in &gone.good {
                    let has = |trunk: &Trunk| match kind.as_str() {
                        "Trunk" => trunk.id == *id,
                        "SubPort" => trunk.sub_ports.contains_key(&PortId(*id)),
                        _ => false,
                    };
                    ports.extend(self.trunks.known.iter().filter(|(_, trunk)| has(trunk)).map(|(port, _)| *port));
                }
            }
        }
        let here = ports.into_iter().filter(|port| self.cloud.ports.contains_key(port));
        self.trunks.due.extend(here);
    }
}
