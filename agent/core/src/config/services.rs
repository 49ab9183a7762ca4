//! DHCP servers, routers and the metadata service: how they are set up on this host.

use std::path::PathBuf;

use super::{dhcp::DhcpConfig, read::Reader};
use crate::services::metadata::Upstream;

/// Where they keep their files by default.
const DEFAULT_STATE_PATH: &str = "/var/lib/overlane";

/// How DHCP servers, routers and the metadata service are set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Where their files are (`[overlane] state_path`).
    pub state_path: PathBuf,
    /// Nova's metadata service, where it answers instead of ours (`[DEFAULT] nova_metadata_host`).
    pub nova_metadata: Option<Upstream>,
    /// How DHCP servers are set up.
    pub dhcp: DhcpConfig,
}

impl Reader<'_> {
    /// Reads the options.
    pub(super) fn services(&mut self) -> ServiceConfig {
        let state_path = self.text("overlane", "state_path").unwrap_or_else(|| DEFAULT_STATE_PATH.to_owned());
        let state_path = PathBuf::from(state_path);
        if !state_path.is_absolute() {
            self.problem("overlane", "state_path", "must be an absolute path");
        }
        ServiceConfig { state_path, nova_metadata: self.nova_metadata(), dhcp: self.dhcp() }
    }
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self { state_path: DEFAULT_STATE_PATH.into(), nova_metadata: None, dhcp: DhcpConfig::default() }
    }
}
