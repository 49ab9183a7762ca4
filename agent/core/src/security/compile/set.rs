//! Sets of remote addresses.

use std::collections::BTreeMap;

use ipnet::IpNet;
use overlane_abi as abi;

use super::fingerprint;
use crate::{
    model::{AddressGroupId, SecurityGroupId},
    security::{Ethertype, Groups},
};

/// What a set holds. Sets of groups are shared by all policies: a member that joins is one map entry, however many ports
/// refer to the group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetName {
    /// The members of a security group.
    Group(SecurityGroupId, Ethertype),
    /// The addresses of an address group.
    AddressGroup(AddressGroupId, Ethertype),
    /// What several rules of a policy name.
    Union(Box<Union>),
}

/// Prefixes and groups that rules with equal consequences name, each with its rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Union {
    /// The family of all of them.
    pub ethertype: Ethertype,
    /// Groups, when there are more than an entry of the `rules` map has room for.
    pub groups: BTreeMap<SetName, u16>,
    /// Prefixes.
    pub prefixes: BTreeMap<IpNet, u16>,
}

/// Addresses in a set, and the index of the rule that names them if the set belongs to one policy.
pub type Member = (IpNet, u16);

impl SetName {
    /// The family of its addresses.
    pub const fn ethertype(&self) -> Ethertype {
        match self {
            Self::Group(_, ethertype) | Self::AddressGroup(_, ethertype) => *ethertype,
            Self::Union(union) => union.ethertype,
        }
    }

    /// What tells it from every other set, over restarts of the agent.
    pub fn mark(&self) -> abi::SetName {
        let (owner, kind) = match self {
            Self::Group(id, _) => (*id.0.as_bytes(), abi::SetName::SECURITY_GROUP),
            Self::AddressGroup(id, _) => (*id.0.as_bytes(), abi::SetName::ADDRESS_GROUP),
            Self::Union(union) => (fingerprint(union), abi::SetName::PREFIXES),
        };
        let family = match self.ethertype() {
            Ethertype::IPv4 => 4,
            Ethertype::IPv6 => 6,
        };
        abi::SetName { owner, kind, family, pad: [0; 6] }
    }

    /// Everything in it.
    pub fn members(&self, groups: &Groups) -> BTreeMap<IpNet, u16> {
        let of_family = |net: &&IpNet| Ethertype::of(net) == self.ethertype();
        match self {
            Self::Group(id, _) => {
                let members = groups.security.get(id).into_iter().flat_map(|group| &group.members);
                members.filter(of_family).map(|net| (*net, 0)).collect()
            }
            Self::AddressGroup(id, _) => {
                groups.address.get(id).into_iter().flatten().filter(of_family).map(|net| (*net, 0)).collect()
            }
            Self::Union(union) => {
                let mut members = union.prefixes.clone();
                for (set, rule) in &union.groups {
                    for net in set.members(groups).into_keys() {
                        members.entry(net).or_insert(*rule);
                    }
                }
                members
            }
        }
    }
}
