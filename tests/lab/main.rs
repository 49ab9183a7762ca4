//! Hosts as network namespaces, real agents, real packets.

mod adoption;
mod bad_input;
mod connectivity;
mod demo;
mod host_life;
mod interop;
mod lifecycle;
mod multicast;
mod offload;
mod physical;
mod trouble;
mod underlay;
mod vlan;
mod vlan_frames;
