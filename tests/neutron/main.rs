//! A real Neutron drives agents: its server, broker, database, DHCP and L3 agents, and the agent that Overlane replaces.

/// Expects behaviours of Overlane, next to a host with Neutron's own agent.
macro_rules! expect_of_overlane {
    ($($behaviour:ident)*) => {
        mod overlane {
            $(#[test]
            fn $behaviour() -> anyhow::Result<()> {
                super::$behaviour(overlane_tests::neutron::Agent::Overlane)
            })*
        }
    };
}

/// Expects behaviours of both: what the agent that is replaced does not show is not what a cloud is used to. All behaviours of
/// this program have been seen with it; it misses a change now and then, so only these are expected of it every time.
macro_rules! expect_of_both_agents {
    ($($behaviour:ident)*) => {
        expect_of_overlane! { $($behaviour)* }

        mod linux_bridge {
            $(#[test]
            fn $behaviour() -> anyhow::Result<()> {
                super::$behaviour(overlane_tests::neutron::Agent::LinuxBridge)
            })*
        }
    };
}

mod broker;
mod configuration;
mod connectivity;
mod events;
mod messaging;
mod migration;
mod ports;
mod qos;
mod refused_ports;
mod replicated_routers;
mod restarts;
mod routers;
mod security_groups;
mod strange_servers;
mod takeover;
mod trunks;
mod vlan;
