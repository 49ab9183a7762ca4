//! What a Neutron server's agents are configured with: the options of the Linux bridge agent, with its names and defaults.

use std::time::Duration;

use super::{read::Reader, transport::TransportConfig};

/// The Linux bridge agent's port for VXLAN where `udp_dstport` is unset: Linux's own, not the one that IANA has given.
pub(super) const VXLAN_PORT: u16 = 8472;
const REPORT_INTERVAL: f64 = 30.0;
/// What the Linux bridge agent asks about at once.
const SLICE: usize = 20;
/// The extension that carries out QoS policies.
const QOS: &str = "qos";

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
    /// Whether trunks are carried out (`trunk` in `[DEFAULT] service_plugins`, which is the server's).
    pub has_trunks: bool,
    /// What else the agent is asked to do.
    pub extensions: Extensions,
}

/// `[agent] extensions`, in the order in which they stand there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// Those that are carried out.
    pub used: Vec<String>,
    /// All others.
    pub unused: Vec<String>,
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
        let (has_groups, has_qos) = (self.has_groups(), self.lists("agent", "extensions", QOS));
        let has_trunks = self.lists("DEFAULT", "service_plugins", "trunk");
        let extensions = self.extensions();
        let transport = transport?;
        Some(NeutronConfig { transport, report_interval, slice, has_groups, has_qos, has_trunks, extensions })
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

    fn extensions(&mut self) -> Extensions {
        let (used, unused): (Vec<String>, _) =
            self.list("agent", "extensions").into_iter().partition(|name| name == QOS);
        if !unused.is_empty() {
            let names = unused.join(", ");
            self.note("agent", "extensions", format!("[agent] extensions: {names}: not carried out by this version"));
        }
        Extensions { used, unused }
    }

    /// Whether a comma-separated option has a word.
    fn lists(&self, section: &str, name: &str, word: &str) -> bool {
        self.list(section, name).iter().any(|item| item == word)
    }

    fn list(&self, section: &str, name: &str) -> Vec<String> {
        let list = self.text(section, name).unwrap_or_default();
        list.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Control, read::tests::read};

    use super::*;

    const FILES: &str = "transport_url = rabbit://u:secret@h\n[vxlan]\nlocal_ip = 10.0.0.1\n";

    fn neutron(more: &str) -> NeutronConfig {
        match read(&format!("{FILES}{more}")).expect("valid").0.control {
            Control::Neutron(neutron) => *neutron,
            control @ Control::File(_) => panic!("{control:?}"),
        }
    }

    #[test]
    fn the_linux_bridge_agents_files_are_enough_and_have_its_defaults() {
        let (config, notes) = read(FILES).expect("valid");
        assert_eq!(config.vxlan.expect("on by default").udp_dstport, 8472);
        assert!(config.multicast.is_some(), "l2_population is off unless it is switched on");
        assert_eq!(notes, []);
        let neutron = neutron("");
        assert_eq!((neutron.report_interval, neutron.slice), (Duration::from_secs(30), 20));
        assert!(!neutron.has_groups && !neutron.has_qos);
    }

    #[test]
    fn its_firewall_drivers_stand_for_groups_or_none_and_others_are_refused() {
        let has_groups = |driver: &str| neutron(&format!("[SECURITYGROUP]\nfirewall_driver = {driver}\n")).has_groups;
        assert!(has_groups("iptables"));
        assert!(has_groups("neutron.agent.linux.iptables_firewall.IptablesFirewallDriver"));
        assert!(!has_groups("noop"));
        assert!(!has_groups("neutron.agent.firewall.NoopFirewallDriver"));
        assert!(!has_groups("iptables\nenable_security_group = False"));
        let problems = read(&format!("{FILES}[securitygroup]\nfirewall_driver = openvswitch\n")).expect_err("invalid");
        assert!(problems[0].contains("expected iptables"), "{problems:?}");
    }

    #[test]
    fn extensions_say_what_else_there_is() {
        let neutron = neutron(
            "[agent]\nextensions = fdb, qos\nreport_interval = 1.5\n[DEFAULT]\nservice_plugins = router,trunk\n",
        );
        assert!(neutron.has_qos && neutron.has_trunks);
        assert_eq!(
            (neutron.extensions.used.concat(), neutron.extensions.unused.concat()),
            ("qos".into(), "fdb".into())
        );
        assert_eq!(neutron.report_interval, Duration::from_millis(1500));
    }

    #[test]
    fn a_topology_beside_a_server_is_refused_unless_one_of_them_is_chosen() {
        let both = format!("{FILES}[overlane]\ntopology = t.toml\n");
        let problems = read(&both).expect_err("invalid");
        assert!(problems[0].contains("[overlane] control"), "{problems:?}");
        assert!(matches!(read(&format!("{both}control = file\n")).expect("valid").0.control, Control::File(_)));
        assert!(matches!(read(&format!("{both}control = neutron\n")).expect("valid").0.control, Control::Neutron(_)));
    }

    #[test]
    fn a_server_without_a_broker_and_an_agent_that_never_reports_are_refused() {
        let text = "[vxlan]\nlocal_ip = 10.0.0.1\n[overlane]\ncontrol = neutron\n[agent]\nreport_interval = 0\n";
        let problems = read(text).expect_err("invalid");
        assert!(problems[0].contains("report_interval") && problems[1].contains("transport_url"), "{problems:?}");
    }

    #[test]
    fn a_password_reaches_no_message() {
        let problems = read("transport_url = rabbit://u:secret@h:no\n").expect_err("invalid").concat();
        assert!(problems.contains("transport_url") && !problems.contains("secret"), "{problems}");
        assert!(!format!("{:?}", neutron("")).contains("secret"));
    }
}
