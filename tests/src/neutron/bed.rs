//! What most tests start from: a network, and a machine on either of two hosts.

use anyhow::Result;
use serde_json::{Value, json};

use super::{Agent, Cloud, Network};
use crate::lab::{Machine, Port};

/// The host that the other machine is on; its agent is Neutron's own.
pub const PEER: &str = "bridge2";

/// A machine of the agent under test, on the left, and one of Neutron's own agent, on the right.
pub struct Bed<'cloud> {
    /// The cloud.
    pub cloud: &'cloud Cloud,
    /// What they share.
    pub network: Network,
    /// The left one's and the right one's.
    pub ports: [Port; 2],
    /// The left and the right one.
    pub machines: [Machine; 2],
}

impl<'cloud> Bed<'cloud> {
    /// Boots both. The left one is on the host with the `subject`.
    ///
    /// # Errors
    /// When a port does not become ACTIVE in time.
    pub fn of(cloud: &'cloud Cloud, subject: Agent) -> Result<Self> {
        Self::with(cloud, subject, &json!({}))
    }

    /// As `of`, with more fields for both ports.
    ///
    /// # Errors
    /// As for `of`.
    pub fn with(cloud: &'cloud Cloud, subject: Agent, fields: &Value) -> Result<Self> {
        let network = cloud.network(&json!({}))?;
        let ports = [cloud.port(&network, host_of(subject), fields)?, cloud.port(&network, PEER, fields)?];
        let machines = [cloud.plug(&network, &ports[0])?, cloud.plug(&network, &ports[1])?];
        ports.iter().try_for_each(|port| cloud.wait_for_status(port, "ACTIVE"))?;
        Ok(Self { cloud, network, ports, machines })
    }

    /// Waits until both machines reach each other, by IPv4 and IPv6.
    ///
    /// # Errors
    /// When they do not in time.
    pub fn wait_until_connected(&self) -> Result<()> {
        let ([left, right], [left_port, right_port]) = (&self.machines, &self.ports);
        for (from, to) in [(left, right_port), (right, left_port)] {
            from.wait_for(to.ipv4())?;
            from.wait_for(to.ipv6())?;
        }
        Ok(())
    }

    /// The machine of the agent under test.
    pub fn left(&self) -> &Machine {
        &self.machines[0]
    }

    /// The machine of Neutron's own agent.
    pub fn right(&self) -> &Machine {
        &self.machines[1]
    }

    /// The host of the agent under test.
    pub fn host(&self) -> &str {
        &self.ports[0].host
    }
}

/// The host of the shared cloud that an agent is on.
///
/// # Panics
/// When the agent does not connect ports: a mistake in the test.
pub fn host_of(subject: Agent) -> &'static str {
    match subject {
        Agent::LinuxBridge => "bridge1",
        Agent::Overlane => "lane1",
        Agent::Dhcp | Agent::L3 => panic!("{subject:?} connects no ports"),
    }
}
