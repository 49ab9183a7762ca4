//! What follows from answers, and from their absence.

use std::{collections::BTreeSet, time::Instant};

use super::{
    Controller, News,
    due::Kind,
    questions::{Answer, Failure, Question},
};
use crate::{
    model::{NetworkId, PortId},
    neutron::{
        messages::{
            BadEntry, Entries,
            devices::{BoundDevice, DetailsAndFailures, DeviceDetails},
            objects,
            ports::ApiPort,
            resources::Resource,
            security::SecurityGroupInfo,
        },
        port::{Binding, Port},
    },
};

/// A port that works, as far as the server knows.
const ACTIVE: &str = "ACTIVE";
/// How ports are bound that a Linux bridge agent has to connect.
const BRIDGE: &str = "bridge";

const UNKNOWN: &str = "the server knows no port of this name that is bound to this host; if it should: \
                       openstack port show, and look at binding_vif_type and binding_host_id";
const BINDING_REFUSED: &str = "the server could not bind its port to this host (binding_failed): its log says why; look at \
                               openstack network agent list, and at the physical networks that this agent reports";
const NO_ACTIVE_BINDING: &str = "its port works on another host: it is migrating, or is bound there";
const STUMBLED: &str = "the server failed on its port, and its log says why";
const NOT_UNDERSTOOD: &str = "what the server says of its port is not understood";
/// Neutron's plugin interface 1.3 is that of 2014; the major version has never changed.
const STRANGE_SERVER: &str = "the server does not know the question: it is older or newer than this agent, which needs version 1.3 \
                              of Neutron's plugin interface or a later 1.x; look at the versions of both";

impl Controller {
    /// Takes in an answer.
    pub fn answered(&mut self, question: Question, answer: Answer, now: Instant) {
        self.due.asked.remove(&question.kind());
        self.retry.question_answered(question.kind(), self.settings.slice.max(question.size()));
        for object in question.objects() {
            self.retry.objects.forget(&(question.kind(), object));
        }
        match (question, answer) {
            (Question::List, Answer::List(ports)) => self.listed(ports),
            (Question::Details(taps), Answer::Details(details)) => self.detailed(&taps, details, now),
            (Question::Ports(ports), Answer::Objects(objects)) => self.read_ports(&ports, objects, now),
            (Question::Networks(networks), Answer::Objects(objects)) => self.read_networks(&networks, objects),
            (Question::Security(taps), Answer::Security(info)) => self.secured(&taps, &info, now),
            (Question::Policy(id), Answer::Policy(policy)) => self.read_policy(id, policy.as_ref()),
            (Question::Status(status), Answer::Status(updated)) => self.told(&status, &updated, now),
            (Question::Trunks(ports), Answer::Objects(objects)) => self.read_trunks(&ports, objects, now),
            (Question::Trunk(port), Answer::Objects(objects)) => self.read_trunks(&[port], objects, now),
            (Question::SubPorts(asked), Answer::SubPorts(bound)) => self.sub_ports_bound(&asked, bound, now),
            (Question::TrunkStatus { trunk, status }, Answer::TrunkStatus) => {
                self.news.push(News::TrunkStatus { trunk, status });
            }
            (question, _) => self.failed(question, Failure::Other("another answer than was asked for".to_owned()), now),
        }
    }

