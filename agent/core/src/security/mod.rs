//! Port security and security groups: what a port may send and receive, as Neutron has it (`docs/security.md`).
//!
//! [`Rule`] and its parts hold what an operator has written, in types that cannot contradict themselves. [`model`] is the
//! reference: it decides about one packet in plain Rust, and the programs are tested against it. [`compile`] turns rules into
//! what the maps hold.

pub mod compile;
pub mod model;
mod port;
mod protocol;
mod rule;
mod rulebook;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use ipnet::IpNet;

use crate::model::{AddressGroupId, SecurityGroupId};

pub use port::{Filter, PortSecurity, Source, sources};
pub use protocol::{Protocol, UnknownProtocol};
pub use rule::{Direction, Ethertype, Expected, PortRange, Remote, Rule, Traffic};
pub use rulebook::Rulebook;

/// A security group as this host sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityGroup {
    /// What people call it.
    pub name: String,
    /// Whether its rules admit flows, answers included, rather than single packets.
    pub is_stateful: bool,
    /// Its rules. Of a group that no port of this host has, only the members matter, and there are none here.
    pub rules: BTreeSet<Rule>,
    /// Fixed IPs and allowed address pairs of every port that has the group, on whatever host.
    pub members: BTreeSet<IpNet>,
    /// Which of its ports' flows are logged.
    pub log: Log,
}

/// Which flows of a group's ports are logged, as in Neutron's logging API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Log {
    /// None.
    #[default]
    Off,
    /// Those that begin by a rule of the group.
    Accept,
    /// Packets that no rule admits.
    Drop,
    /// Both.
    All,
}

/// The groups that ports of this host have, and the ones that their rules name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Groups {
    /// Security groups.
    pub security: BTreeMap<SecurityGroupId, SecurityGroup>,
    /// Address groups.
    pub address: BTreeMap<AddressGroupId, BTreeSet<IpNet>>,
}

impl Log {
    /// Whether flows that a rule of the group admits are logged.
    pub const fn accepted(self) -> bool {
        matches!(self, Self::Accept | Self::All)
    }

    /// Whether packets that no rule admits are logged.
    pub const fn dropped(self) -> bool {
        matches!(self, Self::Drop | Self::All)
    }
}
