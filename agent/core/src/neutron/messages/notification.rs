//! What the server tells its agents unasked. All of them are hints: they may be repeated, out of order, or lost.

use serde::Deserialize;
use serde_json::Value;

use super::{
    AllowedAddressPair, Entries, MessageError,
    fdb::{FdbEntries, FdbUpdate},
    parse,
    ports::ApiNetwork,
    resources::Push,
};
use crate::{
    model::{NetworkId, PortId, SecurityGroupId},
    neutron::envelope::Request,
};

/// The major version of every endpoint that this agent has.
const MAJOR_VERSION: &str = "1";

/// The topics of the notifications below, without those of pushed objects and of l2population.
pub const TOPICS: [&str; 6] = [
    "q-agent-notifier-port-update",
    "q-agent-notifier-network-update",
    "q-agent-notifier-network-delete",
    "q-agent-notifier-security_group-update",
    "q-agent-notifier-binding-activate",
    "q-agent-notifier-binding-deactivate",
];
/// l2population's topic. It alone has messages for one host, too.
pub const L2POPULATION_TOPIC: &str = "q-agent-notifier-l2population-update";

/// A notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notification {
    /// Something about a port has changed.
    PortUpdate(PortChanged),
    /// Something about a network has changed.
    NetworkUpdate(ApiNetwork),
    /// A network is gone.
    NetworkDelete(NetworkId),
    /// A port is active on a host from now on.
    BindingActivate(BindingChanged),
    /// A port is not active on a host any more.
    BindingDeactivate(BindingChanged),
    /// Rules of these groups have changed.
    SecurityGroupsRuleUpdated(Entries<SecurityGroupId>),
    /// Members of these groups have changed.
    SecurityGroupsMemberUpdated(Entries<SecurityGroupId>),
    /// Members of networks have come.
    AddFdb(FdbMessage),
    /// Members of networks have gone.
    RemoveFdb(FdbMessage),
    /// Members of networks have other addresses.
    UpdateFdb(FdbUpdate),
    /// Objects have changed, or are gone.
    Push(Push),
}

/// Which port it is about. What else the message says may be older than what the server would answer now.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PortChanged {
    /// The port.
    pub id: PortId,
    /// Its network.
    pub network_id: Option<NetworkId>,
    /// The host that it is bound to.
    #[serde(rename = "binding:host_id")]
    pub host: Option<String>,
    /// Grows with every change.
    pub revision_number: Option<u64>,
    /// Its security groups.
    #[serde(default)]
    pub security_groups: Entries<SecurityGroupId>,
    /// What else it may send as.
    #[serde(default)]
    pub allowed_address_pairs: Entries<AllowedAddressPair>,
}

/// Which port and host it is about.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BindingChanged {
    /// The port.
    pub port_id: PortId,
    /// The host.
    pub host: String,
    /// Its network, when a binding ends.
    pub network_id: Option<NetworkId>,
}

/// Entries, and the only host that they are for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FdbMessage {
    /// The entries.
    pub fdb_entries: FdbEntries,
    /// A host; `None` for all.
    pub host: Option<String>,
}

/// A notification that is not taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotificationError {
    /// The server is much newer or older.
    #[error("{method} has version {version}, this agent understands 1.x")]
    UnsupportedVersion {
        /// The method.
        method: String,
        /// Its version.
        version: String,
    },
    /// Nothing that this agent knows.
    #[error("{method} is unknown to this agent")]
    UnknownMethod {
        /// The method.
        method: String,
    },
    /// Its arguments are not understood.
    #[error("{method} is not understood")]
    Malformed {
        /// The method.
        method: String,
        /// Where and why.
        #[source]
        error: MessageError,
    },
}

impl Notification {
    /// Reads a cast.
    ///
    /// # Errors
    /// [`NotificationError`]: why it is of no use.
    pub fn parse(request: Request) -> Result<Self, NotificationError> {
        let Request { method, version, args, .. } = request;
        if version.split('.').next() != Some(MAJOR_VERSION) {
            return Err(NotificationError::UnsupportedVersion { method, version });
        }
        let args = Value::Object(args);
        let parsed = match method.as_str() {
            "port_update" => parse(args).map(|PortUpdateArguments { port }| Self::PortUpdate(port)),
            "network_update" => parse(args).map(|NetworkArguments { network }| Self::NetworkUpdate(network)),
            "network_delete" => parse(args).map(|NetworkIdArguments { network_id }| Self::NetworkDelete(network_id)),
            "binding_activate" => parse(args).map(Self::BindingActivate),
            "binding_deactivate" => parse(args).map(Self::BindingDeactivate),
            "security_groups_rule_updated" => {
                parse(args).map(|GroupArguments { security_groups }| Self::SecurityGroupsRuleUpdated(security_groups))
            }
            "security_groups_member_updated" => {
                parse(args).map(|GroupArguments { security_groups }| Self::SecurityGroupsMemberUpdated(security_groups))
            }
            "add_fdb_entries" => parse(args).map(Self::AddFdb),
            "remove_fdb_entries" => parse(args).map(Self::RemoveFdb),
            "update_fdb_entries" => parse(args).map(|FdbUpdateArguments { fdb_entries }| Self::UpdateFdb(fdb_entries)),
            "push" => parse(args).map(Self::Push),
            _ => return Err(NotificationError::UnknownMethod { method }),
        };
        parsed.map_err(|error| NotificationError::Malformed { method, error })
    }
}

#[derive(Deserialize)]
struct PortUpdateArguments {
    port: PortChanged,
}

#[derive(Deserialize)]
struct NetworkArguments {
    network: ApiNetwork,
}

#[derive(Deserialize)]
struct NetworkIdArguments {
    network_id: NetworkId,
}

#[derive(Deserialize)]
struct GroupArguments {
    security_groups: Entries<SecurityGroupId>,
}

#[derive(Deserialize)]
struct FdbUpdateArguments {
    fdb_entries: FdbUpdate,
}
