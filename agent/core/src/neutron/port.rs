//! A port of this host, from whatever message told of it.

use std::net::IpAddr;

use ipnet::IpNet;
use uuid::Uuid;

use super::messages::{AllowedAddressPair, MessageError, devices::BoundDevice, objects, ports::ApiPort};
use crate::model::{Mac, NetworkId, Segment};

/// Owners of ports that are the network's own, which nothing filters.
const NETWORK_OWNERS: &str = "network:";
/// Owners of ports that route: `network:router_interface`, `network:router_gateway` and their relatives.
const ROUTER_OWNERS: &str = "network:router";
/// The owner of a router's port that is on all hosts of the router, and in use on one (`neutron/db/l3_hamode_db.py`).
const REPLICATED_OWNER: &str = "network:ha_router_replicated_interface";
/// The owner of ports by which routers are connected to the outside. Those of a router with a standby have this owner, too.
const GATEWAY_OWNER: &str = "network:router_gateway";
/// Owners whose ports are bound to one host at a time.
const COMPUTE_OWNERS: &str = "compute:";
/// The owner of ports that are behind the tap of another port, and go where that goes.
const SUB_PORT_OWNER: &str = "trunk:subport";

/// How ports are bound that no driver of the server would bind.
const BINDING_FAILED: &str = "binding_failed";

/// What the server says of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its network.
    pub network: NetworkId,
    /// What carries the network to this host.
    pub segment: Segment,
    /// The guest's MAC address.
    pub mac: Mac,
    /// Whether it is switched on.
    pub admin_state_up: bool,
    /// Its fixed IPs.
    pub addresses: Vec<IpAddr>,
    /// Such as `compute:nova` or `network:dhcp`.
    pub device_owner: String,
    /// What else it may send as.
    pub pairs: Vec<(Mac, IpNet)>,
    /// Neutron's `port_security_enabled`.
    pub port_security: bool,
    /// Its own QoS policy.
    pub qos_policy: Option<Uuid>,
    /// Whether it is on other hosts as well, and may be in use there.
    pub moves: bool,
    /// Whether its machine completes its own checksums (in the profile of its binding).
    pub from_port_xdp: bool,
}

impl Port {
    /// Whether it is held to its addresses and groups.
    pub fn is_secured(&self) -> bool {
        self.port_security && !self.device_owner.starts_with(NETWORK_OWNERS)
    }

    /// Whether it is a trunk's subport.
    pub fn is_sub_port(&self) -> bool {
        self.device_owner == SUB_PORT_OWNER
    }

    /// Whether it leads a router outside.
    pub fn is_gateway(&self) -> bool {
        self.device_owner == GATEWAY_OWNER
    }

    /// Whether it is a router's.
    pub fn is_router(&self) -> bool {
        self.device_owner.starts_with(ROUTER_OWNERS)
    }
}

impl TryFrom<&BoundDevice> for Port {
    type Error = MessageError;

    fn try_from(device: &BoundDevice) -> Result<Self, MessageError> {
        Ok(Self {
            network: device.network_id,
            segment: device.segment()?,
            mac: device.mac_address,
            admin_state_up: device.admin_state_up,
            addresses: device.fixed_ips.iter().map(|ip| ip.ip_address).collect(),
            device_owner: device.device_owner.clone(),
            pairs: device.allowed_address_pairs.iter().map(pair).collect(),
            port_security: device.port_security_enabled,
            qos_policy: device.qos_policy_id,
            // Details are of the port, not of one of its hosts: whether a gateway is in use here they do not say.
            moves: device.device_owner == REPLICATED_OWNER,
            from_port_xdp: device.profile.from_port_xdp,
        })
    }
}

impl ApiPort {
    /// Whether it is a trunk's subport.
    pub fn is_sub_port(&self) -> bool {
        self.device_owner == SUB_PORT_OWNER
    }
}

fn pair(pair: &AllowedAddressPair) -> (Mac, IpNet) {
    (pair.mac_address, pair.ip_address)
}

/// What an object of the server's comes to on one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// The port works here.
    Here(Box<Port>),
    /// It is bound to no segment, or works on another host.
    Elsewhere,
    /// The server has tried to bind it to this host, and could not.
    Refused,
}

impl Binding {
    /// What a port that was pulled is to `host`.
    ///
    /// # Errors
    /// [`MessageError`] when this agent cannot carry its segment.
    pub fn on(host: &str, object: &objects::Port) -> Result<Self, MessageError> {
        let is_refused = |binding: &objects::PortBinding| binding.host == host && binding.vif_type == BINDING_FAILED;
        if object.bindings.iter().any(|binding| is_refused(&binding.data)) {
            return Ok(Self::Refused);
        }
        let is_bound_here =
            object.bindings.iter().any(|binding| binding.data.host == host && binding.data.status == "ACTIVE");
        let works_on_one_host =
            object.device_owner.starts_with(COMPUTE_OWNERS) || object.device_owner == SUB_PORT_OWNER;
        if works_on_one_host && !is_bound_here {
            return Ok(Self::Elsewhere);
        }
        // The port of a router with a standby is bound to one host, and has taps on both.
        let Some(segment) = object.segment_on(host).or_else(|| object.any_segment()) else {
            return Ok(Self::Elsewhere);
        };
        Ok(Self::Here(Box::new(Port {
            network: object.network_id,
            segment: segment.segment()?,
            mac: object.mac_address,
            admin_state_up: object.admin_state_up,
            addresses: object.fixed_ips.iter().map(|ip| ip.data.ip_address).collect(),
            device_owner: object.device_owner.clone(),
            pairs: object.allowed_address_pairs.iter().map(|object| pair(&object.data)).collect(),
            port_security: object.is_secured(),
            qos_policy: object.qos_policy_id,
            moves: object.device_owner == REPLICATED_OWNER || (object.device_owner == GATEWAY_OWNER && !is_bound_here),
            from_port_xdp: object
                .bindings
                .iter()
                .any(|binding| binding.data.host == host && binding.data.profile.from_port_xdp),
        })))
    }
}
