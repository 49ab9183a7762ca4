//! The configuration: oslo.config entries in, a validated [`Config`] or every problem out.

mod dhcp;
mod environment;
mod flows;
mod log;
mod mappings;
mod metadata;
mod multicast;
mod neutron;
mod physical;
mod qos;
mod read;
mod services;
mod transport;
mod uplinks;

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf, time::Duration};

pub use dhcp::DhcpConfig;
pub(crate) use dhcp::is_domain_name;
pub use flows::FlowConfig;
pub use log::LogConfig;
pub use multicast::MulticastGroups;
pub use neutron::{Extensions, NeutronConfig};
pub use physical::{PhysicalDevice, PhysicalNetwork};
pub use qos::QosConfig;
pub use read::SystemDefaults;
pub use services::ServiceConfig;
pub use transport::{
    Broker, ConnectionConfig, LoginMethod, QueueConfig, QuorumConfig, Secret, TlsConfig, TransportConfig, TransportUrl,
};
pub use uplinks::{UplinkLane, UplinkLanes};

use crate::{
    model::{NetworkId, Segment, vxlan_name},
    oslo_ini::Place,
};

/// Everything that an operator can set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This host's name in the control plane (`[DEFAULT] host`; the system's host name when unset).
    pub host: String,
    /// How much is logged, and where to.
    pub log: LogConfig,
    /// The environment variables that count, by name.
    pub environment: Vec<String>,
    /// Where what is desired comes from (`[overlane] control`).
    pub control: Control,
    /// The devices behind each physical network, by label.
    pub physical_networks: BTreeMap<String, PhysicalNetwork>,
    /// VXLAN settings; `None` with `[vxlan] enable_vxlan = false`.
    pub vxlan: Option<VxlanConfig>,
    /// The groups by which hosts find each other; `None`: the control plane says who is where
    /// (`[vxlan] l2_population`).
    pub multicast: Option<MulticastGroups>,
    /// How long a bridge or vxlan device is kept after its network has left the host
    /// (`[overlane] unused_device_grace_secs`).
    pub unused_device_grace: Duration,
    /// Who puts the taps of Nova's machines into their bridges (`[overlane] compute_taps`).
    pub compute_taps: ComputeTaps,
    /// Whether the eBPF programs may be used (`[overlane] fast_path`).
    pub fast_path: FastPath,
    /// What takes up the packets from other hosts (`[overlane] uplink_lane`).
    pub uplink_lanes: UplinkLanes,
    /// How flows are remembered and logged.
    pub flows: FlowConfig,
    /// How limits of what machines receive are carried out.
    pub qos: QosConfig,
    /// How DHCP servers, routers and the metadata service are set up.
    pub services: ServiceConfig,
    /// Directory in a BPF file system for maps and links (`[overlane] bpffs`, default `/sys/fs/bpf/overlane`).
    pub bpffs: PathBuf,
}

/// Where what is desired comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// A topology file (`[overlane] topology`).
    File(PathBuf),
    /// A Neutron server (`[DEFAULT] transport_url`).
    Neutron(Box<NeutronConfig>),
}

/// Who puts the taps of Nova's machines, those whose owner begins with `compute:`, into their bridges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComputeTaps {
    /// Whoever made them, if that happens within a grace period; else Overlane.
    Auto,
    /// Overlane, at once.
    Connect,
    /// Never Overlane.
    Leave,
}

/// Whether the eBPF programs may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastPath {
    /// Wherever they can be.
    Auto,
    /// Not at all: the kernel's bridge and vxlan devices carry everything.
    Off,
}

/// The `[vxlan]` section, and what `[agent]` says about outer headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanConfig {
    /// This host's tunnel endpoint.
    pub local_ip: IpAddr,
    /// UDP destination port: 4789 with a topology file, 8472 with Neutron.
    pub udp_dstport: u16,
    /// First and last UDP source port (`udp_srcport_min`, `udp_srcport_max`); `None` takes the kernel's range for
    /// local ports.
    pub source_ports: Option<(u16, u16)>,
    /// Outer TTL; `None` takes the system's default.
    pub ttl: Option<u8>,
    /// What becomes of the outer DSCP.
    pub dscp: Dscp,
    /// Whether ARP requests and neighbour solicitations are answered at the port.
    pub arp_responder: bool,
}

/// The outer DSCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dscp {
    /// This value, 0 to 63.
    Fixed(u8),
    /// The inner packet's.
    Inherit,
}

/// Something about the configuration that is worth knowing but wrong in no way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it is about.
    pub place: Place,
    /// What is worth knowing.
    pub message: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl Config {
    /// This host's tunnel endpoint, if there are to be tunnels.
    pub fn local_ip(&self) -> Option<IpAddr> {
        self.vxlan.map(|vxlan| vxlan.local_ip)
    }

    /// Names of the devices that a network must have for itself: its bridge, and what leads to the other hosts.
    pub fn devices_of(&self, id: NetworkId, segment: &Segment) -> Vec<String> {
        match segment {
            Segment::Vxlan(vni) => vec![id.bridge_name(), vxlan_name(*vni)],
            Segment::Flat { physical_network } => match self.untagged_device(physical_network) {
                Some(PhysicalDevice::Bridge(bridge)) => vec![bridge],
                Some(PhysicalDevice::Interface(nic)) => vec![id.bridge_name(), nic],
                None => Vec::new(),
            },
            // Whose a VLAN is, its device says.
            Segment::Vlan { .. } | Segment::Local => vec![id.bridge_name()],
        }
    }

    /// Why a network with this segment cannot work with this configuration.
    pub fn why_unusable(&self, segment: &Segment) -> Option<String> {
        match segment {
            Segment::Vxlan(_) if self.vxlan.is_none() => Some("[vxlan] enable_vxlan is false".to_owned()),
            Segment::Flat { physical_network } | Segment::Vlan { physical_network, .. }
                if !self.physical_networks.contains_key(physical_network) =>
            {
                Some(format!(
                    "physical network {physical_network:?} is neither in [linux_bridge] physical_interface_mappings nor in \
                     bridge_mappings"
                ))
            }
            Segment::Vlan { physical_network, .. } if self.vlan_interface(physical_network).is_none() => Some(format!(
                "physical network {physical_network:?} is in [linux_bridge] bridge_mappings only: its VLANs need a NIC \
                     in physical_interface_mappings"
            )),
            _ => None,
        }
    }
}

impl fmt::Display for ComputeTaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Connect => "connect",
            Self::Leave => "leave",
        })
    }
}

impl fmt::Display for FastPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Off => "off",
        })
    }
}

impl fmt::Display for Dscp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(dscp) => dscp.fmt(f),
            Self::Inherit => f.write_str("the inner packet's"),
        }
    }
}
