//! QoS policies, as far as ports of this host have them.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

use uuid::Uuid;

use super::messages::objects::{BandwidthLimit, QosPolicy, QosRule};
use crate::qos::{Qos, RateLimit};

/// A server that fails on a policy as often as this, one time after the other (with the pauses between them, about 15 s), will go on
/// to do so.
const REFUSALS_MAX: u32 = 6;

/// What the server has said about policies. One that it does not know asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    known: BTreeMap<Uuid, Qos>,
    /// Those that could not be read when they were last asked for.
    untold: BTreeMap<Uuid, Untold>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Untold {
    /// How often the server has answered that it cannot.
    refusals: u32,
    /// What is to be said about ports that have the policy.
    trouble: String,
    /// Whether they do without it.
    is_given_up: bool,
}

impl Policies {
    /// What a policy comes to; `None` while that is not known. A policy that the server cannot tell asks for nothing.
    pub fn qos(&self, policy: Uuid) -> Option<Qos> {
        let given_up = || self.untold.get(&policy).filter(|untold| untold.is_given_up).map(|_| Qos::default());
        self.known.get(&policy).copied().or_else(given_up)
    }

    /// Forgets policies that no port has.
    pub fn keep(&mut self, used: &BTreeSet<Uuid>) {
        self.known.retain(|policy, _| used.contains(policy));
        self.untold.retain(|policy, _| used.contains(policy));
    }

    /// Whether a policy has been told.
    pub fn has(&self, policy: Uuid) -> bool {
        self.known.contains_key(&policy)
    }

    /// Every policy that is known, or has been asked for in vain.
    pub fn all(&self) -> BTreeSet<Uuid> {
        self.known.keys().chain(self.untold.keys()).copied().collect()
    }

    /// What an operator should know of a policy that cannot be read.
    pub fn trouble(&self, policy: Uuid) -> Option<&str> {
        self.untold.get(&policy).map(|untold| untold.trouble.as_str())
    }

    /// Takes in that a policy could not be read, and whether the server has answered so. What is known of it stays in force.
    /// Returns whether ports do without it from now on, until the server tells it.
    pub fn failed(&mut self, policy: Uuid, reason: &str, refusal: Refusal) -> bool {
        let before = self.untold.get(&policy);
        let was_given_up = before.is_some_and(|untold| untold.is_given_up);
        let refusals = match refusal {
            Refusal::None => 0,
            Refusal::Once => before.map_or(0, |untold| untold.refusals) + 1,
            Refusal::ForGood => REFUSALS_MAX,
        };
        let is_known = self.known.contains_key(&policy);
        let is_given_up = !is_known && (was_given_up || refusals >= REFUSALS_MAX);
        let state = match (is_known, is_given_up) {
            (true, _) => "stays as it was when the server last told it",
            (_, true) => "cannot be told by the server: the port works without its limits and marks",
            (_, false) => "is not known yet: the port stays as it was, a new one closed",
        };
        let trouble = format!("its QoS policy {policy} {state}; {reason}");
        self.untold.insert(policy, Untold { refusals, trouble, is_given_up });
        is_given_up && !was_given_up
    }

    /// Takes in what the server says about a policy, and returns what of it is not carried out.
    pub fn learn(&mut self, id: Uuid, policy: Option<&QosPolicy>) -> Vec<String> {
        let mut qos = Qos::default();
        let mut left_out = Vec::new();
        for rule in policy.into_iter().flat_map(|policy| &policy.rules) {
            match rule {
                QosRule::BandwidthLimit(limit) => match (rate_limit(limit), limit.direction.as_str()) {
                    (Some(rate), "egress") => qos.egress = Some(rate),
                    (Some(rate), "ingress") => qos.ingress = Some(rate),
                    _ => left_out.push(format!(
                        "QoS policy {id}: a limit of {} kbit/s in direction {:?}",
                        limit.max_kbps, limit.direction
                    )),
                },
                QosRule::DscpMarking { dscp_mark } => qos.dscp = Some(*dscp_mark),
                QosRule::Other { kind } => left_out.push(format!("QoS policy {id}: a {kind} is not carried out")),
            }
        }
        self.untold.remove(&id);
        self.known.insert(id, qos);
        left_out
    }
}

/// What the server has answered to the question for a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing: it is busy, or gone.
    None,
    /// It has failed; the next time may be different.
    Once,
    /// It has no QoS policies.
    ForGood,
}

fn rate_limit(limit: &BandwidthLimit) -> Option<RateLimit> {
    let kbps = NonZeroU32::new(u32::try_from(limit.max_kbps).ok()?)?;
    Some(RateLimit { kbps, burst_kbit: u32::try_from(limit.max_burst_kbps).unwrap_or(u32::MAX) })
}
