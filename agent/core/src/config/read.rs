//! From oslo.config entries to a [`Config`]: every option named, every problem reported at once.

use std::{fmt::Display, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use crate::{
    config::{
        ComputeTaps, Config, Control, Dscp, FastPath, Note, VxlanConfig, dhcp, log, metadata, neutron, qos, transport,
    },
    oslo_ini::{Entry, Settings},
    problem::{Problem, Problems},
};

/// The IANA port of VXLAN.
const VXLAN_PORT: u16 = 4789;
/// A machine that is rebuilt or migrated back finds everything in place.
const DEFAULT_GRACE: Duration = Duration::from_secs(60);
const DEFAULT_BPFFS: &str = "/sys/fs/bpf/overlane";

/// Every option that is used. What else a file says is ignored, except in Overlane's own section.
const KNOWN: [(&str, &[&str]); 12] = [
    ("DEFAULT", &["host", "rpc_resources_processing_step", "service_plugins"]),
    ("DEFAULT", log::OPTIONS),
    ("DEFAULT", metadata::OPTIONS),
    ("DEFAULT", transport::DEFAULT_OPTIONS),
    ("DEFAULT", dhcp::OPTIONS),
    ("oslo_messaging_rabbit", transport::RABBIT_OPTIONS),
    ("linux_bridge", &["physical_interface_mappings", "bridge_mappings"]),
    (
        "vxlan",
        &[
            "enable_vxlan",
            "local_ip",
            "udp_dstport",
            "udp_srcport_min",
            "udp_srcport_max",
            "ttl",
            "tos",
            "arp_responder",
            "l2_population",
            "vxlan_group",
            "multicast_ranges",
        ],
    ),
    ("agent", &["dscp", "dscp_inherit", "report_interval", "extensions"]),
    ("securitygroup", &["firewall_driver", "enable_security_group"]),
    ("qos", qos::OPTIONS),
    (
        "overlane",
        &[
            "control",
            "topology",
            "fast_path",
            "uplink_lane",
            "bpffs",
            "unused_device_grace_secs",
            "compute_taps",
            "flow_timeouts",
            "flows_max",
            "flow_log_rate",
            "state_path",
        ],
    ),
];

/// What the system says where the configuration does not.
#[derive(Clone, Debug, Default)]
pub struct SystemDefaults {
    /// The system's host name.
    pub host_name: String,
}

impl Config {
    /// Checks `settings` and makes a configuration of them.
    ///
    /// # Errors
    /// [`Problems`]: all of them.
    pub fn from_settings(settings: &Settings, system: &SystemDefaults) -> Result<(Self, Vec<Note>), Problems> {
        let mut reader = Reader::new(settings);
        let host = reader.text("DEFAULT", "host").unwrap_or_else(|| system.host_name.clone());
        let log = reader.log();
        let control = reader.control();
        let physical_networks = reader.physical_networks();
        let enable_vxlan = reader.boolean("vxlan", "enable_vxlan", true);
        let is_neutron = matches!(control, Some(Control::Neutron(_)));
        let default_port = if is_neutron { neutron::VXLAN_PORT } else { VXLAN_PORT };
        let vxlan = enable_vxlan.then(|| reader.vxlan(default_port)).flatten();
        let local_ip = vxlan.map(|vxlan| vxlan.local_ip);
        let multicast = enable_vxlan.then(|| reader.multicast(!is_neutron, local_ip)).flatten();
        let fast_path = reader.choice("fast_path", &[FastPath::Auto, FastPath::Off]);
        let uplink_lanes = reader.uplink_lanes();
        let compute_taps = [ComputeTaps::Auto, ComputeTaps::Connect, ComputeTaps::Leave];
        let compute_taps = reader.choice("compute_taps", &compute_taps);
        let bpffs = PathBuf::from(reader.text("overlane", "bpffs").unwrap_or_else(|| DEFAULT_BPFFS.to_owned()));
        if !bpffs.is_absolute() {
            reader.problem("overlane", "bpffs", "must be an absolute path");
        }
        let grace = reader.parsed("overlane", "unused_device_grace_secs", "a number of seconds");
        let unused_device_grace = grace.map_or(DEFAULT_GRACE, Duration::from_secs);
        let flows = reader.flows();
        let qos = reader.qos();
        let services = reader.services();
        reader.refuse_unknown_own_options();
        reader.note_what_is_not_used();
        match control {
            Some(control) if reader.problems.is_empty() => Ok((
                Self {
                    host,
                    log,
                    environment: reader.environment(),
                    control,
                    physical_networks,
                    vxlan,
                    multicast,
                    unused_device_grace,
                    compute_taps,
                    fast_path,
                    uplink_lanes,
                    flows,
                    qos,
                    services,
                    bpffs,
                },
                reader.notes,
            )),
            _ => Err(Problems(reader.problems)),
        }
    }
}

pub(super) struct Reader<'a> {
    pub(super) settings: &'a Settings,
    pub(super) problems: Vec<Problem>,
    notes: Vec<Note>,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(settings: &'a Settings) -> Self {
        Self { settings, problems: Vec::new(), notes: Vec::new() }
    }

    pub(super) fn entry(&self, section: &str, name: &str) -> Option<&'a Entry> {
        self.settings.get(section, name)
    }

    /// The value of an option; empty counts as unset, as it does for oslo.config's numbers and addresses.
    pub(super) fn text(&self, section: &str, name: &str) -> Option<String> {
        let entry = self.entry(section, name)?;
        Some(self.settings.value(entry)).filter(|value| !value.is_empty())
    }

    pub(super) fn problem(&mut self, section: &str, name: &str, message: impl Display) {
        let value = self.text(section, name).map(|value| format!(" = {value}")).unwrap_or_default();
        self.add_problem(section, name, format!("[{section}] {name}{value}: {message}"));
    }

    /// A problem with an option whose value holds a password: it must not reach a message.
    pub(super) fn secret_problem(&mut self, section: &str, name: &str, message: &str) {
        self.add_problem(section, name, format!("[{section}] {name}: {message}"));
    }

    fn add_problem(&mut self, section: &str, name: &str, message: String) {
        let entry = self.entry(section, name);
        self.problems.push(match entry {
            Some(entry) => entry.place.problem(message),
            None => Problem { file: self.settings.last_file(), line: None, message },
        });
    }

    /// Something worth knowing about an option that is there.
    pub(super) fn note(&mut self, section: &str, name: &str, message: String) {
        if let Some(entry) = self.entry(section, name) {
            self.notes.push(Note { place: entry.place.clone(), message });
        }
    }

    pub(super) fn boolean(&mut self, section: &str, name: &str, default: bool) -> bool {
        let Some(value) = self.text(section, name) else { return default };
        match value.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => true,
            "false" | "0" | "no" | "off" => false,
            _ => {
                self.problem(section, name, "expected true or false");
                default
            }
        }
    }

    pub(super) fn parsed<T: FromStr>(&mut self, section: &str, name: &str, expected: &str) -> Option<T> {
        let value = self.text(section, name)?;
        let parsed = value.parse().ok();
        if parsed.is_none() {
            self.problem(section, name, format_args!("expected {expected}"));
        }
        parsed
    }

    fn control(&mut self) -> Option<Control> {
        let is_of_neutron = self.text("DEFAULT", "transport_url").is_some();
        match self.text("overlane", "control").as_deref() {
            Some("file") => (),
            Some("neutron") => return self.neutron().map(|neutron| Control::Neutron(Box::new(neutron))),
            Some("etcd") => {
                self.problem("overlane", "control", "not supported by this version: use control = file or neutron");
                return None;
            }
            Some(_) => {
                self.problem("overlane", "control", "expected file or neutron");
                return None;
            }
            None if is_of_neutron && self.text("overlane", "topology").is_some() => {
                let message = "there is a transport_url as well: say which of them counts by [overlane] control";
                self.problem("overlane", "topology", message);
            }
            None if is_of_neutron => return self.neutron().map(|neutron| Control::Neutron(Box::new(neutron))),
            None => (),
        }
        let Some(topology) = self.text("overlane", "topology").map(PathBuf::from) else {
            self.problem(
                "overlane",
                "topology",
                "missing: it says what this host should have, unless [DEFAULT] transport_url names a Neutron server's broker",
            );
            return None;
        };
        // Relative to the file that names it, wherever the agent is started from.
        let folder = self.entry("overlane", "topology").and_then(|entry| entry.place.folder());
        Some(Control::File(folder.map_or_else(|| topology.clone(), |folder| folder.join(&topology))))
    }

    /// One of several words of `[overlane]`, of which the first is the default.
    fn choice<T: Copy + Display>(&mut self, name: &str, values: &[T]) -> T {
        let text = self.text("overlane", name);
        let chosen = text.and_then(|text| {
            let found = values.iter().find(|value| value.to_string() == text);
            if found.is_none() {
                let words: Vec<String> = values.iter().map(ToString::to_string).collect();
                self.problem("overlane", name, format_args!("expected {}", words.join(" or ")));
            }
            found
        });
        *chosen.unwrap_or(&values[0])
    }

    fn vxlan(&mut self, default_port: u16) -> Option<VxlanConfig> {
        let local_ip = self.local_ip();
        let udp_dstport = self.parsed("vxlan", "udp_dstport", "a UDP port, 1 to 65535").unwrap_or(default_port);
        if udp_dstport == 0 {
            self.problem("vxlan", "udp_dstport", "expected a UDP port, 1 to 65535");
        }
        let source_ports = self.source_ports();
        let ttl = self.parsed("vxlan", "ttl", "a TTL, 1 to 255").filter(|ttl| *ttl != 0);
        let dscp = self.dscp();
        let arp_responder = self.boolean("vxlan", "arp_responder", true);
        Some(VxlanConfig { local_ip: local_ip?, udp_dstport, source_ports, ttl, dscp, arp_responder })
    }

    fn local_ip(&mut self) -> Option<IpAddr> {
        if self.text("vxlan", "local_ip").is_none() {
            self.problem("vxlan", "local_ip", "missing: the address of this host that the others send VXLAN to");
        }
        let local_ip: IpAddr = self.parsed("vxlan", "local_ip", "an IPv4 or IPv6 address")?;
        let is_host_address = !local_ip.is_unspecified() && !local_ip.is_multicast() && !local_ip.is_loopback();
        if !is_host_address {
            self.problem("vxlan", "local_ip", "expected the unicast address of an underlay interface");
        }
        is_host_address.then_some(local_ip)
    }

    fn source_ports(&mut self) -> Option<(u16, u16)> {
        let expected = "a UDP port, 0 to 65535";
        let min = self.parsed("vxlan", "udp_srcport_min", expected).unwrap_or(0);
        let max = self.parsed("vxlan", "udp_srcport_max", expected).unwrap_or(0);
        if min > max {
            self.problem("vxlan", "udp_srcport_min", format_args!("is larger than udp_srcport_max = {max}"));
        }
        (max != 0).then_some((min, max))
    }

    /// `tos` wins over `dscp_inherit`, which wins over `dscp`, as in the Linux bridge agent.
    fn dscp(&mut self) -> Dscp {
        let tos: Option<u8> = self.parsed("vxlan", "tos", "a TOS byte, 0 to 255");
        let dscp: u8 = self.parsed("agent", "dscp", "a DSCP, 0 to 63").unwrap_or(0);
        let inherit = self.boolean("agent", "dscp_inherit", false);
        if dscp > 63 {
            self.problem("agent", "dscp", "expected a DSCP, 0 to 63");
        }
        match tos {
            // What the kernel's vxlan device takes 1 for.
            Some(1) => Dscp::Inherit,
            Some(tos) if tos & 0b11 != 0 => {
                self.problem("vxlan", "tos", "the two lowest bits belong to ECN and must be zero");
                Dscp::Fixed(0)
            }
            Some(tos) if tos != 0 => Dscp::Fixed(tos >> 2),
            _ if inherit => Dscp::Inherit,
            _ => Dscp::Fixed(dscp),
        }
    }

    /// A misspelt option of somebody else's is theirs to find; one of ours is not ignored.
    fn refuse_unknown_own_options(&mut self) {
        for entry in self.settings.entries().iter().filter(|entry| entry.section == "overlane" && !is_known(entry)) {
            let known =
                KNOWN.iter().find(|(section, _)| *section == "overlane").map_or("".into(), |(_, n)| n.join(", "));
            let message = format!("[overlane] {}: no such option; there are {known}", entry.name);
            self.problems.push(entry.place.problem(message));
        }
    }

    fn note_what_is_not_used(&mut self) {
        let ignored = self.settings.entries().iter().filter(|entry| entry.section != "overlane" && !is_known(entry));
        self.notes.extend(ignored.map(|entry| Note {
            place: entry.place.clone(),
            message: format!("[{}] {} is not used", entry.section, entry.name),
        }));
    }
}

