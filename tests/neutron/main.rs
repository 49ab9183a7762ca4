//! A real Neutron drives agents: its server, broker, database, DHCP and L3 agents, and the agent that Overlane replaces.

mod broker;
mod cloud;
mod messaging;
