//! The log of flows and drops that security groups ask for (`log = "all"` and the like), a line each.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use overlane_abi::{Direction, DropReason, FlowEvent, RULE_FIXED};
use overlane_core::{
    desired::Desired,
    model::PortId,
    observed::Observed,
    security::{Log, Protocol, Rulebook},
};

use crate::datapath::Events;

/// A task that writes the log; ends when dropped.
pub(crate) struct FlowLog {
    names: Arc<Mutex<Names>>,
    task: tokio::task::JoinHandle<()>,
}

/// What the numbers in events stand for.
#[derive(Default)]
struct Names {
    ports: BTreeMap<u32, PortId>,
    policies: BTreeMap<u32, [u8; 16]>,
    rulebook: Arc<Rulebook>,
}

impl Drop for FlowLog {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FlowLog {
    /// Starts writing.
    pub(crate) fn start(mut events: Events) -> Self {
        let names = Arc::new(Mutex::new(Names::default()));
        let of_task = Arc::clone(&names);
        let task = tokio::spawn(async move {
            loop {
                match events.next().await {
                    Ok(events) => {
                        let names = of_task.lock().unwrap_or_else(PoisonError::into_inner);
                        events.iter().for_each(|event| names.write(event));
                    }
                    Err(error) => {
                        tracing::warn!(error = %error, "no log of flows any more");
                        return;
                    }
                }
            }
        });
        Self { names, task }
    }

    /// Learns what the numbers stand for from now on.
    pub(crate) fn learn(&self, desired: &Desired, observed: &Observed) {
        let Some(datapath) = &observed.datapath else { return };
        if desired.rulebook.groups.security.values().all(|group| group.log == Log::Off) {
            return;
        }
        let ports = desired.networks.values().flat_map(|network| network.local_ports.keys());
        let by_tap: BTreeMap<String, PortId> = ports.map(|port| (port.tap_name(), *port)).collect();
        let links = datapath.ports.keys().filter_map(|ifindex| observed.kernel.links.get(ifindex));
        let ports = links.filter_map(|link| Some((link.ifindex, *by_tap.get(&link.name)?))).collect();
        let policies = datapath.security.policies.iter().map(|(number, name)| (*number, name.content)).collect();
        let rulebook = Arc::clone(&desired.rulebook);
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = Names { ports, policies, rulebook };
    }
}

impl Names {
    fn write(&self, event: &FlowEvent) {
        let port_id = self.ports.get(&event.ifindex).map(tracing::field::display);
        let direction = if event.direction == Direction::Egress as u8 { "egress" } else { "ingress" };
        let protocol = Protocol::new(event.protocol).map(tracing::field::display);
        let (source, destination) = (IpAddr::from(event.source), IpAddr::from(event.destination));
        let (source_port, service, suppressed) = (event.source_port, event.service, event.suppressed);
        if event.reason == FlowEvent::ADMITTED {
            let rule = self.rule(event);
            tracing::info!(
                port_id, direction, protocol, %source, source_port, %destination, service, rule, suppressed, "flow admitted"
            );
        } else {
            let reason = DropReason::ALL.into_iter().find(|reason| *reason as u32 == u32::from(event.reason));
            let reason = reason.map(DropReason::name);
            tracing::info!(
                port_id, direction, protocol, %source, source_port, %destination, service, reason, suppressed, "packet dropped"
            );
        }
    }

    fn rule(&self, event: &FlowEvent) -> String {
        if event.rule == RULE_FIXED {
            return "always allowed".to_owned();
        }
        let content = self.policies.get(&event.policy);
        let mut policies = self.rulebook.policies.values().flatten();
        let policy = policies.find(|policy| Some(&policy.fingerprint()) == content);
        match policy.and_then(|policy| policy.rules.get(usize::from(event.rule))) {
            Some(rule) => {
                let group = self.rulebook.groups.security.get(&rule.group).map_or("", |group| group.name.as_str());
                format!("{group}: {}", rule.rule)
            }
            None => format!("{} of policy {}", event.rule, event.policy),
        }
    }
}