pub(super) fn is_known(entry: &Entry) -> bool {
    KNOWN.iter().any(|(section, names)| *section == entry.section && names.contains(&entry.name.as_str()))
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::*;

    pub(crate) fn read(text: &str) -> Result<(Config, Vec<Note>), Vec<String>> {
        let mut settings = Settings::default();
        assert_eq!(settings.add_file(Path::new("/etc/o/a.ini"), text), []);
        let system = SystemDefaults { host_name: "thishost".to_owned() };
        Config::from_settings(&settings, &system)
            .map_err(|problems| problems.0.iter().map(ToString::to_string).collect())
    }

    pub(crate) const MINIMAL: &str = "[vxlan]\nlocal_ip = 10.0.0.1\n[overlane]\ntopology = t.toml\n";

    #[test]
    fn a_minimal_configuration_has_sensible_defaults() {
        let (config, notes) = read(MINIMAL).expect("valid");
        assert_eq!(config.host, "thishost");
        assert_eq!(config.control, Control::File("/etc/o/t.toml".into()));
        assert_eq!(config.fast_path, FastPath::Auto);
        let vxlan = config.vxlan.expect("on by default");
        assert_eq!((vxlan.udp_dstport, vxlan.source_ports, vxlan.ttl), (4789, None, None));
        assert!(vxlan.arp_responder);
        assert_eq!(notes, []);
    }

    #[test]
    fn every_problem_is_reported_at_once_with_file_line_and_option() {
        let text = "[vxlan]\nlocal_ip = 224.0.0.1\nttl = 300\nudp_srcport_min = 9\nudp_srcport_max = 8\n\
                    [AGENT]\ndscp = 64\ndscp_inherit = maybe\n\
                    [overlane]\nfast_path = sometimes\ntoplogy = t\nbpffs = here\n";
        assert_eq!(
            read(text).expect_err("invalid"),
            [
                "/etc/o/a.ini: [overlane] topology: missing: it says what this host should have, unless [DEFAULT] transport_url names a Neutron server's broker",
                "/etc/o/a.ini:2: [vxlan] local_ip = 224.0.0.1: expected the unicast address of an underlay interface",
                "/etc/o/a.ini:4: [vxlan] udp_srcport_min = 9: is larger than udp_srcport_max = 8",
                "/etc/o/a.ini:3: [vxlan] ttl = 300: expected a TTL, 1 to 255",
                "/etc/o/a.ini:8: [agent] dscp_inherit = maybe: expected true or false",
                "/etc/o/a.ini:7: [agent] dscp = 64: expected a DSCP, 0 to 63",
                "/etc/o/a.ini:10: [overlane] fast_path = sometimes: expected auto or off",
                "/etc/o/a.ini:12: [overlane] bpffs = here: must be an absolute path",
                "/etc/o/a.ini:11: [overlane] toplogy: no such option; there are control, topology, fast_path, uplink_lane, bpffs, unused_device_grace_secs, compute_taps, flow_timeouts, flows_max, flow_log_rate, state_path",
            ]
        );
    }

    #[test]
    fn tos_wins_over_dscp_inherit_which_wins_over_dscp() {
        let dscp = |more: &str| read(&format!("{more}\n{MINIMAL}")).expect("valid").0.vxlan.expect("on").dscp;
        assert_eq!(dscp("[vxlan]\ntos = 184\n[agent]\ndscp = 3\ndscp_inherit = True"), Dscp::Fixed(46));
        assert_eq!(dscp("[agent]\ndscp = 3\ndscp_inherit = True"), Dscp::Inherit);
        assert_eq!(dscp("[agent]\ndscp = 3"), Dscp::Fixed(3));
    }

    #[test]
    fn options_of_the_linux_bridge_agent_that_are_not_used_are_only_noted() {
        let rabbit = "[oslo_messaging_rabbit]\nkombu_failover_strategy = shuffle";
        let (_, notes) = read(&format!("[securitygroup]\nenable_ipset = True\n{rabbit}\n{MINIMAL}")).expect("valid");
        let notes: Vec<String> = notes.iter().map(ToString::to_string).collect();
        let expected = [
            "/etc/o/a.ini:2: [securitygroup] enable_ipset is not used",
            "/etc/o/a.ini:4: [oslo_messaging_rabbit] kombu_failover_strategy is not used",
        ];
        assert_eq!(notes, expected);
    }
}
