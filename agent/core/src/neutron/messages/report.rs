//! What the agent tells of itself, so that the server binds ports to this host and shows it as alive.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::Call;

/// The binary that the server and operators know.
pub const BINARY: &str = "neutron-linuxbridge-agent";
/// The kind of agent that the server's mechanism driver binds ports to.
pub const AGENT_TYPE: &str = "Linux bridge agent";

const REPORTS_TOPIC: &str = "q-reports-plugin";

/// One report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportState {
    /// The agent.
    pub agent_state: AgentStateArgument,
    /// When it is sent, by this host's clock ([`crate::neutron::time::timestamp`]). The server ignores what is older than itself.
    pub time: String,
}

/// The server wants the state inside an object of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStateArgument {
    /// The agent.
    pub agent_state: AgentState,
}

/// The agent, as the server's table of agents has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentState {
    /// [`BINARY`].
    pub binary: String,
    /// This host's name, as in the binding of its ports.
    pub host: String,
    /// Means nothing: `N/A`.
    pub topic: String,
    /// What ports can be bound to.
    pub configurations: Configurations,
    /// [`AGENT_TYPE`].
    pub agent_type: String,
    /// Versions of the objects that the agent understands, by kind: the server pushes no others. Until the first report that
    /// succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_versions: Option<BTreeMap<String, String>>,
    /// Until the first report that succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_flag: Option<bool>,
    /// A new one for each report.
    pub uuid: Uuid,
}

/// What the mechanism drivers of the server read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configurations {
    /// Such as `qos`.
    pub extensions: Vec<String>,
    /// Bridges that carry physical networks, by label.
    pub bridge_mappings: BTreeMap<String, String>,
    /// NICs that carry physical networks, by label.
    pub interface_mappings: BTreeMap<String, String>,
    /// This host's tunnel endpoint, if there are to be tunnels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunneling_ip: Option<IpAddr>,
    /// `vxlan`, if there are to be tunnels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel_types: Option<Vec<String>>,
    /// Whether the agent takes in what l2population tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l2_population: Option<bool>,
    /// Taps on this host.
    pub devices: usize,
}

/// What the server makes of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportOutcome {
    /// It has not known the agent.
    New,
    /// It has known the agent as alive.
    Alive,
    /// It had given the agent up: all that it has told since may be lost.
    Revived,
    /// It has ignored the report as one from before its own start: this host's clock is behind the server's.
    Ignored,
    /// Something that this agent does not know.
    Other(String),
}

impl ReportState {
    /// A report.
    pub const fn new(agent_state: AgentState, time: String) -> Self {
        Self { agent_state: AgentStateArgument { agent_state }, time }
    }
}

impl Call for ReportState {
    const TOPIC: &str = REPORTS_TOPIC;
    const METHOD: &str = "report_state";
    const VERSION: &str = "1.2";
    type Reply = ReportOutcome;
}

impl<'de> Deserialize<'de> for ReportOutcome {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Option::<String>::deserialize(deserializer)?.as_deref() {
            None => Self::Ignored,
            Some("new") => Self::New,
            Some("alive") => Self::Alive,
            Some("revived") => Self::Revived,
            Some(other) => Self::Other(other.to_owned()),
        })
    }
}

impl Serialize for ReportOutcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::New => "new",
            Self::Alive => "alive",
            Self::Revived => "revived",
            Self::Other(other) => other,
            Self::Ignored => return serializer.serialize_none(),
        }
        .serialize(serializer)
    }
}

/// Asks whether a server is there at all, which costs it nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HasAliveServer {}

impl Call for HasAliveServer {
    const TOPIC: &str = REPORTS_TOPIC;
    const METHOD: &str = "has_alive_neutron_server";
    const VERSION: &str = "1.2";
    type Reply = bool;
}
