//! Hosts as network namespaces, real agents, real packets.

mod adoption;
mod bad_input;
mod connectivity;
mod demo;
mod guard;
mod host_life;
mod interop;
mod lifecycle;
mod offload;
mod physical;
mod port_security;
mod security_groups;
mod takeover;
mod trouble;
mod underlay;
mod vlan;
mod vlan_frames;
