//! Routers.

use std::collections::BTreeMap;

use super::NamespaceSpec;
use crate::{config::Config, topology::Topology};

/// The namespace of each router that is on the configured host.
pub(super) fn namespaces(_topology: &Topology, _config: &Config) -> BTreeMap<String, NamespaceSpec> {
    BTreeMap::new()
}