    /// Takes in that there is no answer.
    pub fn failed(&mut self, question: Question, failure: Failure, now: Instant) {
        let (kind, size) = (question.kind(), question.size());
        self.due.asked.remove(&kind);
        if let Question::Policy(policy) = question {
            return self.policy_failed(policy, failure, now);
        }
        let reason = match failure {
            // Once there is a connection, everything is asked anyway, but for what was to be told.
            Failure::Lost => return self.ask_again(question),
            Failure::Transient(reason) | Failure::Other(reason)
                if size == 1 && matches!(question, Question::Status(_)) =>
            {
                // Whether it is the port or the server, the next one will show.
                self.retry.question_failed(kind, size, now);
                if let Question::Status(status) = question {
                    self.could_not_tell(status, &reason, now);
                }
                return;
            }
            Failure::Unsupported(reason) if matches!(question, Question::Trunk(_)) => {
                return self.cannot_read_trunks(reason);
            }
            Failure::Unsupported(reason) if question.has_substitute() => {
                self.cannot_pull(&question);
                reason
            }
            Failure::Unsupported(reason) => {
                // Only another server will answer it, however much it is about.
                for tap in question.taps() {
                    self.mark(&tap, &format!("{STRANGE_SERVER}: {reason}"));
                }
                self.retry.question_failed(kind, 1, now);
                self.ask_again(question.clone());
                format!("{STRANGE_SERVER}: {reason}")
            }
            Failure::Transient(reason) | Failure::Other(reason) => {
                // What the server fails on waits by itself.
                if let [tap] = &question.taps()[..] {
                    self.mark(tap, &format!("{STUMBLED}: {reason}"));
                    self.retry.tap_failed(tap, now);
                } else {
                    self.retry.question_failed(kind, size, now);
                }
                if let [object] = question.objects()[..] {
                    self.retry.objects.failed((kind, object), &reason, now);
                }
                self.ask_again(question.clone());
                reason
            }
        };
        self.news.push(News::Failed { question: question.to_string(), reason });
    }

    fn ask_again(&mut self, question: Question) {
        match question {
            Question::List => self.due.list = true,
            Question::Details(taps) => {
                self.due.details.extend(taps.into_iter().filter(|tap| self.taps.contains_key(tap)));
            }
            Question::Ports(ports) => self.due.ports.extend(ports),
            Question::Networks(networks) => {
                let here = networks.into_iter().filter(|network| self.cloud.networks.contains_key(network));
                self.due.networks.extend(here);
            }
            Question::Security(taps) => {
                self.due.security.extend(taps.into_iter().filter(|tap| self.taps.contains_key(tap)));
            }
            Question::Status(status) => self.tell_again(status),
            about_trunks => self.ask_again_about_trunks(about_trunks),
        }
    }

    /// An old server answers only questions that have side effects.
    fn cannot_pull(&mut self, question: &Question) {
        if let Question::Trunks(ports) = question {
            return self.read_trunks_one_by_one(ports);
        }
        self.can_pull = false;
        match question {
            Question::List => self.listed(Entries::default()),
            Question::Ports(ports) => {
                for tap in ports.iter().map(PortId::tap_name) {
                    self.ask_about(&tap);
                }
            }
            // The details of ports have what is needed of their networks.
            _ => (),
        }
    }

    /// Which ports are bound to this host: those that work are read without side effects, the others are asked about.
    fn listed(&mut self, ports: Entries<ApiPort>) {
        self.not_understood(&ports.bad);
        self.is_listed = true;
        let is_here = |port: &&ApiPort| port.is_sub_port() && port.host == self.settings.host;
        self.trunks.are_bound(ports.good.iter().filter(is_here).map(|port| port.id).collect());
        let has_history = self.taps.values().any(|known| known.tap.has_programs);
        let mut rest: BTreeSet<String> = self.taps.keys().cloned().collect();
        for port in ports.good {
            let name = port.id.tap_name();
            let Some(known) = self.taps.get_mut(&name) else {
                if port.status == ACTIVE && port.vif_type == BRIDGE && port.host == self.settings.host {
                    self.due.downs.insert(port.id);
                }
                continue;
            };
            rest.remove(&name);
            // A tap that has been made anew while nobody looked: whoever made it waits to be told that it works.
            let is_new = !known.tap.is_connected || (has_history && !known.tap.has_programs);
            if known.port.is_none() && (is_new || port.status != ACTIVE) {
                self.ask_about(&name);
                continue;
            }
            let is_known = known.port == Some(port.id) && self.cloud.ports.contains_key(&port.id);
            known.port = Some(port.id);
            if !is_known || self.revisions.get(&port.id) != Some(&port.revision_number) {
                self.due.ports.insert(port.id);
            } else if port.status != ACTIVE && port.admin_state_up {
                self.due.ups.insert(port.id);
            }
        }
        for tap in rest {
            // Its port is bound to no host, as those of some routers are, or has gone.
            match self.taps.get(&tap).and_then(|known| known.port).filter(|_| self.can_pull) {
                Some(port) => _ = self.due.ports.insert(port),
                None => self.ask_about(&tap),
            }
        }
    }

