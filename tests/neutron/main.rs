//! A real Neutron drives agents: its server, broker, database, DHCP and L3 agents, and the agent that Overlane replaces.

/// Expects behaviours of Neutron's own agent: what it does not show is no behaviour that Overlane must have.
macro_rules! expect_of_agents {
    ($($behaviour:ident)*) => {
        mod linux_bridge {
            $(#[test]
            fn $behaviour() -> anyhow::Result<()> {
                super::$behaviour(overlane_tests::neutron::Agent::LinuxBridge)
            })*
        }
    };
}

mod broker;
mod connectivity;
mod migration;
mod ports;
mod restarts;
mod routers;
mod security_groups;
mod takeover;
