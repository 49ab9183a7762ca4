//! What the server is told of ports, and what follows when it does not take note.
//!
//! A port that the server fails on waits by itself, longer each time, and is marked with the reason: all others go on. So do
//! lists of members, which the server sends when it is told that a port is up: another port of the network asks for them.

use std::{collections::BTreeSet, time::Instant};

use super::{
    Controller, News,
    due::Kind,
    questions::{Question, Status},
    waiting::take,
};
use crate::{model::PortId, neutron::messages::devices::DeviceListUpdated};

const STUMBLED: &str = "it failed on the port, and its log says why";

impl Controller {
    /// What to tell: ports that are in place, those that are not any more, and, where it is not known who else is in a network,
    /// one port of it, up or told to be up once more.
    pub(super) fn statuses(&mut self, now: Instant) -> Option<Question> {
        let size = self.room(Kind::Status, self.settings.slice, now)?;
        let (in_place, ports, untold) = (&self.in_place, &self.cloud.ports, &self.untold);
        let works = |port: &PortId| in_place.contains(port) && ports.contains_key(port);
        let is_up = |port| (port, true);
        let network_of = |port: &PortId| ports.get(port).map(|port| port.network);
        let mut refreshed = BTreeSet::new();
        let mut up = Vec::new();
        // Those that are to be told anyway come first; then one of each network that none of them is in.
        let due = self.due.ups.iter().chain(ports.keys()).copied();
        for port in untold.ready(due.filter(works), is_up, now) {
            let Some(network) = network_of(&port).filter(|network| self.due.lists.contains(network)) else { continue };
            if up.len() < size && self.is_populated(network) && refreshed.insert(network) {
                up.push(port);
            }
        }
        if !up.is_empty() {
            for network in refreshed {
                self.due.lists.remove(&network);
                if let Some(network) = self.cloud.networks.get_mut(&network) {
                    network.members.ask();
                }
            }
            for port in &up {
                self.due.ups.remove(port);
            }
            return Some(Question::Status(Status { up, down: Vec::new(), refresh: true }));
        }
        let ready = untold.ready(self.due.ups.iter().copied().filter(works), is_up, now);
        let up = take(&mut self.due.ups, ready, size);
        let ready = untold.ready(self.due.downs.iter().copied(), |port| (port, false), now);
        let down = take(&mut self.due.downs, ready, size);
        (!up.is_empty() || !down.is_empty()).then_some(Question::Status(Status { up, down, refresh: false }))
    }

    /// Takes in which ports the server has taken note of.
    pub(super) fn told(&mut self, status: &Status, updated: &DeviceListUpdated, now: Instant) {
        let has = |failed: &[String], port: &PortId| failed.contains(&port.to_string());
        let (failed, up): (Vec<PortId>, Vec<_>) =
            status.up.iter().partition(|port| has(&updated.failed_devices_up, port));
        for port in failed {
            self.could_not_tell(Status { up: vec![port], down: Vec::new(), ..*status }, STUMBLED, now);
        }
        for port in up {
            self.forget_untold(port);
            let network = self.cloud.ports.get(&port).map(|port| port.network);
            let since = self.taps.get(&port.tap_name()).map(|known| now - known.since);
            self.news.push(News::Up { port, network, after: since });
            if status.refresh
                && let Some(network) = network.and_then(|id| self.cloud.networks.get_mut(&id))
            {
                network.members.answered(now);
            }
        }
        let (failed, down): (Vec<PortId>, Vec<_>) =
            status.down.iter().partition(|port| has(&updated.failed_devices_down, port));
        for port in failed {
            self.could_not_tell(Status { up: Vec::new(), down: vec![port], refresh: false }, STUMBLED, now);
        }
        for port in down {
            self.forget_untold(port);
            let network = self.left.remove(&port).or_else(|| Some(self.cloud.ports.get(&port)?.network));
            self.news.push(News::Down { port, network });
        }
    }

    /// The server has not taken note of a port, of which alone it was told: it waits, and holds back no other.
    pub(super) fn could_not_tell(&mut self, status: Status, reason: &str, now: Instant) {
        let status = self.as_it_is(status);
        let told = status.up.iter().map(|port| (*port, true)).chain(status.down.iter().map(|port| (*port, false)));
        for (port, is_up) in told {
            if self.untold.reason(&(port, is_up)).is_none() {
                self.news.push(News::Untold { port, is_up, reason: reason.to_owned() });
            }
            self.untold.failed((port, is_up), reason, now);
        }
        self.tell_again(status);
    }

    /// The server has taken note of how a port is, or there is something else to tell.
    pub(super) fn forget_untold(&mut self, port: PortId) {
        self.untold.forget(&(port, true));
        self.untold.forget(&(port, false));
    }

    /// What was told has had no answer: as far as it is still so, it is told again.
    pub(super) fn tell_again(&mut self, status: Status) {
        let Status { up, down, refresh } = self.as_it_is(status);
        for port in up.iter().filter(|_| refresh) {
            self.ask_for_members(*port);
        }
        self.due.ups.extend(up);
        self.due.downs.extend(down);
    }

    /// What of a status is still so. A port that has come back is not down any more: the server takes those that are up first, so
    /// that would be its last word.
    fn as_it_is(&self, mut status: Status) -> Status {
        let ports = &self.cloud.ports;
        status.up.retain(|port| ports.contains_key(port));
        status.down.retain(|port| ports.get(port).is_none_or(|port| !port.admin_state_up));
        status
    }

    fn ask_for_members(&mut self, port: PortId) {
        let Some(network) = self.cloud.ports.get(&port).map(|port| port.network) else { return };
        self.due.lists.insert(network);
        if let Some(network) = self.cloud.networks.get_mut(&network) {
            network.members.forget_question();
        }
    }
}
