//! QoS policies, as far as ports of this host have them.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

use uuid::Uuid;

use super::messages::objects::{BandwidthLimit, QosPolicy, QosRule};
use crate::qos::{Qos, RateLimit};

/// What the server has said about policies. One that it does not know asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies(BTreeMap<Uuid, Qos>);

impl Policies {
    /// What a policy comes to; nothing while it is not known.
    pub fn qos(&self, policy: Uuid) -> Qos {
        self.0.get(&policy).copied().unwrap_or_default()
    }

    /// Forgets policies that no port has, and returns those that are not known.
    pub fn keep(&mut self, used: &BTreeSet<Uuid>) -> BTreeSet<Uuid> {
        self.0.retain(|policy, _| used.contains(policy));
        used.iter().filter(|policy| !self.0.contains_key(policy)).copied().collect()
    }

    /// Whether any port has a policy.
    pub fn has(&self, policy: Uuid) -> bool {
        self.0.contains_key(&policy)
    }

    /// Every policy that is known.
    pub fn all(&self) -> BTreeSet<Uuid> {
        self.0.keys().copied().collect()
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
        self.0.insert(id, qos);
        left_out
    }
}

fn rate_limit(limit: &BandwidthLimit) -> Option<RateLimit> {
    let kbps = NonZeroU32::new(u32::try_from(limit.max_kbps).ok()?)?;
    Some(RateLimit { kbps, burst_kbit: u32::try_from(limit.max_burst_kbps).unwrap_or(u32::MAX) })
}