    fn detailed(&mut self, taps: &[String], details: DetailsAndFailures, now: Instant) {
        let mut rest: BTreeSet<&String> = taps.iter().collect();
        for bad in &details.devices.bad {
            if let Some(tap) = taps.iter().find(|tap| **tap == bad.name) {
                rest.remove(tap);
                self.mark(tap, &format!("{NOT_UNDERSTOOD}: {}", bad.error));
                self.retry.tap_failed(tap, now);
            }
        }
        self.not_understood(&details.devices.bad);
        for device in details.devices.good {
            let tap = device.device().to_owned();
            rest.remove(&tap);
            match device {
                DeviceDetails::Known(bound) => self.bound(&tap, &bound, now),
                DeviceDetails::Unknown { .. } => {
                    self.disown(&tap, UNKNOWN);
                    self.retry.tap_failed(&tap, now);
                }
                DeviceDetails::NoActiveBinding { .. } => {
                    self.disown(&tap, NO_ACTIVE_BINDING);
                    self.retry.tap_failed(&tap, now);
                }
            }
        }
        for tap in rest {
            self.mark(tap, STUMBLED);
            self.retry.tap_failed(tap, now);
        }
    }

    /// A port has been told in detail, and its server waits to hear that it works.
    fn bound(&mut self, tap: &str, bound: &BoundDevice, now: Instant) {
        let port = match Port::try_from(bound) {
            Ok(port) => port,
            Err(error) => {
                self.mark(tap, &error.to_string());
                self.retry.tap_failed(tap, now);
                return;
            }
        };
        if port.is_gateway() && self.can_pull {
            // To which host it is bound, details do not say.
            self.due.ports.insert(bound.port_id);
        }
        self.put(tap, bound.port_id, port);
        self.take_awaited(tap);
        if let Some(network) = self.cloud.networks.get_mut(&bound.network_id) {
            (network.is_known, network.mtu) = (true, bound.mtu.and_then(|mtu| u16::try_from(mtu).ok()));
            network.qos_policy = bound.qos_network_policy_id;
        }
        if bound.admin_state_up {
            self.due.ups.insert(bound.port_id);
        }
    }

    fn put(&mut self, tap: &str, id: PortId, port: Port) {
        let Some(known) = self.taps.get_mut(tap) else { return };
        self.retry.tap_is_fresh(tap);
        // Of a tap that has gone and come back, only that counts which is now.
        self.due.downs.remove(&id);
        known.reason = None;
        let is_known = known.port.replace(id) == Some(id);
        if !is_known {
            self.forget_untold(id);
        }
        match self.cloud.ports.get(&id).filter(|_| is_known) {
            None => self.news.push(News::Known { tap: tap.to_owned(), port: id, network: port.network }),
            Some(former) if *former != port => self.news.push(News::Changed { port: id, network: port.network }),
            Some(_) => (),
        }
        if !self.cloud.networks.contains_key(&port.network) {
            self.due.lists.insert(port.network);
        }
        self.is_dirty = true;
        if self.settings.has_trunks && !port.is_sub_port() {
            self.trunks.has_port(id);
        }
        let former = self.cloud.ports.get(&id).map(|former| former.network).filter(|former| *former != port.network);
        if former.is_some() {
            self.cloud.remove(id);
        }
        self.cloud.put(id, port);
    }

