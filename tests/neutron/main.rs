//! A real Neutron drives agents: its server, broker, database, DHCP and L3 agents, and the agent that Overlane replaces.

/// Expects behaviours of Overlane, and of the agent that it replaces: what that one does not show is not what a cloud is used to.
macro_rules! expect_of_agents {
    ($($behaviour:ident)*) => {
        mod linux_bridge {
            $(#[test]
            fn $behaviour() -> anyhow::Result<()> {
                super::$behaviour(overlane_tests::neutron::Agent::LinuxBridge)
            })*
        }

        mod overlane {
            $(#[test]
            fn $behaviour() -> anyhow::Result<()> {
                super::$behaviour(overlane_tests::neutron::Agent::Overlane)
            })*
        }
    };
}

mod broker;
mod connectivity;
mod messaging;
mod migration;
mod ports;
mod qos;
mod restarts;
mod routers;
mod security_groups;
mod takeover;
