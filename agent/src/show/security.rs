//! `show rules` and `show flows`.

use std::net::IpAddr;

use overlane_abi::RULE_FIXED;
use overlane_core::{
    model::{PortId, SecurityGroupId},
    security::{
        Protocol,
        compile::{Policy, PolicyRule},
    },
};
use serde::Serialize;

use super::{Selection, View, table::Row};
use crate::datapath::{Flow, RuleHits, Side};

/// A rule of the ports of this host. Ports with the same groups share rules and counters.
#[derive(Serialize)]
pub(super) struct RuleRow {
    security_group_id: SecurityGroupId,
    security_group: String,
    rule: String,
    stateful: bool,
    /// Number of the policy in the maps, and of the rule in the policy.
    policy: u32,
    rule_index: u32,
    /// The ports that it holds for.
    ports: Vec<PortId>,
    /// Flows that it has admitted, by their first packets; packets, for a stateless one.
    packets: u64,
    bytes: u64,
}

impl Row for RuleRow {
    const TITLES: &'static [&'static str] = &["GROUP", "RULE", "STATE", "PORTS", "ADMITTED", "BYTES"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.security_group.clone(),
            self.rule.clone(),
            if self.stateful { "stateful" } else { "stateless" }.to_owned(),
            self.ports.len().to_string(),
            self.packets.to_string(),
            self.bytes.to_string(),
        ]
    }
}

pub(super) fn rules(view: &View, selection: &Selection, hits: &RuleHits) -> Vec<RuleRow> {
    let rulebook = &view.desired.rulebook;
    let mut rows = Vec::new();
    for (groups, policy) in &rulebook.policies {
        let Ok(policy) = policy else { continue };
        let number = view.policy_number(policy).unwrap_or_default();
        let ports: Vec<PortId> = view
            .ports()
            .filter(|(_, port)| port.security.filter().is_some_and(|filter| filter.groups.as_ref() == Some(groups)))
            .map(|(id, _)| id)
            .collect();
        if !ports.iter().any(|port| selection.selects_port(*port)) {
            continue;
        }
        rows.extend((0..).zip(&policy.rules).map(|(index, rule)| {
            let (packets, bytes) = hits.get(&(number, index)).copied().unwrap_or_default();
            RuleRow {
                security_group_id: rule.group,
                security_group: group_name(view, rule),
                rule: rule.rule.to_string(),
                stateful: rule.is_stateful,
                policy: number,
                rule_index: index,
                ports: ports.clone(),
                packets,
                bytes,
            }
        }));
    }
    rows
}

fn group_name(view: &View, rule: &PolicyRule) -> String {
    let group = view.desired.rulebook.groups.security.get(&rule.group);
    group.map_or_else(|| rule.group.to_string(), |group| group.name.clone())
}

/// A flow that the programs remember.
#[derive(Serialize)]
pub(super) struct FlowRow {
    network: String,
    protocol: String,
    source: IpAddr,
    source_port: u16,
    destination: IpAddr,
    destination_port: u16,
    state: &'static str,
    answered: bool,
    age_secs: u64,
    remaining_secs: u64,
    /// The port of this host that sent its first packet, and the rule that let it.
    from_port: Option<PortId>,
    from_rule: Option<String>,
    /// The port of this host that it was let into, and by which rule.
    to_port: Option<PortId>,
    to_rule: Option<String>,
}

impl Row for FlowRow {
    const TITLES: &'static [&'static str] =
        &["NETWORK", "PROTOCOL", "FROM", "TO", "STATE", "AGE", "LEFT", "SENT BY RULE", "LET IN BY RULE"];

    fn cells(&self) -> Vec<String> {
        let side = |address: IpAddr, port: u16| match (address, port) {
            (address, 0) => address.to_string(),
            (IpAddr::V4(address), port) => format!("{address}:{port}"),
            (IpAddr::V6(address), port) => format!("[{address}]:{port}"),
        };
        vec![
            self.network.clone(),
            self.protocol.clone(),
            side(self.source, self.source_port),
            side(self.destination, self.destination_port),
            if self.answered { self.state.to_owned() } else { format!("{} (no answer)", self.state) },
            format!("{} s", self.age_secs),
            format!("{} s", self.remaining_secs),
            self.from_rule.clone().unwrap_or_default(),
            self.to_rule.clone().unwrap_or_default(),
        ]
    }
}

pub(super) fn flows(view: &View, selection: &Selection, flows: &[Flow]) -> Vec<FlowRow> {
    let selected = flows.iter().filter(|flow| {
        let sides = [&flow.from, &flow.to];
        let has_address = |address: &IpAddr| sides.iter().any(|side| side.address == *address);
        let at_port = |side: &&Side| selection.selects_tap(&view.interface(side.end.ifindex));
        selection.address.as_ref().is_none_or(has_address) && (selection.port.is_none() || sides.iter().any(at_port))
    });
    selected.map(|flow| row(view, flow)).collect()
}

fn row(view: &View, flow: &Flow) -> FlowRow {
    FlowRow {
        network: view.network_name(flow.network),
        protocol: Protocol::new(flow.protocol).map_or_else(|| "0".to_owned(), |protocol| protocol.to_string()),
        source: flow.from.address,
        source_port: flow.from.port,
        destination: flow.to.address,
        destination_port: flow.to.port,
        state: flow.state.name(),
        answered: flow.is_answered,
        age_secs: flow.age.as_secs(),
        remaining_secs: flow.remaining.as_secs(),
        from_port: view.port_at(flow.from.end.ifindex),
        from_rule: rule(view, &flow.from),
        to_port: view.port_at(flow.to.end.ifindex),
        to_rule: rule(view, &flow.to),
    }
}

/// Why a side of a flow was admitted; `None` where no port of this host has admitted it.
fn rule(view: &View, side: &Side) -> Option<String> {
    if side.end.ifindex == 0 {
        return None;
    }
    if side.end.rule == RULE_FIXED {
        return Some("always allowed".to_owned());
    }
    let policy: Option<&Policy> = view.policy(side.end.policy);
    let rule = policy.and_then(|policy| policy.rules.get(usize::from(side.end.rule)));
    // A flow keeps the number of the rule that let it in, also when the rules have changed for the better since.
    let described = rule.map(|rule| format!("{}: {}", group_name(view, rule), rule.rule));
    Some(described.unwrap_or_else(|| format!("rule {} of an earlier policy {}", side.end.rule, side.end.policy)))
}
