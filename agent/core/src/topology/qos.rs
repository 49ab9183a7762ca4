//! QoS policies of a topology file.

use std::{num::NonZeroU32, str::FromStr};

use uuid::Uuid;

use super::{QosPolicy, table::Table};
use crate::{
    model::QosPolicyId,
    qos::{Qos, RateLimit},
    security::Direction,
};

pub(super) const QOS_POLICY: &[&str] = &["id", "name", "description", "rules"];
const RULE: &[&str] = &["id", "type", "max_kbps", "max_burst_kbps", "direction", "dscp_mark"];

/// What the kernel and the programs have room for.
const KBPS_MAX: u32 = i32::MAX as u32;
const DSCP_MAX: u32 = 63;

pub(super) fn qos_policy(table: Table) -> Option<QosPolicy> {
    let id = table.required::<Uuid>("id").map(QosPolicyId);
    let name = table.optional("name");
    table.optional::<String>("description");
    let mut qos = Qos::default();
    for rule in table.tables("rules", "QoS rule", RULE) {
        add(rule, &mut qos);
    }
    let id = id?;
    Some(QosPolicy { line: table.line(), id, name: name.unwrap_or_else(|| id.to_string()), qos })
}

/// Adds what a rule says to its policy.
fn add(rule: Table, qos: &mut Qos) -> Option<()> {
    rule.optional::<Uuid>("id");
    let kind = rule.required("type")?;
    let (own, others) = match kind {
        RuleType::BandwidthLimit => (&RULE[2..5], &RULE[5..]),
        RuleType::DscpMarking => (&RULE[5..], &RULE[2..5]),
    };
    for key in others.iter().filter(|key| rule.has(key)) {
        rule.problem(key, format_args!("a rule of this type has no {key}; it has {}", own.join(", ")));
    }
    let is_new = match kind {
        RuleType::BandwidthLimit => {
            rule.require("max_kbps");
            let kbps = rule.integer("max_kbps", 1, KBPS_MAX).and_then(NonZeroU32::new);
            let burst_kbit = if rule.has("max_burst_kbps") { rule.integer("max_burst_kbps", 0, KBPS_MAX)? } else { 0 };
            // As in Neutron, what the machine sends unless it says otherwise.
            let direction = if rule.has("direction") { rule.optional("direction")? } else { Direction::Egress };
            let place = match direction {
                Direction::Egress => &mut qos.egress,
                Direction::Ingress => &mut qos.ingress,
            };
            place.replace(RateLimit { kbps: kbps?, burst_kbit }).is_none()
        }
        RuleType::DscpMarking => {
            rule.require("dscp_mark");
            let dscp = rule.integer("dscp_mark", 0, DSCP_MAX).and_then(|dscp| u8::try_from(dscp).ok())?;
            qos.dscp.replace(dscp).is_none()
        }
    };
    if !is_new {
        rule.problem("type", "the policy has a rule of this type, and for this direction, already");
    }
    Some(())
}

/// Neutron's name for what a rule is about.
#[derive(Clone, Copy)]
enum RuleType {
    BandwidthLimit,
    DscpMarking,
}

impl FromStr for RuleType {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "bandwidth_limit" => Ok(Self::BandwidthLimit),
            "dscp_marking" => Ok(Self::DscpMarking),
            _ => Err("expected bandwidth_limit or dscp_marking"),
        }
    }
}