    fn read_ports(&mut self, asked: &[PortId], objects: Entries<Resource>, now: Instant) {
        self.not_understood(&objects.bad);
        let mut rest: BTreeSet<PortId> = asked.iter().copied().collect();
        for object in objects.good {
            if let Resource::Port(port) = object {
                rest.remove(&port.id);
                self.read_port(&port, now);
            }
        }
        for port in rest {
            let tap = port.tap_name();
            match objects.bad.iter().find(|bad| bad.name == port.to_string()) {
                Some(bad) => self.mark(&tap, &format!("{NOT_UNDERSTOOD}: {}", bad.error)),
                None => self.disown(&tap, UNKNOWN),
            }
            self.retry.tap_failed(&tap, now);
        }
    }

    fn read_port(&mut self, object: &objects::Port, now: Instant) {
        let tap = object.id.tap_name();
        if !self.taps.contains_key(&tap) {
            return;
        }
        match Binding::on(&self.settings.host, object) {
            Err(error) => {
                self.mark(&tap, &error.to_string());
                self.retry.tap_failed(&tap, now);
            }
            Ok(Binding::Refused) => {
                self.disown(&tap, BINDING_REFUSED);
                self.retry.tap_failed(&tap, now);
            }
            Ok(Binding::Elsewhere) => {
                self.disown(&tap, NO_ACTIVE_BINDING);
                self.retry.tap_failed(&tap, now);
            }
            Ok(Binding::Here(port)) => {
                self.revisions.insert(object.id, object.revision_number);
                let network = port.network;
                self.put(&tap, object.id, *port);
                let groups = object.security_group_ids.iter().copied().collect();
                // What is being asked may be answered with those that it had before.
                let may_revert =
                    self.cloud.groups.assign(object.id, groups) && self.due.asked.contains(&Kind::Security);
                if may_revert || self.cloud.unknown_groups().any(|unknown| unknown == object.id) {
                    self.due.security.insert(tap.clone());
                }
                if !self.cloud.networks.get(&network).is_some_and(|network| network.is_known) {
                    self.due.networks.insert(network);
                }
                match (object.admin_state_up, object.status == ACTIVE) {
                    (true, true) if self.take_awaited(&tap) => _ = self.due.details.insert(tap),
                    (true, false) => {
                        self.take_awaited(&tap);
                        self.due.ups.insert(object.id);
                    }
                    (false, true) => _ = self.due.downs.insert(object.id),
                    _ => (),
                }
            }
        }
    }

    fn read_networks(&mut self, asked: &[NetworkId], objects: Entries<Resource>) {
        self.not_understood(&objects.bad);
        for object in objects.good {
            if let Resource::Network(object) = object
                && let Some(network) = self.cloud.networks.get_mut(&object.id)
            {
                network.name = Some(object.name).filter(|name| !name.is_empty());
                network.mtu = object.mtu.and_then(|mtu| u16::try_from(mtu).ok());
                network.qos_policy = object.qos_policy_id;
            }
        }
        for id in asked {
            // Without a word from the server, the underlay says what fits.
            if let Some(network) = self.cloud.networks.get_mut(id) {
                network.is_known = true;
            }
        }
        self.is_dirty = true;
    }

    fn secured(&mut self, taps: &[String], info: &SecurityGroupInfo, now: Instant) {
        let bad = self.cloud.groups.learn(info, |port| self.taps.contains_key(&port.tap_name()));
        self.not_understood(&bad);
        let heirs = self.cloud.groups.leave_out(taps, info);
        self.ask_about_groups(&heirs);
        self.is_dirty = true;
        self.identified(taps, info, now);
    }

    pub(super) fn not_understood(&mut self, bad: &[BadEntry]) {
        self.news.extend(bad.iter().map(|bad| News::NotUnderstood { what: bad.to_string() }));
    }
}
