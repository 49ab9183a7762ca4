//! What a Neutron server's agents are configured with: the options of the Linux bridge agent, with its names and defaults.

use std::time::Duration;

use super::{read::Reader, transport::TransportConfig};

/// The Linux bridge agent's port for VXLAN where `udp_dstport` is unset: Linux's own, not the one that IANA has given.
pub(super) const VXLAN_PORT: u16 = 8472;
const REPORT_INTERVAL: f64 = 30.0;
/// What the Linux bridge agent asks about at once.
const SLICE: usize = 20;

/// How to be an agent of a Neutron server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeutronConfig {
    /// How to reach the server's message broker.
    pub transport: TransportConfig,
    /// How often the agent says that it is alive (`[agent] report_interval`).
    pub report_interval: Duration,
    /// About how many devices the server is asked at once (`[DEFAULT] rpc_resources_processing_step`).
    pub slice: usize,
    /// Whether ports are filtered by their security groups (`[securitygroup] firewall_driver`, `enable_security_group`).
    pub has_groups: bool,
    /// Whether QoS policies are carried out (`qos` in `[agent] extensions`).
    pub has_qos: bool,
    /// Whether the server has trunks (`trunk` in `[DEFAULT] service_plugins`).
    pub has_trunks: bool,
}

impl Reader<'_> {
    pub(super) fn neutron(&mut self) -> Option<NeutronConfig> {
        let interval = self.parsed("agent", "report_interval", "a number of seconds").unwrap_or(REPORT_INTERVAL);
        let report_interval = Duration::try_from_secs_f64(interval).unwrap_or_default();
        if report_interval.is_zero() {
            self.problem("agent", "report_interval", "the server takes an agent that never reports for dead");
        }
        let slice = self.parsed("DEFAULT", "rpc_resources_processing_step", "a number of devices").unwrap_or(SLICE);
        if slice == 0 {
            self.problem("DEFAULT", "rpc_resources_processing_step", "must be at least 1");
        }
        if self.text("DEFAULT", "transport_url").is_none() {
            self.problem("DEFAULT", "transport_url", "missing: it says where the server's message broker is");
        }
        let transport = self.transport();
        let (has_groups, has_qos) = (self.has_groups(), self.lists("agent", "extensions", "qos"));
        let has_trunks = self.lists("DEFAULT", "service_plugins", "trunk");
        Some(NeutronConfig { transport: transport?, report_interval, slice, has_groups, has_qos, has_trunks })
    }

    /// As in the Linux bridge agent, nothing is filtered unless a driver is named.
    fn has_groups(&mut self) -> bool {
        let is_enabled = self.boolean("securitygroup", "enable_security_group", true);
        let driver = self.text("securitygroup", "firewall_driver").unwrap_or_default();
        let name = driver.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        match name.as_str() {
            "" | "noop" | "noopfirewalldriver" => {
                let message = "security groups are off: ports are held to their addresses only";
                let option = if driver.is_empty() { "enable_security_group" } else { "firewall_driver" };
                self.note("securitygroup", option, format!("[securitygroup] {option}: {message}"));
                false
            }
            "iptables" | "iptables_hybrid" | "iptablesfirewalldriver" => is_enabled,
            _ => {
                self.problem(
                    "securitygroup",
                    "firewall_driver",
                    "not a driver of Linux bridges: expected iptables (which stands for security groups in eBPF) or noop",
                );
                false
            }
        }
    }

    /// Whether a comma-separated option has a word, or a class whose name ends with it.
    fn lists(&self, section: &str, name: &str, word: &str) -> bool {
        let list = self.text(section, name).unwrap_or_default();
        list.split(',').map(str::trim).any(|item| item == word)
    }
}
