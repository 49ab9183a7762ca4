//! What is worth a line in the log.

use std::{fmt, time::Duration};

use uuid::Uuid;

use crate::model::{NetworkId, PortId};

/// Something that an operator wants to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The server has told what a tap is.
    Known {
        /// The tap.
        tap: String,
        /// Its port.
        port: PortId,
        /// Its network.
        network: NetworkId,
    },
    /// The server has been told that a port works.
    Up {
        /// The port.
        port: PortId,
        /// Its network, if it is still here.
        network: Option<NetworkId>,
        /// How long after its tap appeared.
        after: Option<Duration>,
    },
    /// The server has been told that a port does not work any more.
    Down {
        /// The port.
        port: PortId,
        /// Its network, as far as it is known.
        network: Option<NetworkId>,
    },
    /// The server has not taken note of how a port is, and is told again.
    Untold {
        /// The port.
        port: PortId,
        /// Whether it works.
        is_up: bool,
        /// Why not.
        reason: String,
    },
    /// A tap has gone.
    TapGone {
        /// The tap.
        tap: String,
        /// Its port.
        port: PortId,
        /// Its network, as far as it is known.
        network: Option<NetworkId>,
    },
    /// A port is asked to be something else than before.
    Changed {
        /// The port.
        port: PortId,
        /// Its network.
        network: NetworkId,
    },
    /// A tap is not connected.
    NotHere {
        /// The tap.
        tap: String,
        /// Why.
        reason: String,
    },
    /// A port has another trunk than before, or one with other subports.
    Trunk {
        /// The port.
        port: PortId,
        /// The trunk.
        trunk: Uuid,
        /// How many subports it has; `None` when the port has the trunk no more.
        sub_ports: Option<usize>,
    },
    /// The server has been told how a trunk is.
    TrunkStatus {
        /// The trunk.
        trunk: Uuid,
        /// `ACTIVE` or `DEGRADED`.
        status: &'static str,
    },
    /// The server cannot bind a subport.
    NotBound {
        /// The subport.
        port: PortId,
        /// Its trunk.
        trunk: Uuid,
    },
    /// The server cannot say which trunks there are.
    NoTrunks {
        /// Why.
        reason: String,
    },
    /// A part of what the server says is not understood, and left out.
    NotUnderstood {
        /// Which, and why.
        what: String,
    },
    /// The server cannot tell a QoS policy: its ports work without it until it can.
    WithoutPolicy {
        /// The policy.
        policy: Uuid,
        /// Why.
        reason: String,
    },
    /// A question has failed, and is asked again.
    Failed {
        /// Which.
        question: String,
        /// Why.
        reason: String,
    },
}

impl News {
    /// Whether an operator should do something about it.
    pub const fn is_trouble(&self) -> bool {
        match self {
            Self::NotHere { .. }
            | Self::Untold { .. }
            | Self::NotUnderstood { .. }
            | Self::Failed { .. }
            | Self::NoTrunks { .. }
            | Self::NotBound { .. }
            | Self::WithoutPolicy { .. } => true,
            // Some of its subports have no device; why, the agent's obstacles say.
            Self::TrunkStatus { status, .. } => !status.eq_ignore_ascii_case("ACTIVE"),
            Self::Known { .. }
            | Self::Up { .. }
            | Self::Down { .. }
            | Self::TapGone { .. }
            | Self::Changed { .. }
            | Self::Trunk { .. } => false,
        }
    }

    /// Whether another line says the same later, or more.
    pub const fn is_detail(&self) -> bool {
        matches!(self, Self::Known { .. })
    }

    /// The port that it is about.
    pub const fn port(&self) -> Option<PortId> {
        match self {
            Self::Known { port, .. }
            | Self::Up { port, .. }
            | Self::Down { port, .. }
            | Self::Untold { port, .. }
            | Self::TapGone { port, .. }
            | Self::Changed { port, .. }
            | Self::Trunk { port, .. }
            | Self::NotBound { port, .. } => Some(*port),
            Self::NotHere { .. }
            | Self::NotUnderstood { .. }
            | Self::Failed { .. }
            | Self::NoTrunks { .. }
            | Self::TrunkStatus { .. }
            | Self::WithoutPolicy { .. } => None,
        }
    }
}

/// The end of a sentence about a port.
struct InNetwork(Option<NetworkId>);

impl fmt::Display for InNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |network| write!(f, ", in network {network}"))
    }
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known { tap, port, network } => write!(f, "{tap} is port {port} of network {network}"),
            Self::Up { port, network, after } => {
                write!(f, "port {port} is up{}", InNetwork(*network))?;
                match after {
                    Some(after) => write!(f, ", {} ms after its tap appeared", after.as_millis()),
                    None => Ok(()),
                }
            }
            Self::Down { port, network } => write!(f, "port {port} is down{}", InNetwork(*network)),
            Self::Untold { port, is_up, reason } => {
                let status = if *is_up { "up" } else { "down" };
                write!(f, "the server could not be told that port {port} is {status}, and is told again: {reason}")
            }
            Self::TapGone { tap, port, network } => {
                write!(f, "{tap} has gone, and with it port {port}{}", InNetwork(*network))
            }
            Self::Changed { port, network } => write!(f, "port {port} is different now{}", InNetwork(Some(*network))),
            Self::NotHere { tap, reason } => write!(f, "{tap} is not connected: {reason}"),
            Self::Trunk { port, trunk, sub_ports: Some(count) } => {
                write!(f, "port {port} has trunk {trunk} with {count} subports")
            }
            Self::Trunk { port, trunk, sub_ports: None } => write!(f, "port {port} has trunk {trunk} no more"),
            Self::TrunkStatus { trunk, status } => write!(f, "trunk {trunk} is {status}"),
            Self::NotBound { port, trunk } => write!(
                f,
                "the server cannot bind subport {port} of trunk {trunk} to this host, and its log says why; if it should: \
                 openstack port show, and look at binding_vif_type"
            ),
            Self::NoTrunks { reason } => write!(
                f,
                "the server cannot say which trunks there are, so ports get no new subports until it is another one; if it should: \
                 it needs trunk among its service_plugins: {reason}"
            ),
            Self::NotUnderstood { what } => write!(f, "the server says something that is not understood: {what}"),
            Self::WithoutPolicy { policy, reason } => write!(
                f,
                "ports with QoS policy {policy} work without its limits and marks until the server tells what it asks for: {reason}"
            ),
            Self::Failed { question, reason } => write!(f, "could not {question}, will try again: {reason}"),
        }
    }
}
