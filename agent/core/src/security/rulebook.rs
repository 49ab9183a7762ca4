//! Everything that security groups come to on one host: compiled once when the control plane says something new, read by every
//! plan.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{
    Groups,
    compile::{self, Policy, SetName, TooManyRules},
};
use crate::model::SecurityGroupId;

/// Compiled rules and the sets that they refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rulebook {
    /// The groups, for people.
    pub groups: Groups,
    /// What the groups of a port come to.
    pub policies: BTreeMap<BTreeSet<SecurityGroupId>, Result<Policy, TooManyRules>>,
    /// The addresses of each set that a policy refers to, with the rule that names them where the set is one policy's own.
    pub sets: BTreeMap<SetName, BTreeMap<IpNet, u16>>,
}

impl Rulebook {
    /// Compiles the rules of ports that have these groups.
    pub fn new(groups: Groups, of_ports: impl IntoIterator<Item = BTreeSet<SecurityGroupId>>) -> Self {
        let of_ports: BTreeSet<BTreeSet<SecurityGroupId>> = of_ports.into_iter().collect();
        let policies: BTreeMap<_, _> = of_ports
            .into_iter()
            .map(|ids| {
                let policy = compile::policy(&ids, &groups);
                (ids, policy)
            })
            .collect();
        let names: BTreeSet<&SetName> = policies.values().flatten().flat_map(Policy::sets).collect();
        let sets = names.into_iter().map(|name| (name.clone(), name.members(&groups))).collect();
        Self { groups, policies, sets }
    }
}
