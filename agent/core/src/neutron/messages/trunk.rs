//! Trunks: telling the server which subports this host has taken.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Call, Entries, objects::SubPort, ports::ApiPort};

const TRUNK_TOPIC: &str = "trunk";

/// Binds subports to the host of their trunk's port. They are down until they are reported as up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateSubportBindings {
    /// The subports.
    pub subports: Vec<SubPort>,
}

impl Call for UpdateSubportBindings {
    const TOPIC: &str = TRUNK_TOPIC;
    const METHOD: &str = "update_subport_bindings";
    const VERSION: &str = "1.0";
    const NAMESPACE: Option<&str> = Some("trunk");
    /// The ports that were bound, by trunk.
    type Reply = BTreeMap<Uuid, Entries<ApiPort>>;
}

/// Says how a trunk is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateTrunkStatus {
    /// The trunk.
    pub trunk_id: Uuid,
    /// `ACTIVE`, `DEGRADED`, `ERROR`, `DOWN`.
    pub status: String,
}

impl Call for UpdateTrunkStatus {
    const TOPIC: &str = TRUNK_TOPIC;
    const METHOD: &str = "update_trunk_status";
    const VERSION: &str = "1.0";
    const NAMESPACE: Option<&str> = Some("trunk");
    type Reply = ();
}
