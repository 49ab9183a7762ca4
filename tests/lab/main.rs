//! Hosts as network namespaces, real agents, real packets.

mod adoption;
mod bad_input;
mod compute_taps;
mod connectivity;
mod demo;
mod faults;
mod full_maps;
mod guard;
mod host_life;
mod interop;
mod iptables;
mod lifecycle;
mod multicast;
mod offload;
mod physical;
mod port_security;
mod qos;
mod security_groups;
mod service;
mod takeover;
mod trouble;
mod trunks;
mod underlay;
mod vlan;
mod vlan_frames;
