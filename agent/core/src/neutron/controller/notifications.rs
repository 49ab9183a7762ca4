//! What follows from what the server tells unasked.

use std::{collections::BTreeSet, net::IpAddr, time::Instant};

use uuid::Uuid;

use super::{Controller, merge};
use crate::{
    model::{NetworkId, PortId},
    neutron::{
        members::{Changes, Members},
        messages::{
            fdb::{FdbEntries, FdbEntry, FdbUpdate},
            notification::{BindingChanged, FdbMessage, Notification, PortChanged},
            resources::{Push, Resource},
        },
    },
};

const MIGRATED: &str = "its port works on another host from now on";
const NETWORK_DELETED: &str = "its network has been deleted";

impl Controller {
    /// Takes in a notification; `is_directed` says whether it was for this host alone.
    pub fn notified(&mut self, notification: Notification, is_directed: bool, now: Instant) {
        match notification {
            Notification::PortUpdate(port) => {
                self.port_changed(port.id);
                self.pairs_told(&port);
            }
            Notification::NetworkUpdate(network) => {
                if self.cloud.networks.contains_key(&network.id) {
                    self.network_changed(network.id);
                }
            }
            Notification::NetworkDelete(network) => self.network_deleted(network),
            Notification::BindingActivate(binding) => {
                if let Some(tap) = self.own_tap(&binding) {
                    self.retry.tap_is_fresh(&tap);
                    self.ask_about(&tap);
                }
            }
            Notification::BindingDeactivate(binding) => {
                if let Some(tap) = self.own_tap(&binding) {
                    self.disown(&tap, MIGRATED);
                    self.retry.tap_failed(&tap, now);
                }
            }
            Notification::SecurityGroupsRuleUpdated(groups) => {
                let ports = self.cloud.groups.who_has(&groups.good.into_iter().collect());
                self.ask_about_groups(&ports);
            }
            Notification::SecurityGroupsMemberUpdated(groups) => {
                self.ask_about_members(&groups.good.into_iter().map(|group| group.0).collect());
            }
            Notification::AddFdb(message) => self.add_members(&message, is_directed, now),
            Notification::RemoveFdb(message) => self.remove_members(&message),
            Notification::UpdateFdb(update) => self.readdress_members(&update),
            Notification::Push(push) => self.pushed(push),
        }
    }

    /// The message may be older than what is known already: it only says that there is something to read.
    fn port_changed(&mut self, port: PortId) {
        let tap = port.tap_name();
        let Some(known) = self.taps.get(&tap) else { return };
        if known.port == Some(port) && self.can_pull {
            self.due.ports.insert(port);
        } else {
            self.retry.tap_is_fresh(&tap);
            self.ask_about(&tap);
        }
    }

    /// Allowed address pairs are members of their port's groups, on whatever host it is, but the server tells of no change of members
    /// when only they change (contract §2.4). Ports without pairs, in groups without pairs, cost no question; nor do groups that no
    /// rule here names.
    fn pairs_told(&mut self, port: &PortChanged) {
        let groups = &port.security_groups.good;
        let pairs = port.allowed_address_pairs.good.iter().map(|pair| pair.ip_address.trunc()).collect();
        let others = if port.allowed_address_pairs.bad.is_empty() {
            self.cloud.groups.with_other_pairs(groups, &pairs)
        } else {
            groups.iter().map(|group| group.0).collect()
        };
        self.ask_about_members(&others);
    }

    fn network_changed(&mut self, network: NetworkId) {
        if self.can_pull {
            self.due.networks.insert(network);
            return;
        }
        let ports = self.cloud.ports.iter().filter(|(_, port)| port.network == network);
        let taps: Vec<String> = ports.map(|(id, _)| id.tap_name()).collect();
        taps.iter().for_each(|tap| self.ask_about(tap));
    }

    fn network_deleted(&mut self, network: NetworkId) {
        let ports = self.cloud.ports.iter().filter(|(_, port)| port.network == network);
        let taps: Vec<String> = ports.map(|(id, _)| id.tap_name()).collect();
        taps.iter().for_each(|tap| self.disown(tap, NETWORK_DELETED));
        self.cloud.delete_network(network);
        self.is_dirty = true;
    }

    fn own_tap(&self, binding: &BindingChanged) -> Option<String> {
        let tap = binding.port_id.tap_name();
        (binding.host == self.settings.host && self.taps.contains_key(&tap)).then_some(tap)
    }

    /// Members of these security groups and address groups have changed.
    fn ask_about_members(&mut self, groups: &BTreeSet<Uuid>) {
        let ports = self.cloud.groups.who_names(groups);
        self.ask_about_groups(&ports);
    }

    pub(super) fn ask_about_groups(&mut self, ports: &BTreeSet<PortId>) {
        if self.settings.has_groups {
            self.due.security.extend(ports.iter().map(PortId::tap_name).filter(|tap| self.taps.contains_key(tap)));
        }
    }

    fn add_members(&mut self, message: &FdbMessage, is_directed: bool, now: Instant) {
        self.each_network(&message.fdb_entries, message.host.as_deref(), |members, vtep, entries, changes| {
            members.add(vtep, entries, changes);
        });
        let is_list = is_directed || message.host.as_deref() == Some(&*self.settings.host);
        for network in message.fdb_entries.good.keys().filter(|_| is_list) {
            if let Some(network) = self.cloud.networks.get_mut(network) {
                network.members.was_list(now);
            }
        }
    }

    fn remove_members(&mut self, message: &FdbMessage) {
        self.each_network(&message.fdb_entries, message.host.as_deref(), |members, vtep, entries, changes| {
            members.remove(vtep, entries, changes);
        });
    }

    fn each_network(
        &mut self,
        entries: &FdbEntries,
        host: Option<&str>,
        apply: impl Fn(&mut Members, IpAddr, &[FdbEntry], &mut Changes),
    ) {
        if !self.settings.l2_population || host.is_some_and(|host| host != self.settings.host) {
            return;
        }
        for (id, told) in &entries.good {
            // Who is in a network that no port of this host is in is asked once there is one.
            let Some(network) = self.cloud.networks.get_mut(id) else { continue };
            let mut changes = Changes::default();
            for (vtep, entries) in told.ports.good.iter().filter(|(vtep, _)| Some(**vtep) != self.settings.local_ip) {
                apply(&mut network.members, *vtep, &entries.good, &mut changes);
            }
            merge(self.entries.entry(*id).or_default(), changes);
        }
    }

    fn readdress_members(&mut self, update: &FdbUpdate) {
        if !self.settings.l2_population {
            return;
        }
        for (id, told) in &update.chg_ip.good {
            let Some(network) = self.cloud.networks.get_mut(id) else { continue };
            let mut changes = Changes::default();
            for (vtep, change) in told.good.iter().filter(|(vtep, _)| Some(**vtep) != self.settings.local_ip) {
                network.members.readdress(*vtep, change, &mut changes);
            }
            merge(self.entries.entry(*id).or_default(), changes);
        }
    }

    fn pushed(&mut self, push: Push) {
        self.trunks_changed(&push);
        let Push::Changed(objects) = push else { return };
        for object in objects.good {
            match object {
                // Its content may be older than what is known, and answers have no revision to tell.
                Resource::AddressGroup(group) => self.ask_about_members(&[group.id.0].into()),
                Resource::QosPolicy(policy) if self.cloud.policies.has(policy.id) => {
                    self.due.policies.insert(policy.id);
                }
                _ => (),
            }
        }
    }
}
