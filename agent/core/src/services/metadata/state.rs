//! The file between the agent, which knows, and the process that serves.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    config::Secret,
    model::{Mac, NetworkId, PortId},
};

/// Everything that the metadata service of a host needs to know. It holds a secret: whoever writes it keeps others from reading.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// A Nova metadata service that answers instead of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
    /// Where to listen.
    #[serde(default)]
    pub sockets: Vec<Socket>,
    /// The machines that may ask.
    #[serde(default)]
    pub instances: Vec<Instance>,
}

/// Nova's metadata service, as `metadata_agent.ini` of Neutron names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// `nova_metadata_protocol`.
    pub protocol: Protocol,
    /// `nova_metadata_host`: a name or an address.
    pub host: String,
    /// `nova_metadata_port`.
    pub port: u16,
    /// `metadata_proxy_shared_secret`.
    #[serde(with = "exposed")]
    pub shared_secret: Secret,
}

/// How to talk to Nova.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Plain HTTP.
    Http,
}

/// One place to listen at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Socket {
    /// Where it is. No two sockets are in one place.
    #[serde(flatten)]
    pub key: SocketKey,
    /// The networks whose machines can be behind it: one for a qdhcp, all that a qrouter connects.
    pub networks: Vec<NetworkId>,
}

/// Where a socket is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SocketKey {
    /// A network namespace, by its name in `/run/netns`.
    pub namespace: String,
    /// The local address, or the unspecified one of its family.
    pub address: IpAddr,
    /// The TCP port.
    pub port: u16,
    /// Only what comes by this interface is heard; link-local addresses need one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
}

impl fmt::Display for SocketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, address, port, interface } = self;
        let interface = interface.as_ref().map(|name| format!("%{name}")).unwrap_or_default();
        match address {
            IpAddr::V4(address) => write!(f, "{address}{interface}:{port} in {namespace}"),
            IpAddr::V6(address) => write!(f, "[{address}{interface}]:{port} in {namespace}"),
        }
    }
}

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// Its id, which it is known by for as long as it lives (`device_id` of its ports).
    pub id: String,
    /// What it is to call itself.
    pub hostname: String,
    /// What its owner calls it; the host name where there is no such name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// Its availability zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    /// Public SSH keys by their names.
    #[serde(default)]
    pub keys: BTreeMap<String, String>,
    /// What its owner has for it: any bytes.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "base64_text")]
    pub user_data: Option<Vec<u8>>,
    /// Labels.
    #[serde(default)]
    pub meta: BTreeMap<String, String>,
    /// What the operator of the cloud has for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor_data: Option<Value>,
    /// The names of its security groups.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// Its ports, the first one first.
    pub interfaces: Vec<Interface>,
}

/// A port of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// The port.
    pub port_id: PortId,
    /// Its network.
    pub network_id: NetworkId,
    /// Its MAC address.
    pub mac: Mac,
    /// The MTU of its network, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Its addresses.
    #[serde(default)]
    pub fixed_ips: Vec<FixedIp>,
}

/// An address of a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixedIp {
    /// The address.
    pub address: IpAddr,
    /// The length of its subnet's prefix in bits.
    pub prefix_len: u8,
    /// How the machine is to get it.
    pub assignment: Assignment,
    /// The subnet's default gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Other routes of the subnet.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// The subnet's name servers.
    #[serde(default)]
    pub dns_nameservers: Vec<IpAddr>,
    /// The floating IP that leads here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floating_ip: Option<IpAddr>,
}

/// How a machine gets an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Assignment {
    /// By itself, from what it is told here.
    Static,
    /// DHCP for IPv4.
    Dhcp,
    /// Router advertisements alone.
    Slaac,
    /// Router advertisements, and DHCPv6 for the rest.
    Dhcpv6Stateless,
    /// DHCPv6.
    Dhcpv6Stateful,
}

/// A route of a subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Where it leads.
    pub destination: IpNet,
    /// By which neighbour.
    pub nexthop: IpAddr,
}

impl State {
    /// Reads the file.
    ///
    /// # Errors
    /// When it is no such JSON, with line and column.
    pub fn from_json(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// What to write into the file.
    ///
    /// # Errors
    /// None that this type can cause.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}

/// Bytes as text.
mod base64_text {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        bytes.as_ref().map(|bytes| STANDARD.encode(bytes)).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| STANDARD.decode(text)).transpose().map_err(D::Error::custom)
    }
}

/// A secret in a file that only its owner may read.
mod exposed {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::config::Secret;

    pub(super) fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        secret.expose().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        Ok(String::deserialize(deserializer)?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let upstream = Upstream {
            protocol: Protocol::Http,
            host: "controller".to_owned(),
            port: 8775,
            shared_secret: "geheim".to_owned().into(),
        };
        let key = SocketKey {
            namespace: "qdhcp-1".to_owned(),
            address: "fe80::a9fe:a9fe".parse().expect("an address"),
            port: 80,
            interface: Some("ns-1".to_owned()),
        };
        let instance = Instance { id: "i".to_owned(), user_data: Some(vec![0, 0xff, b'\n']), ..Instance::default() };
        State {
            upstream: Some(upstream),
            sockets: vec![Socket { key, networks: Vec::new() }],
            instances: vec![instance],
        }
    }

    #[test]
    fn the_file_is_read_as_it_was_written_user_data_of_any_bytes_included() {
        let text = state().to_json().expect("it can be written");
        assert_eq!(State::from_json(text.as_bytes()).expect("it can be read"), state());
    }

    #[test]
    fn the_shared_secret_is_in_the_file_and_not_in_what_is_printed() {
        assert!(state().to_json().expect("it can be written").contains("geheim"));
        assert!(!format!("{:?}", state()).contains("geheim"));
    }

    #[test]
    fn a_socket_is_named_by_address_interface_port_and_namespace() {
        assert_eq!(state().sockets[0].key.to_string(), "[fe80::a9fe:a9fe%ns-1]:80 in qdhcp-1");
    }
}
